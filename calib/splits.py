"""Which folders are parts of a data set (to learn, to choose by, to test on), whatever they are called.

A name is read word by word. Case, separators, digits and words such as ``set`` or ``images`` are ignored, so that
``train``, ``Training_Set``, ``trainImages`` and ``train2017`` are the same part. A name with such a word beside other
words may be a class (``train station``); if the folders show that it is no class, it is refused rather than guessed.
Folders that may be parts or classes, by their names (``fold0``) or by their contents, are refused if labels are needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Set
from typing import Literal, NamedTuple, TypeAlias

from squeezeedge.calib.labels import a_few
from squeezeedge.errors import UsageError

__all__ = ["PURPOSE", "Part", "Parts", "doubt", "find_parts", "parts_among", "says_nothing"]

Part: TypeAlias = Literal["train", "val", "test", "calib"]
_Word: TypeAlias = Literal["train", "val", "test", "calib", "eval"]

PURPOSE: Mapping[str, str] = {"train": "learn", "val": "choose by", "test": "test on", "calib": "calibrate on"}
"""Part -> what its images are there for."""

WORDS: Mapping[_Word, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "minitrain"),
    "val": ("val", "vali", "valid", "validation", "validate", "dev", "devel", "development", "minival"),
    "test": ("test", "testing", "tst", "minitest"),
    "calib": ("calib", "calibration", "calibrate"),
    "eval": ("eval", "evaluation", "evaluate", "holdout", "heldout"),
}
"""What says that a folder is a part. An ``eval`` is the test part, or ``val`` where there is another one to test on."""

SAY_NOTHING = (
    *("set", "sets", "data", "dataset", "split", "splits", "part", "folder", "dir", "sample", "samples", "subset"),
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pic", "pics"),
    *("ilsvrc", "imagenet", "coco", "voc", "cifar"),
)
SHORT: Mapping[_Word, tuple[str, ...]] = {
    "train": ("tr", "learn", "learning", "seen"),
    "val": ("va", "vl", "vd", "tune", "tuning"),
    "test": ("te", "ts"),
    "eval": ("check", "checking", "hold", "held", "unseen", "verify", "verification"),
}
"""Words that mean a part only if all folders beside it are parts, too: alone, one may be a class."""

DIVIDE = (
    *("fold", "folds", "cv", "crossval", "shard", "shards", "chunk", "chunks", "batch", "batches"),
    *("labeled", "labelled", "unlabeled", "unlabelled"),
)
"""Words in names of parts whose purpose only their maker knows, maybe beside words that are ignored."""

_MEANING = {spelling: word for word, spellings in WORDS.items() for spelling in spellings}
_SHORT = {spelling: word for word, spellings in SHORT.items() for spelling in spellings}
_COUNTER = re.compile("[a-z]|[ivx]+")
"""What tells parts of one name apart beside digits: ``split_a``, ``set II``."""
_HOLD_OUT = re.compile(r"(?i)(?<![a-z])(hold|held)[-_ ]out(?![a-z])")
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")
_KNOWN = "|".join(sorted([*_MEANING, *SAY_NOTHING], key=len, reverse=True))
_JOINED = re.compile(f"(?:{_KNOWN})+")
"""Words without anything between them: ``trainset``, ``trainval``."""
_WORD = re.compile(rf"(?:{_KNOWN})(?=(?:{_KNOWN})*$)")


class Parts(NamedTuple):
    """The parts of a data set.

    Attributes:
        folders: name of each part's folder; empty if the data does not come in parts.
        remarks: what people should know of them.
    """

    folders: Mapping[Part, str]
    remarks: tuple[str, ...] = ()


class _Reading(NamedTuple):
    """What a folder's name says: its words about parts, and the words that nobody knows."""

    words: frozenset[_Word]
    others: frozenset[str]

    @property
    def part(self) -> str | None:
        """The part, "eval" or "trainval", if the name says nothing else."""
        if self.others or not self.words:
            return None
        if self.words == {"train", "val"}:
            return "trainval"
        return next(iter(self.words)) if len(self.words) == 1 else None


def parts_among(names: Collection[str]) -> list[str]:
    """Those of the folders in one place whose names say that they are parts, and nothing else; sorted."""
    if len(names) > 1 and all(_read(name, short=True).part for name in names):
        return sorted(names)
    return sorted(name for name in names if _read(name).part)


def says_nothing(name: str) -> bool:
    """Whether a folder's name is only that of a container, such as ``images``."""
    tokens = [token.casefold() for token in _TOKEN.findall(name)]
    return bool(tokens) and all(token in SAY_NOTHING for token in tokens)


