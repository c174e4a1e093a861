"""Training and test images, decoded and varied in worker processes in an order that follows from the seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from squeezeedge.calib.datasets import Dataset, check_labels
from squeezeedge.calib.decode import decode
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.training.augment import RandomArea, augment
from squeezeedge.training.distributed import World
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.schedule import image_size
from squeezeedge.training.workers import Workers

__all__ = [
    "Batch",
    "BatchWorkers",
    "Images",
    "TestImages",
    "TrainingImages",
    "batch_workers",
    "batches",
    "default_workers",
    "load_images",
]

MAX_CACHE_BYTES = 16 << 30
MAX_WORKERS = 8
TEST_BATCH = 64
EXAMPLES = 256


class Batch(NamedTuple):
    """The images of one step that fall to one process.

    Attributes:
        images: uint8 [n, 3, H, W].
        labels: int64 [n].
        size: height and width in pixels at which the network is to see them.
        seed: of everything random in this step.
        total: images of this step in all processes.
    """

    images: Tensor
    labels: Tensor
    size: int
    seed: int
    total: int


@dataclass(frozen=True)
class _Request:
    """What a batch is made of."""

    indices: NDArray[np.int64]
    size: int
    seed: int
    total: int


BatchWorkers: TypeAlias = Workers[_Request, tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Processes that make batches: their images and labels."""


class TrainingImages:
    """Makes batches of a data set.

    Args:
        dataset: labelled images.
        recipe: how to prepare and to vary them.
        on_progress: called with the number of images decoded into memory since the last call.

    Raises:
        UsageError: they are too many to keep in memory.
        SqueezeEdgeError: an image is damaged.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, on_progress: Callable[[int], None] = lambda done: None
    ) -> None:
        assert dataset.labels is not None
        self.labels = dataset.labels
        self.recipe = recipe
        self.images = dataset.images
        side = recipe.input.cache
        self.cached = side > 0
        if self.cached:
            needed = len(dataset) * side * side * 3
            if needed > MAX_CACHE_BYTES:
                raise UsageError(f"{dataset.name}: keeping all images takes {needed >> 30} GiB; set input.cache to 0")
            self.images = dataset.load(self._preprocessing(side), np.arange(len(dataset)), on_progress)

    def __len__(self) -> int:
        return len(self.labels)

    def examples(self) -> Batch:
        """Some images, chosen and varied as the recipe's seed says; the same for all processes.

        Raises:
            SqueezeEdgeError: one is damaged.
        """
        random = np.random.default_rng(self.recipe.seed)
        chosen = random.permutation(len(self))[:EXAMPLES]
        request = _Request(chosen, self.recipe.input.size, self.recipe.seed, len(chosen))
        return _batch(request, *self.make(request))

    def make(self, request: _Request) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The images, uint8 [n, H, W, 3], and the labels of one batch.

        Raises:
            SqueezeEdgeError: an image is damaged.
        """
        pixels = torch.from_numpy(self._pixels(request)).permute(0, 3, 1, 2)
        images = augment(pixels, self.recipe.augmentation, request.seed)
        return images.permute(0, 2, 3, 1).contiguous().numpy(), self.labels[request.indices]

    def _pixels(self, request: _Request) -> NDArray[np.uint8]:
        area = self.recipe.augmentation.area
        if self.cached and not area:
            assert isinstance(self.images, np.ndarray)
            return self.images[request.indices]
        side = self.recipe.input.cache or request.size
        pixels = np.empty((len(request.indices), side, side, 3), np.uint8)
        prepare: Callable[[Image.Image], NDArray[np.uint8]] = self._preprocessing(side)
        if area:
            whole = replace(self._preprocessing(side), resize=None)
            prepare = RandomArea(whole, area, np.random.default_rng(request.seed))
        for position, index in enumerate(request.indices.tolist()):
            pixels[position] = decode(self.images[index], prepare)
        return pixels

    def _preprocessing(self, side: int) -> Preprocessing:
        """The recipe's preprocessing for another size; the crop keeps its share of the image."""
        options = self.recipe.input
        resize = round(options.resize * side / options.size) or None
        return replace(options.preprocessing, size=(side, side), resize=resize)


