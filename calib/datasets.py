"""Data sets: where images and labels come from, behind one interface.

``open_dataset`` takes an image folder (class = subfolder, or none), an uncompressed .tar of one, an .npz, CIFAR-10
(image folders or ``cifar-10-batches-py``), an ImageNet validation folder (WordNet ids as subfolders, or flat), or
``digits``. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from squeezeedge.calib.decode import AnyImage, OnUnreadable, decode_batches
from squeezeedge.calib.files import list_folder, list_tar
from squeezeedge.calib.labels import a_few, read_class_list
from squeezeedge.calib.layout import Layout
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.splits import PURPOSE, Part
from squeezeedge.errors import SqueezeEdgeError, UsageError

__all__ = ["Dataset", "Source", "calibration_split", "check_labels", "open_dataset", "open_source"]

LOAD_BATCH = 32
PARTS: Mapping[str | None, tuple[Part, ...]] = {
    None: ("test", "val"),
    "train": ("train",),
    "val": ("val",),
    "test": ("test", "val"),
    "calib": ("calib", "train", "val", "test"),
}
"""Split -> the parts that can serve as it, the best first."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and, where known, their classes.

    Attributes:
        name: for people.
        images: encoded images, RGB pixels (uint8 [h, w, 3]) or PIL images; or pixels uint8 [N, h, w, 3].
        labels: int64 [N], or ``None`` if unlabelled.
        classes: class names in index order; empty if unknown.
        keys: what the classes' folders are called, where a class list says so; else empty.
        remarks: what people should know of how they were found.
    """

    name: str
    images: Sequence[AnyImage] | NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def load(
        self,
        preprocessing: Preprocessing,
        indices: NDArray[np.int64],
        on_progress: Callable[[int], None] = lambda done: None,
        on_unreadable: OnUnreadable | None = None,
    ) -> NDArray[np.uint8]:
        """Decode some images into one array.

        Args:
            preprocessing: applied to each.
            indices: int64 [n], which and in which order.
            on_progress: called with the number of images done since the last call.
            on_unreadable: see :func:`squeezeedge.calib.decode.decode_batches`.

        Returns:
            uint8 [n, H, W, 3], without those that cannot be read.

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        loaded = np.empty((len(indices), *preprocessing.size, 3), np.uint8)
        done = 0
        for batch in self.batches(preprocessing, LOAD_BATCH, indices, on_unreadable):
            loaded[done : done + len(batch)] = batch
            done += len(batch)
            on_progress(len(batch))
        return loaded[:done]

    def batches(
        self,
        preprocessing: Preprocessing,
        batch_size: int,
        indices: NDArray[np.int64],
        on_unreadable: OnUnreadable | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode some images batch by batch, a few batches ahead: uint8 [b, H, W, 3].

        Raises:
            SqueezeEdgeError: an image is damaged; names it.
        """
        return decode_batches(self.images, preprocessing, batch_size, indices, on_unreadable)


@dataclass(frozen=True)
class Source:
    """Data before any part of it is chosen.

    Attributes:
        name: for people.
        parts: the parts that it comes in; empty if it is one whole.
        read: (part, or ``None`` for data without parts; whether an image without a label is refused where others have
            one) -> the part's images.
    """

    name: str
    parts: tuple[Part, ...]
    read: Callable[[Part | None, bool], Dataset]


def open_source(spec: str, classes: Path | None = None, names: Collection[str] = ()) -> Source:
    """Find the parts of data: see :func:`open_dataset`."""
    path = Path(spec)
    if spec == "digits":
        return _from_arrays(spec, tuple(DIGITS_SPLITS), read_digits, classes)
    if path.is_dir() and is_cifar_batches(path):
        return _from_arrays(spec, tuple(CIFAR_BATCHES), partial(read_cifar_batches, path), classes)
    if not path.exists():
        raise UsageError(f"{spec}: no such file or folder, and no embedded data set (`digits` is one)")
    if path.suffix.lower() == ".npz":
        return Source(spec, (), lambda _part, _: _from_pixels(spec, read_npz(path), classes))
    if not path.is_dir() and path.suffix.lower() != ".tar":
        raise UsageError(f"{spec}: must be a folder, a .tar (decompressed) or an .npz")
    layout = Layout(path, list_folder(path) if path.is_dir() else list_tar(path), classes, names)
    return Source(spec, layout.parts, lambda part, labelled: Dataset(spec, *layout.read(part, labelled)))


def open_dataset(
    spec: str,
    split: str | None = None,
    classes: Path | None = None,
    labelled: bool = True,
    names: Collection[str] = (),
) -> Dataset:
    """Open a data set.

    Args:
        spec: ``digits``, or the path of a folder, .tar or .npz.
        split: of data that comes in parts: "train", "val" or "test" (``val`` if there is no test part, or only ``val``
            has labels). "calib": the images to calibrate on; without such a part, those to learn. ``None``: the images
            to test on, or the only part, or everything.
        classes: class list that gives the folders' class indices; ``None``: one that lies in the folder or beside
            the data, else the sorted folder names.
        labelled: refuse data in which some image's class cannot be told; if not, such data has no labels at all.
        names: of a network's classes: a folder of such a name is a class, whatever else it may be.

    Raises:
        UsageError: there is no such data set or split, its folders look like parts that cannot be told apart, or the
            class list does not go with it.
        SqueezeEdgeError: it is empty or damaged, or some of its classes are not in the list.
    """
    source = open_source(spec, classes, names)
    if split not in PARTS:
        raise UsageError(f"{spec}: has no split {split!r}; it has {', '.join(source.parts) or 'none'}")
    if not source.parts:
        if split not in (None, "calib"):
            raise UsageError(f"{spec}: has no split {split!r}: its folders are not train, val or test")
        return source.read(None, labelled)
    found = [part for part in PARTS[split] if part in source.parts]
    if not found and split is None and len(source.parts) == 1:
        (only,) = source.parts
        text = f"{spec}: has no images to test on, only those to {PURPOSE[only]}; they are taken"
        return _with_remark(source.read(only, labelled), text)
    if not found:
        raise UsageError(f"{spec}: has no split {split or 'test'!r}; it has {', '.join(source.parts)}")
    dataset = source.read(found[0], labelled)
    if labelled and dataset.labels is None and len(found) > 1:
        other = source.read(found[1], labelled)
        if other.labels is not None:
            text = f"{spec}: the images to {PURPOSE[found[0]]} have no labels; those to {PURPOSE[found[1]]} are taken"
            return _with_remark(other, text)
    if labelled and dataset.labels is None:
        others = ", ".join(part for part in source.parts if part not in found)
        text = f"the images to {PURPOSE[found[0]]} have no labels; put them into folders by class"
        return _with_remark(
            dataset, f"{spec}: {text}" + (f", or give the folder of another part ({others})" if others else "")
        )
    return dataset


def _with_remark(dataset: Dataset, text: str) -> Dataset:
    return replace(dataset, remarks=(*dataset.remarks, text))


def calibration_split(n: int, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``count`` of ``n`` images without replacement.

    Returns:
        The chosen indices and all others, int64, each sorted.
    """
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[:count]), np.sort(order[count:])


