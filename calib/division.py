"""Labelled images for training, divided three ways: to learn, to choose the epoch by, and to test on once at the end.

No image serves two purposes, nor do copies of it: images that a figure is measured on were not used before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.copies import originals
from squeezeedge.calib.datasets import Dataset, Source, open_dataset, open_source
from squeezeedge.calib.labels import a_few
from squeezeedge.calib.splits import PURPOSE, Part
from squeezeedge.errors import SqueezeEdgeError, UsageError, counted

__all__ = ["Division", "divide", "hold_out"]

TO_TEST, TO_CHOOSE = 0.2, 0.1
"""Shares of each class that are held out of data without such a part, the first at least one image."""


class Division(NamedTuple):
    """Images of a run, no image in two of the three, and no copy of one in another.

    Attributes:
        learned: to learn.
        chosen: to choose the epoch by; ``None`` where there are too few: then the images to learn serve.
        tested: for the last figure.
        remarks: what people should know of the choice.
    """

    learned: Dataset
    chosen: Dataset | None
    tested: Dataset
    remarks: tuple[str, ...]


def divide(spec: str, test_spec: str | None = None, seed: int = 0) -> Division:
    """Open labelled images and divide them.

    If the data comes in parts, ``test`` serves for testing, or ``val`` if that is the only other part with labels.
    ``val`` serves for choosing unless it serves for testing. What is missing is held out of the images to learn.
    No image is learned or chosen by if a copy of it (:mod:`squeezeedge.calib.copies`) is tested on. None is learned if
    a copy of it is chosen by. Copies among the images to learn are held out together or not at all.

    Args:
        spec: as for :func:`squeezeedge.calib.datasets.open_dataset`.
        test_spec: likewise, for the images to test on; ``None``: those of ``spec``.
        seed: of what is held out.

    Raises:
        UsageError: there is no such data, it has no labels or too few images, or all that it has for one purpose
            serve another.
        SqueezeEdgeError: it is damaged, or has a class without images to learn.
    """
    source = open_source(spec)
    remarks: list[str] = []
    others: dict[Part, Dataset] = {}
    if source.parts:
        learned = _to_learn(source)
        for part in ("test", "val"):
            if part in source.parts and not (part == "test" and test_spec is not None):
                dataset = source.read(part, True)
                if dataset.labels is None:
                    remarks.append(f"{spec}: the images to {PURPOSE[part]} have no labels and are not used")
                else:
                    others[part] = replace(dataset, name=f"{spec} ({part})")
    else:
        learned = source.read(None, True)
    if learned.labels is None:
        raise UsageError(f"{spec}: has no labels (class = subfolder) to learn from")
    remarks[:0] = learned.remarks
    whole = len(learned)
    if test_spec is not None:
        tested = open_dataset(test_spec)
        if tested.labels is None:
            raise UsageError(f"{test_spec}: has no labels (class = subfolder) to test on")
        remarks += tested.remarks
        others = {"test": tested, **others}
    elif "test" not in others and "val" in others:
        others["test"] = others.pop("val")
    others, same = _apart({**others, "train": learned}, remarks)
    learned = others["train"]
    _check_classes(spec, learned, len(learned) < whole)
    if "test" not in others:
        held, learned, same = _held_out(spec, learned, same, seed, TO_TEST, least=1)
        if held is None:
            raise UsageError(
                f"{spec}: has no two different images of one class, so that none can be held out to test on; give more"
            )
        others["test"] = held
        remarks.append(f"{spec}: has no test part; {len(held)} of its {whole} images are held out for testing")
    if "val" not in others:
        held, learned, same = _held_out(spec, learned, same, seed, TO_CHOOSE)
        if held is None:
            text = "has too few images to hold any out, so the epoch is chosen by the images to learn"
        else:
            others["val"] = held
            text = f"has no part to choose the epoch by; {len(held)} of its {whole} images are held out for that"
        remarks.append(f"{spec}: {text}")
    return Division(learned, others.get("val"), others["test"], tuple(remarks))


def _to_learn(source: Source) -> Dataset:
    if "train" not in source.parts:
        raise UsageError(f"{source.name}: has no images to learn, only parts to {_purposes(source)}; name one train")
    return source.read("train", True)


def _purposes(source: Source) -> str:
    return " and to ".join(PURPOSE[part] for part in source.parts)


def _check_classes(spec: str, learned: Dataset, left_out: bool) -> None:
    """Refuse classes that are folders without images to learn; a class list may have more classes than the data."""
    if learned.keys or learned.labels is None:
        return
    missing = np.setdiff1d(np.arange(len(learned.classes)), learned.labels)
    if len(missing):
        names = a_few([learned.classes[index] for index in missing.tolist()])
        others = " that is in no other part" if left_out else ""
        raise SqueezeEdgeError(
            f"{spec}: no image to learn{others} is in the folders of the classes {names}; put some there, or remove "
            "these folders from all parts"
        )


def _apart(sets: Mapping[Part, Dataset], remarks: list[str]) -> tuple[dict[Part, Dataset], NDArray[np.int64]]:
    """Each part without the images of those before it; and of the last one, equal numbers for copies: int64 [n]."""
    parts = list(sets)
    first = originals([image for dataset in sets.values() for image in dataset.images])
    home = np.repeat(np.arange(len(sets)), [len(dataset) for dataset in sets.values()])
    own = home[first] == home
    left: dict[Part, Dataset] = {}
    for index, (part, dataset) in enumerate(sets.items()):
        left[part] = dataset
        kept = own[home == index]
        if kept.all():
            continue
        others = np.unique(home[first[(home == index) & ~own]]).tolist()
        where = " or ".join(f"to {PURPOSE[parts[other]]}" for other in others)
        if not kept.any():
            raise UsageError(f"{dataset.name}: all its images to {PURPOSE[part]} are among those {where}; give others")
        count = int((~kept).sum())
        verb = "is" if count == 1 else "are"
        what = f"{counted(count, 'image')} to {PURPOSE[part]} {verb} left out"
        remarks.append(f"{dataset.name}: {what}: the same {verb} among those {where}")
        left[part] = _part(dataset, kept, dataset.name)
    return left, first[own & (home == len(sets) - 1)]


def _held_out(
    spec: str, learned: Dataset, same: NDArray[np.int64], seed: int, share: float, least: int = 0
) -> tuple[Dataset | None, Dataset, NDArray[np.int64]]:
    """Images that are held out, ``None`` where these are none; those left to learn, and their numbers."""
    assert learned.labels is not None
    held = hold_out(learned.labels, same, seed, share, least)
    if not held.any():
        return None, learned, same
    return _part(learned, held, f"{spec} (held out)"), _part(learned, ~held, f"{spec} (to learn)"), same[~held]


def hold_out(
    labels: NDArray[np.int64], same: NDArray[np.int64], seed: int, share: float, least: int = 0
) -> NDArray[np.bool_]:
    """Choose images to hold out, class by class; the seed decides.

    Copies of one image count once and go together; where they are in several classes they stay.

    Args:
        labels: int64 [N].
        same: int64 [N], equal for copies of one image.
        seed: of the choice.
        share: of each class that is held out, rounded.
        least: images of each class that are held out at least, unless none would be left.

    Returns:
        bool [N]: which are held out.
    """
    _, first, image = np.unique(same, return_index=True, return_inverse=True)
    single = np.ones(len(first), np.bool_)
    single[image[labels != labels[first[image]]]] = False
    random = np.random.default_rng(seed)
    held = np.zeros(len(first), np.bool_)
    for label in np.unique(labels).tolist():
        own = np.sort(first[single & (labels[first] == label)])
        count = min(max(least, round(share * len(own))), len(own) - 1)
        held[image[random.permutation(own)[: max(count, 0)]]] = True
    return held[image]


def _part(dataset: Dataset, chosen: NDArray[np.bool_], name: str) -> Dataset:
    """Some images of a data set: those that ``chosen``, bool [N], says."""
    assert dataset.labels is not None
    indices = np.flatnonzero(chosen)
    pixels = dataset.images
    images = pixels[indices] if isinstance(pixels, np.ndarray) else tuple(pixels[index] for index in indices.tolist())
    return replace(dataset, name=name, images=images, labels=dataset.labels[indices])
