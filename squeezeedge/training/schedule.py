"""What changes from step to step: learning rate and image size, as functions of the step alone.

Nothing here has a state, so a run that resumes from a checkpoint continues as if it had not been stopped.
"""

from __future__ import annotations

import math

from squeezeedge.training.recipe import Recipe, Schedule

__all__ = ["image_size", "learning_rate_factor"]

# Of one cycle, as torch.optim.lr_scheduler.OneCycleLR has them.
RISE = 0.3
START = 1 / 25
END = START / 1e4

GROWTH = 2 / 3
SIZE_STEP = 16


def learning_rate_factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate of a step, relative to the recipe's.

    Args:
        schedule: its shape.
        step: from 0 to ``steps_per_epoch * epochs - 1``.
        steps_per_epoch: steps in which each image is seen once.
        epochs: of the whole run.
    """
    total = steps_per_epoch * epochs
    if schedule.name == "one_cycle":
        peak, last = RISE * total - 1, total - 1
        if step <= peak:
            return _cosine(START, 1, step / peak)
        return _cosine(1, END, (step - peak) / (last - peak))
    warmup = schedule.warmup * steps_per_epoch
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    if schedule.name == "constant":
        return 1.0
    return _cosine(1, 0, (step - warmup) / (total - warmup))


def image_size(recipe: Recipe, epoch: int) -> int:
    """Height and width in pixels of the images of an epoch, counted from 0."""
    size, first = recipe.input.size, recipe.input.first_size or recipe.input.size
    growing = int(GROWTH * recipe.epochs)
    if epoch >= growing:
        return size
    return first + (size - first) * epoch // growing // SIZE_STEP * SIZE_STEP


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