def check_labels(dataset: Dataset, classes: int) -> None:
    """Check that a data set's classes are those of a network with ``classes`` classes, as far as can be told.

    Raises:
        SqueezeEdgeError: another number of classes, or a label outside them.
    """
    if dataset.labels is None:
        return
    if dataset.classes and len(dataset.classes) != classes:
        without = np.setdiff1d(np.arange(len(dataset.classes)), dataset.labels).tolist()
        empty = f" (no image is in {a_few([dataset.classes[index] for index in without])})" if without else ""
        raise SqueezeEdgeError(
            f"{dataset.name}: has {len(dataset.classes)} classes, the network has {classes}; they are "
            f"{a_few(dataset.classes)}{empty}: complete the folders, remove what is no class, or give the network's "
            "class list with `classes`"
        )
    outside = dataset.labels[(dataset.labels < 0) | (dataset.labels >= classes)]
    if len(outside):
        raise SqueezeEdgeError(
            f"{dataset.name}: {len(outside)} labels are outside the network's classes 0..{classes - 1}, the first is "
            f"{outside[0]}"
        )


def _from_arrays(name: str, parts: tuple[Part, ...], read: Callable[[Part], Pixels], classes: Path | None) -> Source:
    def one(part: Part | None, labelled: bool) -> Dataset:
        assert part is not None
        return _from_pixels(name, read(part), classes)

    return Source(name, parts, one)


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
