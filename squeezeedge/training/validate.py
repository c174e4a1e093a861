"""Run a float network, and measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.unreadable import Unreadable
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.float.run import images_together, not_finite
from squeezeedge.training.distributed import World

__all__ = ["Score", "certainty", "logits", "measure"]

BATCH = 64
"""Images that an accelerator runs at a time."""


@dataclass(frozen=True)
class Score:
    """Accuracy on some images.

    Attributes:
        images: how many.
        top1: percent with the right class first.
        top5: percent with it among the first five.
    """

    images: int
    top1: float
    top5: float


def logits(module: Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The network's answers in evaluation mode, a few images at a time, on the device where its weights are.

    A processor takes few enough images for its caches, in channels-last order: several times faster than 64 in torch's.

    Args:
        module: normalized float32 [N, 3, H, W] -> float32 [N, classes]; its mode is as before afterwards.
        images: uint8 [N, H, W, 3], preprocessed.
        preprocessing: how to normalize them.

    Returns:
        float32 [N, classes].

    Raises:
        SqueezeEdgeError: they are not finite; names the first layer whose values are not.
    """
    training = module.training
    weights = next(module.parameters(), None)
    device = torch.device("cpu") if weights is None else weights.device
    on_cpu = device.type == "cpu"
    together = images_together(*images.shape[1:3]) if on_cpu else BATCH
    order = torch.channels_last if on_cpu else torch.contiguous_format
    module.eval()
    try:
        with torch.inference_mode():
            answers: list[NDArray[np.float32]] = []
            for start in range(0, max(1, len(images)), together):
                x = torch.from_numpy(preprocessing.normalize(images[start : start + together]))
                x = x.to(device, memory_format=order)
                answers.append(module(x).cpu().numpy())
                if not np.isfinite(answers[-1]).all():
                    raise SqueezeEdgeError(not_finite(_first_not_finite(module, x)))
    finally:
        module.train(training)
    return np.concatenate(answers)


def certainty(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean probability, in percent, that logits, float32 [N, classes], give to the right classes, int64 [N].

    It separates two similar networks with far fewer images than counting right answers does.
    """
    given = torch.softmax(torch.from_numpy(answers), 1)[torch.arange(len(labels)), torch.from_numpy(labels)]
    return 100 * float(given.mean())


def _first_not_finite(module: Module, x: Tensor) -> str:
    """Path of the first layer whose output is not finite."""
    found: list[str] = []

    def look(path: str, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(path)

    layers = [(path, layer) for path, layer in module.named_modules() if path and not [*layer.children()]]
    hooks = [layer.register_forward_hook(lambda _, __, output, path=path: look(path, output)) for path, layer in layers]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return next(iter(found), type(module).__name__)


def measure(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    batches: Callable[[NDArray[np.int64]], Iterator[NDArray[np.uint8]]],
    labels: NDArray[np.int64],
    world: World | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
    unreadable: Unreadable | None = None,
) -> Score:
    """Measure accuracy; each process takes its share of the images, the result is that of all of them.

    Equal logits rank by lower class.

    Args:
        answer: uint8 [b, H, W, 3] -> logits, float32 [b, classes].
        batches: indices, int64 [n] -> those images in order, uint8 [b, H, W, 3].
        labels: int64 [N].
        world: the processes; ``None``: this one alone.
        on_progress: called with the number of images done since the last call.
        unreadable: records images that the batches of this process lack; their labels are skipped.

    Raises:
        SqueezeEdgeError: more than half of all images cannot be read.
    """
    world = world or World()
    mine = np.arange(world.rank, len(labels), world.size)
    first = five = done = 0
    for batch in batches(mine) if len(mine) else ():
        ranked = np.argsort(-answer(batch), axis=1, kind="stable")
        places = mine[done : done + len(batch)] if unreadable is None else mine[unreadable.places(done, len(batch))]
        right = ranked[:, :5] == labels[places, None]
        first, five = first + int(right[:, 0].sum()), five + int(right.sum())
        done += len(batch)
        on_progress(len(batch))
    first_of_all, five_of_all, count = world.total([first, five, done])
    if unreadable is not None:
        unreadable.check(len(labels) - int(count))
    return Score(int(count), 100 * first_of_all / count, 100 * five_of_all / count)
