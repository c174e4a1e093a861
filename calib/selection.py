"""Which images are calibrated on, and which are evaluated on: never the same ones by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.datasets import Dataset, calibration_split, check_labels
from squeezeedge.calib.decode import AnyImage, OnUnreadable
from squeezeedge.calib.matching import with_classes_of
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.sources import ImageSource, open_images
from squeezeedge.calib.unreadable import Unreadable, remark
from squeezeedge.errors import UsageError

__all__ = ["Selection", "calibration_images", "evaluation_images"]

BATCH = 64


@dataclass(frozen=True, eq=False)
class Selection:
    """Some images of a data set.

    Attributes:
        dataset: where they are.
        indices: int64 [n], which.
        remarks: what people should know of the choice.
        unreadable: why chosen images that cannot be read are left out, one text each.
        spare: int64 [m], which images replace those that cannot be read, in this order.
        replaced: how many images replace others.
    """

    dataset: Dataset
    indices: NDArray[np.int64]
    remarks: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    spare: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    replaced: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """int64 [n], or ``None`` if unlabelled."""
        return None if self.dataset.labels is None else self.dataset.labels[self.indices]

    def images(self) -> Iterator[AnyImage]:
        """Each image, not yet decoded."""
        return (self.dataset.images[index] for index in self.indices.tolist())

    def load(
        self, preprocessing: Preprocessing, on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.uint8]:
        """All of them: uint8 [n, H, W, 3].

        Args:
            preprocessing: applied to each.
            on_progress: called with the number of images done since the last call.

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        return self.dataset.load(preprocessing, self.indices, on_progress)

    def readable(
        self,
        preprocessing: Preprocessing,
        on_progress: Callable[[int], None] = lambda done: None,
        *,
        strict: bool = False,
    ) -> tuple[Selection, NDArray[np.uint8]]:
        """Those of them that can be read, or spare ones in their place, and their pixels, uint8 [n, H, W, 3].

        Args:
            preprocessing: applied to each.
            on_progress: called with the number of images done since the last call.
            strict: an image that cannot be read is an error.

        Raises:
            SqueezeEdgeError: the only image, or more than half, cannot be read; names the first.
        """
        unreadable, asked, spare = self.watch(strict=strict), self.indices, self.spare
        pixels = self.dataset.load(preprocessing, asked, on_progress, unreadable)
        while len(spare) and len(pixels) < len(self):
            more, spare = np.split(spare, [len(self) - len(pixels)])
            unreadable.go_on(len(more))
            pixels = np.concatenate([pixels, self.dataset.load(preprocessing, more, on_progress, unreadable)])
            asked = np.concatenate([asked, more])
        if len(asked) == len(self):
            return self.without(unreadable, len(pixels)), pixels
        kept = asked[unreadable.places(0, len(pixels))]
        order = np.argsort(kept)
        replaced = int(np.isin(kept, self.indices, invert=True).sum())
        found = replace(self, indices=kept[order], unreadable=tuple(unreadable.errors), spare=spare, replaced=replaced)
        return found, pixels[order]

    @property
    def loss(self) -> str:
        """One sentence on those that are left out, or nothing."""
        return remark(self.dataset.name, self.unreadable, len(self) + len(self.unreadable), self.replaced)

    def watch(self, *, strict: bool = False) -> Unreadable:
        """What takes note of those that cannot be read."""
        return Unreadable(self.dataset.name, len(self), strict=strict, spare=len(self.spare) > 0)

    def without(self, unreadable: Unreadable, count: int) -> Selection:
        """The ``count`` of them that can be read, once all have been asked for."""
        kept = self.indices[unreadable.places(0, count)]
        return replace(self, indices=kept, unreadable=(*self.unreadable, *unreadable.errors))

    def batches(
        self, preprocessing: Preprocessing, size: int = BATCH, on_unreadable: OnUnreadable | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Batch by batch: uint8 [b, H, W, 3], b at most ``size``; see :func:`squeezeedge.calib.decode.decode_batches`.

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        return self.dataset.batches(preprocessing, size, self.indices, on_unreadable)


def calibration_images(
    images: ImageSource | Selection,
    labels: Sequence[str] = (),
    *,
    count: int = 64,
    seed: int = 0,
    classes: Path | None = None,
) -> Selection:
    """Some images to calibrate on. If the data comes in parts, they come from the part to calibrate on, or to learn.

    Labels are not needed: if some images of the data have none, all labels are dropped.

    Args:
        images: in any form; a selection is taken as it is. Of an iterator, the first ``count`` are taken.
        labels: names of the network's classes, by which folders are known to be classes; empty if unknown.
        count: how many at most, drawn by the seed.
        seed: of the choice.
        classes: class list of the data.

    Raises:
        UsageError: no such data, or ``count`` is not positive.
        SqueezeEdgeError: it is empty or damaged.
    """
    if isinstance(images, Selection):
        return images
    if count < 1:
        raise UsageError(f"{count} calibration images are too few; at least 1 is needed")
    dataset = open_images(images, "calib", classes, at_most=count, labelled=False, names=labels)
    chosen, _ = calibration_split(len(dataset), min(count, len(dataset)), seed)
    spare = np.random.default_rng(seed).permutation(len(dataset))[len(chosen) :]  # the next ones of the same draw
    return Selection(dataset, chosen, dataset.remarks, spare=spare)


def evaluation_images(
    images: ImageSource | Selection,
    network_classes: int,
    labels: Sequence[str] = (),
    *,
    limit: int | None = None,
    seed: int = 0,
    classes: Path | None = None,
    without: Selection | None = None,
) -> Selection:
    """The images to evaluate on (of data in parts, the test part), with the network's class indices as labels.

    Args:
        images: in any form; of a selection, all.
        network_classes: number of classes of the network.
        labels: names of these in index order, by which the data's classes are found
            (:func:`squeezeedge.calib.matching.with_classes_of`); empty if unknown.
        limit: at most so many images, drawn by the seed.
        seed: of the choice.
        classes: class list of the data, in the order of the network's classes whatever these are called.
        without: images that are not evaluated on, such as those calibrated on; images of other data leave out none.

    Raises:
        UsageError: no such data, or no image is left.
        SqueezeEdgeError: it is empty or damaged, or its labels do not fit the network's classes.
    """
    if isinstance(images, Selection):
        dataset, remarks = with_classes_of(images.dataset, network_classes, labels)
        return replace(images, dataset=dataset, remarks=images.remarks or remarks)
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images: at least 1 is needed")
    dataset = open_images(images, None, classes, names=labels)
    if classes is not None and dataset.classes and labels:
        check_labels(dataset, network_classes)
        dataset = replace(dataset, classes=tuple(labels), keys=())
    dataset, remarks = with_classes_of(dataset, network_classes, labels)
    remarks = (*dataset.remarks, *remarks)
    indices = np.arange(len(dataset))
    if without is not None and _same_images(without.dataset, dataset):
        indices = np.setdiff1d(indices, without.indices)
        if not len(indices):
            raise UsageError(
                f"{dataset.name}: all its {len(dataset)} images are calibrated on, none is left to evaluate on; "
                "calibrate on fewer or on others"
            )
    if limit is not None and limit < len(indices):
        # the last images in the seed's order, which calibration would take last
        indices = indices[calibration_split(len(indices), len(indices) - limit, seed)[1]]
    return Selection(dataset, indices, remarks)


def _same_images(first: Dataset, second: Dataset) -> bool:
    if len(first) != len(second):
        return False
    return first.images is second.images or all(map(_same, first.images, second.images))


def _same(first: AnyImage, second: AnyImage) -> bool:
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.array_equal(first, second)
    return type(first) is type(second) and first == second
