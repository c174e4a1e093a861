"""A recipe and images so small that a run takes a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from squeezeedge.calib.datasets import Dataset
from squeezeedge.training.data import Images, load_images
from squeezeedge.training.recipe import Augmentation, Input, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    summary="tiny",
    network="squeezenet1_1",
    epochs=2,
    batch_size=6,
    input=Input("digits", size=24, cache=24),
    optimizer=Optimizer("sgd", 3e-3, 0.9, 1e-4),
    schedule=Schedule("cosine"),
    augmentation=Augmentation(rotation=5, flip=True),
    label_smoothing=0.05,
    seed=3,
)


def bright_or_dark(count: int, seed: int = 0) -> Dataset:
    """Images of two classes that brightness tells apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 100, (count, 24, 24, 3))
    images = (noise + 150 * labels[:, None, None, None]).astype(np.uint8)
    return Dataset("bright or dark", images, labels.astype(np.int64), ("dark", "bright"))


def images(recipe: Recipe = RECIPE, learned: int = 16, tested: int = 7) -> Images:
    return load_images(recipe, bright_or_dark(learned), bright_or_dark(tested, seed=1))


def changed(**values: Any) -> Recipe:  # noqa: ANN401  (a recipe's fields)
    """The recipe with other values."""
    return replace(RECIPE, **values)
