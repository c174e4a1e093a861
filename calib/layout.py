"""How image files are arranged: parts (train, test), class folders, or flat with the classes told elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.files import SUFFIXES, Listing
from squeezeedge.calib.labels import WORDNET_ID, ClassList, a_few, find_class_list, find_file_labels, read_class_list
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError

__all__ = ["Arranged", "UndividedError", "arrange"]

SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation"), "calib": ("calib", "train")}
"""What the folder of a split is called, the first that exists."""

MAX_INDEX_DIGITS = 9


class UndividedError(UsageError):
    """A part of data was asked for that does not come in parts."""


class Arranged(NamedTuple):
    """Images of one split in the order of their names.

    Attributes:
        images: at least one.
        labels: int64 [N], or ``None`` if unlabelled.
        classes: class names in index order; empty if unknown.
        keys: what the classes' folders are called, where a class list says so; else empty.
    """

    images: tuple[EncodedImage, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    keys: tuple[str, ...] = ()


class _Labels(NamedTuple):
    """The part of :class:`Arranged` that is about classes."""

    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def arrange(path: Path, listing: Listing, split: str | None, classes: Path | None) -> Arranged:
    """Find the split and the labels of image files.

    Folders that all images share say nothing and are skipped. Then the first folder is the class; images without
    folders are labelled by ``val.txt`` (or ``labels.txt``), or by the WordNet id in their names, or not at all.

    Args:
        path: folder or archive that was listed.
        listing: its images.
        split: "train", "test" or "calib"; ``None``: test if there are such parts, else everything.
        classes: class list; ``None``: one that is found beside the data, else the sorted folder names.

    Raises:
        UndividedError: a split is asked for, and there are none.
        UsageError: no such split, or a class list that is missing.
        SqueezeEdgeError: no images, or some of them have no class, or none of the class list.
    """
    if not listing:
        raise SqueezeEdgeError(f"{path}: holds no image ({' '.join(SUFFIXES)}); give another folder or archive")
    if classes is not None:
        found: ClassList | None = read_class_list(classes)
    else:
        named = {key for parts in listing for key in (*parts[:-1], *WORDNET_ID.findall(parts[-1]))}
        found = find_class_list(path, named)
    known = set(found.keys) if found else set()
    listing = _skip_shared(listing, known.union(*SPLIT_FOLDERS.values()))
    listing = _skip_shared(_pick_split(path, listing, split), known)
    images = tuple(listing.values())
    flat = [parts[0] for parts in listing if len(parts) == 1]
    if not flat:
        return Arranged(images, *_folder_labels(path, [parts[0] for parts in listing], found))
    if len(flat) < len(images):
        raise CorruptFileError(
            f"{path}: {len(flat)} images are in no class folder but others are: {a_few(flat)}; move or remove these"
        )
    return Arranged(images, *_file_labels(path, flat, found))


def _skip_shared(listing: Listing, kept: Collection[str]) -> Listing:
    """Without the leading folders that all images share, up to one whose name is in ``kept``."""
    while True:
        tops = {parts[0] if len(parts) > 1 else None for parts in listing}
        if len(tops) > 1 or None in tops or not tops.isdisjoint(kept):
            return listing
        listing = {parts[1:]: image for parts, image in listing.items()}


def _pick_split(path: Path, listing: Listing, split: str | None) -> Listing:
    """The images of one split, without its folder; all of them where there are no splits."""
    tops = {parts[0] for parts in listing}
    if not tops <= set().union(*SPLIT_FOLDERS.values()) or any(len(parts) == 1 for parts in listing):
        if split is not None:
            raise UndividedError(f"{path}: has no split {split!r}: its folders are not train, test or val")
        return listing
    folder = next((name for name in SPLIT_FOLDERS.get(split or "test", ()) if name in tops), None)
    if folder is None and split is None and len(tops) == 1:
        folder = tops.pop()
    if folder is None:
        raise UsageError(f"{path}: has no split {split or 'test'!r}; it has {', '.join(sorted(tops))}")
    return {parts[1:]: image for parts, image in listing.items() if parts[0] == folder}


def _folder_labels(path: Path, keys: list[str], found: ClassList | None) -> _Labels:
    if found is not None:
        return _listed(found.indices(keys, str(path)), found)
    names, labels = np.unique(keys, return_inverse=True)
    return _Labels(labels.astype(np.int64), tuple(map(str, names)))


def _file_labels(path: Path, files: list[str], found: ClassList | None) -> _Labels:
    written = find_file_labels(path, files)
    if written is not None:
        keys = [written[file] for file in files]
        if all(key.isdecimal() and len(key) <= MAX_INDEX_DIGITS for key in keys):
            return _listed(np.array(keys).astype(np.int64), found)
        found = found or find_class_list(path, keys)
        if found is None:
            raise SqueezeEdgeError(f"{path}: its images are labelled {a_few(keys)}; give the class list with `classes`")
        return _listed(found.indices(keys, str(path)), found)
    ids = {file: WORDNET_ID.findall(file)[-1:] for file in files}
    unlabelled = [file for file, names in ids.items() if not names]
    if found is None or len(unlabelled) == len(files):
        return _listed(None, found)
    if unlabelled:
        raise CorruptFileError(
            f"{path}: {len(unlabelled)} images have no WordNet id in their name but others have: {a_few(unlabelled)}; "
            "rename or remove these"
        )
    return _listed(found.indices([names[0] for names in ids.values()], str(path)), found)


def _listed(labels: NDArray[np.int64] | None, found: ClassList | None) -> _Labels:
    return _Labels(labels) if found is None else _Labels(labels, found.names, found.keys)
