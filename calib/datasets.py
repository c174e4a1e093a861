"""Data sets: where images and labels come from, behind one interface.

``open_dataset`` takes an image folder (class = subfolder, or none), an uncompressed .tar of one, an .npz, CIFAR-10
(image folders or ``cifar-10-batches-py``), an ImageNet validation folder (WordNet ids as subfolders, or flat), or
``digits``. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.arrays import (
    CIFAR_BATCHES,
    DIGITS_SPLITS,
    Pixels,
    is_cifar_batches,
    read_cifar_batches,
    read_digits,
    read_npz,
)
from squeezeedge.calib.decode import AnyImage, decode_batches
from squeezeedge.calib.files import list_folder, list_tar
from squeezeedge.calib.labels import read_class_list
from squeezeedge.calib.layout import UndividedError, arrange
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError

__all__ = ["Dataset", "calibration_split", "check_labels", "hold_out", "open_dataset"]

LOAD_BATCH = 32
HELD_OUT = 0.2
"""Share of each class that is held out for testing of data without a test part."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and, where known, their classes.

    Attributes:
        name: for people.
        images: encoded images, RGB pixels (uint8 [h, w, 3]) or PIL images; or pixels uint8 [N, h, w, 3].
        labels: int64 [N], or ``None`` if unlabelled.
        classes: class names in index order; empty if unknown.
        keys: what the classes' folders are called, where a class list says so; else empty.
    """

    name: str
    images: Sequence[AnyImage] | NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def load(
        self,
        preprocessing: Preprocessing,
        indices: NDArray[np.int64],
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> NDArray[np.uint8]:
        """Decode some images into one array.

        Args:
            preprocessing: applied to each.
            indices: int64 [n], which and in which order.
            on_progress: called with the number of images done since the last call.

        Returns:
            uint8 [n, H, W, 3].

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        loaded = np.empty((len(indices), *preprocessing.size, 3), np.uint8)
        done = 0
        for batch in self.batches(preprocessing, LOAD_BATCH, indices):
            loaded[done : done + len(batch)] = batch
            done += len(batch)
            on_progress(len(batch))
        return loaded

    def batches(
        self, preprocessing: Preprocessing, batch_size: int, indices: NDArray[np.int64]
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode some images batch by batch, a few batches ahead: uint8 [b, H, W, 3].

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        return decode_batches(self.images, preprocessing, batch_size, indices)


def open_dataset(spec: str, split: str | None = None, classes: Path | None = None) -> Dataset:
    """Open a data set.

    Args:
        spec: ``digits``, or the path of a folder, .tar or .npz.
        split: "train", "test" or "calib" (the images to learn, where there are no others to calibrate on), for data
            that comes in such parts; ``None``: the test part if there are any, else everything.
        classes: class list that gives the folders' class indices; ``None``: one that lies in the folder or beside
            the data, else the sorted folder names.

    Raises:
        UndividedError: a split is asked for of data that has none.
        UsageError: there is no such data set or split, or the class list does not go with it.
        SqueezeEdgeError: it is empty or damaged, or some of its classes are not in the list.
    """
    path = Path(spec)
    if spec == "digits":
        return _from_pixels(spec, read_digits(_one_of(spec, split, DIGITS_SPLITS)), classes)
    if path.is_dir():
        if is_cifar_batches(path):
            return _from_pixels(spec, read_cifar_batches(path, _one_of(spec, split, CIFAR_BATCHES)), classes)
        return Dataset(spec, *arrange(path, list_folder(path), split, classes))
    if not path.exists():
        raise UsageError(f"{spec}: no such file or folder, and no embedded data set (`digits` is one)")
    if path.suffix.lower() == ".tar":
        return Dataset(spec, *arrange(path, list_tar(path), split, classes))
    if path.suffix.lower() == ".npz":
        if split is not None:
            raise UndividedError(f"{spec}: an .npz has no split {split!r}; give one file for each")
        return _from_pixels(spec, read_npz(path), classes)
    raise UsageError(f"{spec}: must be a folder, a .tar (decompressed) or an .npz")


def calibration_split(n: int, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``count`` of ``n`` images without replacement.

    Returns:
        The chosen indices and all others, int64, each sorted.
    """
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[:count]), np.sort(order[count:])


def hold_out(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Divide labelled images into those to learn and a fifth to test on, class by class.

    Of a class with two images or more at least one is on each side; a single one is learned. The seed decides.

    Returns:
        The images to learn and those to test on.

    Raises:
        UsageError: there are no labels, or no class has two images.
    """
    if dataset.labels is None:
        raise UsageError(f"{dataset.name}: has no labels (class = subfolder) to learn from")
    random = np.random.default_rng(seed)
    tested = np.zeros(len(dataset), np.bool_)
    for label in np.unique(dataset.labels).tolist():
        own = np.flatnonzero(dataset.labels == label)
        count = min(max(1, round(HELD_OUT * len(own))), len(own) - 1)
        tested[random.permutation(own)[:count]] = True
    if not tested.any():
        raise UsageError(f"{dataset.name}: has one image of each class, so that none can be held out; give `test_data`")
    return _part(dataset, ~tested, "to learn"), _part(dataset, tested, "held out")


def _part(dataset: Dataset, chosen: NDArray[np.bool_], what: str) -> Dataset:
    assert dataset.labels is not None
    indices = np.flatnonzero(chosen)
    pixels = dataset.images
    images = pixels[indices] if isinstance(pixels, np.ndarray) else tuple(pixels[index] for index in indices.tolist())
    return replace(dataset, name=f"{dataset.name} ({what})", images=images, labels=dataset.labels[indices])


def check_labels(dataset: Dataset, classes: int) -> None:
    """Check that a data set's classes are those of a network with ``classes`` classes, as far as can be told.

    Raises:
        SqueezeEdgeError: another number of classes, or a label outside them.
    """
    if dataset.labels is None:
        return
    if dataset.classes and len(dataset.classes) != classes:
        raise SqueezeEdgeError(
            f"{dataset.name}: has {len(dataset.classes)} classes, the network has {classes}; give the network's class "
            "list with `classes`, or other data"
        )
    outside = dataset.labels[(dataset.labels < 0) | (dataset.labels >= classes)]
    if len(outside):
        raise SqueezeEdgeError(
            f"{dataset.name}: {len(outside)} labels are outside the network's classes 0..{classes - 1}, the first is "
            f"{outside[0]}"
        )


def _one_of(spec: str, split: str | None, splits: Collection[str]) -> str:
    split = split or "test"
    if split not in splits:
        raise UsageError(f"{spec}: has no split {split!r}; it has {', '.join(splits)}")
    return split


def _from_pixels(name: str, pixels: Pixels, classes: Path | None) -> Dataset:
    names: tuple[str, ...] = pixels.classes
    keys: tuple[str, ...] = ()
    if classes is not None:
        found = read_class_list(classes)
        names, keys = found.names, found.keys
        if pixels.classes and len(names) != len(pixels.classes):
            raise UsageError(f"{classes}: lists {len(names)} classes, {name} has {len(pixels.classes)}")
    if not len(pixels.images):
        raise SqueezeEdgeError(f"{name}: holds no image")
    return Dataset(name, pixels.images, pixels.labels, names, keys)
