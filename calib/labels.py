"""Class indices: from folder names, from a class list, or from a list of labelled files.

A class list gives the classes in index order. Its forms: JSON ``[[key, name], ...]``, ``["name", ...]`` or
``{"0": [key, name], ...}``; or text, one class a line, ``n01440764 tench`` where every line starts with a WordNet
id. ``key`` is what the folder of the class is called.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError

__all__ = [
    "UNPRINTABLE",
    "WORDNET_ID",
    "ClassList",
    "a_few",
    "find_class_list",
    "find_file_labels",
    "folded",
    "read_class_list",
]

MAX_LIST_BYTES = 16 << 20
SHOWN = 5
SHOWN_CHARACTERS = 60
UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that would garble a terminal, or cannot be written as UTF-8."""

WORDNET_ID = re.compile(r"(?<![^_])n\d{8}(?![^_.])")
"""ImageNet's name of a class, alone or as a part of a file name."""

_LIST_PATTERNS = ("*_classes.json", "classes.json", "*_classes.txt", "classes.txt")
_FILE_LABELS = ("val.txt", "labels.txt")


def folded(name: str) -> str:
    """A class's name without case and separators, as names are compared."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True)
class ClassList:
    """The classes of a network in index order.

    Attributes:
        source: file it was read from.
        keys: folder name of each class.
        names: each class for people.
    """

    source: str
    keys: tuple[str, ...]
    names: tuple[str, ...]

    def indices(self, keys: Sequence[str], what: str) -> NDArray[np.int64]:
        """Class index of each key: int64 [len(keys)].

        Raises:
            SqueezeEdgeError: some keys are not in the list; names a few of them and ``what`` they belong to.
        """
        index = {key: position for position, key in enumerate(self.keys)}
        unknown = sorted(set(keys) - index.keys())
        if unknown:
            raise SqueezeEdgeError(
                f"{what}: {len(unknown)} of its classes are not in the class list {self.source}: {a_few(unknown)}; "
                "give the right list with `classes`, or remove these"
            )
        return np.array([index[key] for key in keys], np.int64)


def read_class_list(path: Path) -> ClassList:
    """Read a class list.

    Raises:
        UsageError: there is no such file.
        CorruptFileError: it is not a class list, or names a class twice.
    """
    text = _read_text(path)
    try:
        pairs = _from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_lines(text)
        if not pairs:
            raise ValueError("it is empty")
        keys, names = zip(*pairs, strict=True)
        for position, pair in enumerate(pairs):
            if UNPRINTABLE.search("".join(pair)):
                raise ValueError(f"entry {position} holds control characters or halves of one")
        repeated = [key for key, count in Counter(keys).items() if count > 1]
        if repeated:
            raise ValueError(f"named twice: {a_few(repeated)}")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CorruptFileError(
            f"{path}: not a class list: {error}; needed is JSON [[folder, name], ...] or one class a line"
        ) from error
    return ClassList(str(path), keys, names)


def _from_json(value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):  # Keras' imagenet_class_index.json
        value = [value[str(position)] for position in range(len(value))]
    if not isinstance(value, list):
        raise TypeError("it is neither a JSON list nor an object with the keys 0, 1, 2, ...")
    pairs: list[tuple[str, str]] = []
    for entry in value:
        key, name = entry if isinstance(entry, list) else (entry, entry)
        if not isinstance(key, str) or not isinstance(name, str):
            raise TypeError(f"entry {len(pairs)} is not a class")
        pairs.append((key, name))
    return pairs


def _from_lines(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    split = [line.split(maxsplit=1) for line in lines]
    if all(WORDNET_ID.fullmatch(words[0]) for words in split):
        return [(words[0], words[-1]) for words in split]
    return [(line, line) for line in lines]


def find_class_list(data: Path, keys: Iterable[str]) -> ClassList | None:
    """The class list beside a data set: ``*_classes.json``, ``classes.json`` or the same as .txt.

    Looked for inside the data's folder, then beside it. A list that knows none of the data's classes belongs to
    other data and is passed over.

    Args:
        data: folder or archive.
        keys: what the data's class folders are called.

    Raises:
        UsageError: several lists fit.
        CorruptFileError: a file of such a name is no class list.
    """
    wanted = set(keys)
    for folder in _around(data):
        paths = sorted({path for pattern in _LIST_PATTERNS for path in folder.glob(pattern) if path.is_file()})
        fitting = [found for found in map(read_class_list, paths) if not wanted.isdisjoint(found.keys)]
        if len(fitting) > 1:
            raise UsageError(
                f"{data}: several class lists fit: {', '.join(found.source for found in fitting)}; "
                "choose one with `classes`"
            )
        if fitting:
            return fitting[0]
    return None


def find_file_labels(data: Path, files: Iterable[str]) -> dict[str, str] | None:
    """Labels of images that lie flat: ``val.txt`` or ``labels.txt`` in the folder or beside it.

    A line is an image's file name and its class index or key, as in Caffe's ``val.txt`` of ImageNet. A file that
    knows none of the images belongs to other data and is passed over.

    Returns:
        File name -> index or key as written; ``None`` if there is no such file.

    Raises:
        CorruptFileError: it labels only some of the images.
    """
    wanted = set(files)
    for path in (folder / name for folder in _around(data) for name in _FILE_LABELS):
        if not path.is_file():
            continue
        lines = (line.rsplit(maxsplit=1) for line in _read_text(path).splitlines())
        labels = {words[0]: words[1] for words in lines if len(words) == 2}
        if wanted.isdisjoint(labels):
            continue
        missing = sorted(wanted - labels.keys())
        if missing:
            raise CorruptFileError(f"{path}: labels no class to {len(missing)} images of {data}: {a_few(missing)}")
        return labels
    return None


def _around(data: Path) -> list[Path]:
    beside = data.absolute().parent
    return [data, beside] if data.is_dir() else [beside]


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
        if len(data) > MAX_LIST_BYTES:
            raise CorruptFileError(f"{path}: larger than any list of classes or labels ({MAX_LIST_BYTES} bytes)")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path}: is no UTF-8 text: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def a_few(values: Sequence[str]) -> str:
    """The first names of many, for a message."""
    cut = (value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}..." for value in values[:SHOWN])
    shown = ", ".join(map(repr, cut))
    return shown + (", ..." if len(values) > SHOWN else "")