def find_parts(what: str, folders: Mapping[str, Set[str]], classes: Collection[str] = ()) -> Parts:
    """Tell the parts of data from its classes.

    Args:
        what: the data, for messages.
        folders: name of each folder -> names of the folders in it.
        classes: names that are known to be classes.

    Raises:
        UsageError: the folders look like parts, but what one of them is cannot be told, or two are the same part.
    """
    if not folders or all(name in classes for name in folders):
        return Parts({})
    for short in (len(folders) > 1, False):
        readings = {name: _read(name, short) for name in folders}
        if len(folders) > 1 and (any(folders.values()) or all(reading.words for reading in readings.values())):
            shared = frozenset.intersection(*(reading.others for reading in readings.values()))  # cats_train, cats_test
            readings = {name: _Reading(words, others - shared) for name, (words, others) in readings.items()}
        parts = {name: part for name, reading in readings.items() if (part := reading.part) is not None}
        if len(parts) == len(folders):
            return _assigned(what, parts)
    marked = [name for name, reading in readings.items() if reading.words]
    alike = any(folders[name] & folders[other] for name in marked for other in folders if other != name)
    if len(set(parts.values())) > 1 or alike or any(len(folders[name]) > 1 for name in parts):
        raise UsageError(
            f"{what}: its folders {a_few(sorted(folders))} look like parts, but what "
            f"{a_few(sorted(folders.keys() - parts.keys()))} is for cannot be told; rename it to train, val, test or "
            "calib, move it away, or give the folder of one part"
        )
    remarks = [f"{what}: its folder {name!r} is taken for a class, as the others beside it" for name in sorted(parts)]
    return Parts({}, tuple(remarks))


def doubt(what: str, folders: Mapping[str, Set[str]], classes: Collection[str] = (), known: bool = False) -> str | None:
    """Why folders that would be classes may be parts: by their names, or as they hold the same folders.

    Args:
        what: the data, for messages.
        folders: name of each folder with images -> names of the folders with images in it.
        classes: names that are known to be classes.
        known: these folders lie in a part already, so that what they hold says nothing.

    Returns:
        A message with what to do, or ``None`` where nothing speaks for parts.
    """
    if len(folders) < 2 or any(name in classes for name in folders):
        return None
    inside = {name: {folder for folder in names if not says_nothing(folder)} for name, names in folders.items()}
    count = Counter(folder for names in inside.values() for folder in names)
    common = {folder for folder, times in count.items() if times > 1 and 2 * times >= len(folders)}
    alike = len(common) > 1 and all(2 * len(names & common) >= len(names) for names in inside.values())
    if all(_divides(name) for name in folders):
        why = "by their names"
    elif alike and not known:
        why = f"as they hold the same folders, {a_few(sorted(common))}"
    else:
        return None
    return (
        f"{what}: its folders {a_few(sorted(folders))} may be parts, {why}, and no classes; give the folder of one of "
        "them, rename them to train, val, test or calib, or, if they are the classes, list them in a file classes.txt "
        "in or beside the data"
    )


def _divides(name: str) -> bool:
    """Whether a name is that of a part of unknown purpose: ``fold_1``, ``set2``, ``split_a``."""
    tokens = [token.casefold() for token in _TOKEN.findall(name)]
    others = [token for token in tokens if not (token in DIVIDE or token in _SHORT or _JOINED.fullmatch(token))]
    return len(others) < len(tokens) and all(map(_COUNTER.fullmatch, others))


def _assigned(what: str, parts: Mapping[str, str]) -> Parts:
    """Which folder each part is."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name, part in sorted(parts.items()):
        folders[part].append(name)
    for name in folders.pop("eval", []):
        folders["val" if "test" in folders else "test"].append(name)
    remarks = []
    both = folders.pop("trainval", [])
    if both and "train" in folders:
        remarks.append(f"{what}: {a_few(both)} is left out, because there is {a_few(folders['train'])}")
    elif both:
        folders["train"] = both
        if left := folders.pop("val", []):
            remarks.append(f"{what}: {a_few(left)} is left out, because {a_few(both)} holds its images")
    for part, names in folders.items():
        if len(names) > 1:
            raise UsageError(
                f"{what}: {a_few(names)} are all a part to {PURPOSE[part]}; put them into one folder, or give one "
                "of them"
            )
    return Parts({part: folders[part][0] for part in PURPOSE if part in folders}, tuple(remarks))  # type: ignore[misc]


def _read(name: str, short: bool = False) -> _Reading:
    words: set[_Word] = set()
    others: set[str] = set()
    for token in _TOKEN.findall(_HOLD_OUT.sub(r"\1out", unicodedata.normalize("NFKC", name))):
        folded = token.casefold()
        if _JOINED.fullmatch(folded):
            words.update(_MEANING[word] for word in _WORD.findall(folded) if word in _MEANING)
        elif short and folded in _SHORT:
            words.add(_SHORT[folded])
        else:
            others.add(folded)
    return _Reading(frozenset(words), frozenset(others))