@dataclass(frozen=True)
class TestImages:
    """Labelled images to measure accuracy on.

    Attributes:
        dataset: where they are.
        preprocessing: image -> input.
        pixels: uint8 [N, H, W, 3] where they are kept in memory.
    """

    __test__ = False  # no test case, whatever pytest thinks of the name

    dataset: Dataset
    preprocessing: Preprocessing
    pixels: NDArray[np.uint8] | None = None

    def batches(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Some of them in order: uint8 [b, H, W, 3]."""
        if self.pixels is None:
            yield from self.dataset.batches(self.preprocessing, TEST_BATCH, indices)
            return
        for start in range(0, len(indices), TEST_BATCH):
            yield self.pixels[indices[start : start + TEST_BATCH]]


@dataclass(frozen=True)
class Images:
    """What a run learns and what it is measured on."""

    training: TrainingImages
    test: TestImages
    classes: tuple[str, ...]


def load_images(
    recipe: Recipe, learned: Dataset, tested: Dataset, on_progress: Callable[[int], None] = lambda done: None
) -> Images:
    """Check two data sets and decode what the recipe keeps in memory.

    Args:
        recipe: how to prepare them.
        learned: images to learn.
        tested: images to measure accuracy on.
        on_progress: called with the number of images decoded since the last call.

    Raises:
        UsageError: one has no labels, or too many images for the memory.
        SqueezeEdgeError: their classes differ, or an image is damaged.
    """
    for dataset in (learned, tested):
        if dataset.labels is None:
            raise UsageError(f"{dataset.name}: has no labels (class = subfolder) to learn from")
    count = len(learned.classes) or int(learned.labels.max()) + 1  # type: ignore[union-attr]
    classes = learned.classes or tuple(map(str, range(count)))
    check_labels(learned, count)
    check_labels(tested, count)
    if learned.classes and tested.classes and learned.classes != tested.classes:
        raise SqueezeEdgeError(
            f"{tested.name}: its classes are not those of {learned.name}: {_first_difference(learned, tested)}"
        )
    test = TestImages(tested, recipe.input.preprocessing)
    if recipe.input.cache and len(tested) * recipe.input.size**2 * 3 <= MAX_CACHE_BYTES:
        pixels = tested.load(test.preprocessing, np.arange(len(tested)), on_progress)
        test = TestImages(tested, test.preprocessing, pixels)
    return Images(TrainingImages(learned, recipe, on_progress), test, classes)


def _requests(images: TrainingImages, world: World, epoch: int, first: int) -> Iterator[_Request]:
    """The batches of one epoch for one process, in an order drawn from the recipe's seed and the epoch."""
    recipe = images.recipe
    random = np.random.default_rng([recipe.seed, epoch])
    order = random.permutation(len(images))
    starts = range(0, len(order), recipe.batch_size)
    seeds = random.integers(1 << 63, size=(len(starts), world.size))
    size = image_size(recipe, epoch)
    for step, start in list(enumerate(starts))[first:]:
        chosen = order[start : start + recipe.batch_size]
        mine = chosen[world.rank :: world.size]
        yield _Request(mine, size, int(seeds[step, world.rank]), len(chosen))


def default_workers(images: TrainingImages, world: World) -> int:
    """The default number of worker processes: none for images in memory, else one for each processor, at most 8."""
    if images.cached:
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors // world.local_size, MAX_WORKERS))


def batch_workers(
    images: TrainingImages, processes: int, on_death: Callable[[str], None] = lambda text: None
) -> BatchWorkers:
    """Processes that make batches.

    Args:
        images: where the batches come from.
        processes: how many; 0 makes the batches in this process. The batches are the same.
        on_death: told that one died and is replaced.
    """
    return Workers(_InWorker(images) if processes else images.make, processes, on_death)


class _InWorker:
    """Makes batches in a worker process, which uses one processor."""

    def __init__(self, images: TrainingImages) -> None:
        self.images = images

    def __call__(self, request: _Request) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        torch.set_num_threads(1)
        return self.images.make(request)


def batches(images: TrainingImages, world: World, workers: BatchWorkers) -> Callable[[int, int], Iterator[Batch]]:
    """The batches of any epoch.

    Args:
        images: where the batches come from.
        world: the processes that share them.
        workers: make them.

    Returns:
        ``(epoch, first step) -> batches`` of that epoch from that step on, both from 0. It raises
        :class:`SqueezeEdgeError` where an image is damaged or workers die again and again.
    """

    def epoch_batches(epoch: int, first: int) -> Iterator[Batch]:
        requests = list(_requests(images, world, epoch, first))
        for request, made in zip(requests, workers.answers(requests), strict=True):
            batch = _batch(request, *made)
            yield batch._replace(images=batch.images.pin_memory()) if world.device.type == "cuda" else batch

    return epoch_batches


def _batch(request: _Request, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Batch:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Batch(pixels, torch.from_numpy(labels), request.size, request.seed, request.total)


def _first_difference(learned: Dataset, tested: Dataset) -> str:
    index = next(i for i, (a, b) in enumerate(zip(learned.classes, tested.classes, strict=True)) if a != b)
    return f"class {index} is {tested.classes[index]!r} instead of {learned.classes[index]!r}"
