"""How image files are arranged: parts (train, test), class folders, or flat with the classes told elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.calib.files import SUFFIXES, Listing
from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.labels import (
    WORDNET_ID,
    ClassList,
    a_few,
    find_class_list,
    find_file_labels,
    folded,
    read_class_list,
)
from squeezeedge.calib.splits import Part, doubt, find_parts, parts_among, says_nothing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError

__all__ = ["Arranged", "Layout"]

MAX_INDEX_DIGITS = 9

_Parts = tuple[str, ...]


class Arranged(NamedTuple):
    """Images of one part, or of all of the data, in the order of their names.

    Attributes:
        images: at least one.
        labels: int64 [N], or ``None`` if unlabelled.
        classes: class names in index order, the same for all parts; empty if unknown.
        keys: what the classes' folders are called, where a class list says so; else empty.
        remarks: what people should know of them.
    """

    images: tuple[EncodedImage, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class _Labels(NamedTuple):
    """The part of :class:`Arranged` that is about classes."""

    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


class Layout:
    """Where the parts and the classes of image files are.

    Folders that all images share are skipped. The next folders are parts, if they are named so
    (:mod:`squeezeedge.calib.splits`); below are the folders of the classes. Images without folders are labelled by
    ``val.txt`` (or ``labels.txt``), or by the WordNet id in their names, or not at all. All parts have the same
    classes: without a class list, these are the sorted names of the folders in any part, including folders without an
    image.

    Args:
        path: folder or archive that was listed.
        listing: what is in it.
        classes: class list; ``None``: one that is found beside the data, else the sorted folder names.
        names: of a network's classes: a folder of such a name is a class whatever else it may be.

    Raises:
        UsageError: the class list is missing, or the folders look like parts but cannot be told apart.
        SqueezeEdgeError: there are no images.
    """

    def __init__(self, path: Path, listing: Listing, classes: Path | None, names: Collection[str] = ()) -> None:
        if not listing.images:
            raise SqueezeEdgeError(f"{path}: holds no image ({' '.join(SUFFIXES)}); give another folder or archive")
        self._path = path
        self._listing = listing
        if classes is not None:
            self._list: ClassList | None = read_class_list(classes)
        else:
            named = {key for parts in listing.images for key in (*parts[:-1], *WORDNET_ID.findall(parts[-1]))}
            self._list = find_class_list(path, named)
        same = {folded(name) for name in names}
        folders = {name for parts in (*(parts[:-1] for parts in listing.images), *listing.empty) for name in parts}
        self._known = frozenset(self._list.keys if self._list else ()) | {n for n in folders if folded(n) in same}
        self._files: dict[_Parts, list[str]] = defaultdict(list)
        for parts in listing.images:
            self._files[parts[:-1]].append(parts[-1])
        self._inside = _folders_in(self._files)
        self._empty: dict[_Parts, set[str]] = defaultdict(set)
        for parts in listing.empty:
            self._empty[parts[:-1]].add(parts[-1])
        self._root = self._below((), self._is_part_or_class)
        inside = {name: set[str]() for name in parts_among(self._empty[self._root])}
        inside |= {name: self._inside[(*self._root, name)] for name in self._inside[self._root]}
        self._found = find_parts(str(path), inside, self._known)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that there are; none if the data does not come in parts."""
        return tuple(self._found.folders)

    def read(self, part: Part | None = None, labelled: bool = True) -> Arranged:
        """The images of a part; ``None``: all of them, of data that does not come in parts.

        Args:
            part: one of :attr:`parts`.
            labelled: refuse images if the class of some cannot be told; if not, none has a label then.

        Raises:
            UsageError: in the folders of the classes are parts.
            SqueezeEdgeError: the part holds no image; or some images have no class, or one that is not in the list.
        """
        root = self._root if part is None else (*self._root, self._found.folders[part])
        level = self._levels.get(root, root)
        files = [parts for parts in self._listing.images if parts[: len(root)] == root]
        if not files:
            raise SqueezeEdgeError(f"{self._path}: its part {root[-1]!r} holds no image; fill the folder or remove it")
        images = tuple(self._listing.images[parts] for parts in files)
        try:
            self._check_folders(level, files)
            if text := self._doubt(level):
                raise (UsageError if labelled else SqueezeEdgeError)(text)
            labels = self._labels(level, files)
        except SqueezeEdgeError as failure:
            if labelled or isinstance(failure, UsageError):
                raise
            return Arranged(images, None, remarks=(*self._found.remarks, f"no labels are needed here: {failure}"))
        return Arranged(images, *labels, self._remarks(labels))

    def _is_part_or_class(self, folder: _Parts) -> bool:
        """Whether a folder that all images share is one of these: ``test`` is, but not above ``train`` and ``val``."""
        if folder[-1] in self._known:
            return True
        inside = self._inside[folder]
        return bool(parts_among(folder[-1:])) and not (inside and len(parts_among(inside)) == len(inside))

    @cached_property
    def _levels(self) -> dict[_Parts, _Parts]:
        """The folder of each part (or of the data) -> the one below it that holds the folders of the classes."""
        if not self._found.folders:
            return {self._root: self._below((), lambda folder: folder[-1] in self._known, classes=True)}
        roots = [(*self._root, folder) for folder in self._found.folders.values()]
        levels = [self._below(root, lambda folder: folder[-1] in self._known, classes=True) for root in roots]
        names = self._known.union(*map(self._folders, levels))
        return {root: self._below(root, lambda folder: folder[-1] in names, classes=True) for root in roots}

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """The folders of the classes, of all parts."""
        return tuple(sorted(set[str]().union(*map(self._folders, self._levels.values()))))

    def _folders(self, level: _Parts) -> set[str]:
        """Names of the folders in a folder that hold images, or nothing at all."""
        return self._inside[level] | self._empty[level]

    def _below(self, level: _Parts, kept: Callable[[_Parts], bool], classes: bool = False) -> _Parts:
        """The folder down to which all images below ``level`` share their folders, or that holds one to be kept.

        With ``classes`` a folder without images beside one with images is a class, and this one, too.
        """
        while True:
            names = self._inside[level]
            if len(names) != 1 or level in self._files or kept((*level, name := next(iter(names)))):
                return level
            only_class = not self._inside[(*level, name)] and not says_nothing(name)
            if classes and only_class and len(self._folders(level)) > 1:
                return level
            level = (*level, name)

    def _check_folders(self, level: _Parts, files: list[_Parts]) -> None:
        """Refuse images without a class beside some with one, and parts within classes."""
        loose = self._files.get(self._root, [])
        if self._found.folders and loose:
            beside = a_few(list(self._found.folders.values()))
            raise CorruptFileError(
                f"{self._path}: {len(loose)} images lie beside its parts {beside}: {a_few(loose)}; move or remove these"
            )
        flat = self._files.get(level, [])
        if 0 < len(flat) < len(files):
            raise CorruptFileError(
                f"{self._path}: {len(flat)} images are in no class folder but others are: {a_few(flat)}; move or "
                "remove these"
            )
        classes = self._inside[level]
        for names in (classes, set[str]().union(*(self._inside[(*level, name)] for name in classes))):
            parts = parts_among(names - self._known)
            if len(parts) > 1:
                raise UsageError(
                    f"{self._path}: the parts {a_few(parts)} lie in other folders; put them above these: "
                    f"{parts[0]}/CLASS instead of CLASS/{parts[0]}"
                )

    def _doubt(self, level: _Parts) -> str | None:
        """Why the folders of the classes may be parts."""
        folders = {}
        for name in self._inside[level]:
            below = self._below((*level, name), lambda folder: folder[-1] in self._known)
            folders[name] = self._inside[*level, name] | self._inside[below]
        of_parts = [names for other in self._levels.values() if (names := self._folders(other))]
        everywhere = set.intersection(*of_parts) if len(of_parts) > 1 else set[str]()
        return doubt(str(self._path), folders, self._known | everywhere, known=bool(self._found.folders))

    def _labels(self, level: _Parts, files: list[_Parts]) -> _Labels:
        if len(files[0]) == len(level) + 1:
            return _file_labels(self._path, [parts[-1] for parts in files], self._list)
        keys = [parts[len(level)] for parts in files]
        if self._list is not None:
            return _listed(self._list.indices(keys, str(self._path)), self._list)
        index = {name: position for position, name in enumerate(self._classes)}
        return _Labels(np.array([index[key] for key in keys], np.int64), self._classes)

    def _remarks(self, labels: _Labels) -> tuple[str, ...]:
        if labels.labels is None or labels.keys:
            return self._found.remarks
        full = set[str]().union(*(self._inside[level] for level in self._levels.values()))
        if not (empty := [name for name in labels.classes if name not in full]):
            return self._found.remarks
        text = f"{self._path}: no image is in its folders {a_few(empty)}, which count as classes"
        return (*self._found.remarks, text)


def _folders_in(folders: Iterable[_Parts]) -> dict[_Parts, set[str]]:
    """Each folder -> names of the folders in it; of any other one none."""
    inside: dict[_Parts, set[str]] = defaultdict(set)
    for parts in folders:
        for depth, name in enumerate(parts):
            inside[parts[:depth]].add(name)
    return inside


def _file_labels(path: Path, files: list[str], found: ClassList | None) -> _Labels:
    written = find_file_labels(path, files)
    if written is not None:
        keys = [written[file] for file in files]
        if all(key.isdecimal() and len(key) <= MAX_INDEX_DIGITS for key in keys):
            return _listed(np.array(keys).astype(np.int64), found)
        found = found or find_class_list(path, keys)
        if found is None and set(keys) <= set((imagenet := imagenet_classes()).keys):
            found = imagenet
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
