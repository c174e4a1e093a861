"""Labelled images for training, divided three ways: to learn, to choose the epoch by, and to test on once at the end.

No image serves two purposes: what a figure is measured on was neither learned nor used to choose.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.datasets import Dataset, Source, open_dataset, open_source
from squeezeedge.calib.decode import AnyImage, EncodedImage
from squeezeedge.calib.labels import a_few
from squeezeedge.calib.splits import PURPOSE, Part
from squeezeedge.errors import SqueezeEdgeError, UsageError

__all__ = ["Division", "divide", "hold_out"]

TO_TEST, TO_CHOOSE = 0.2, 0.1
"""Shares of each class that are held out of data without such a part, the first at least one image."""


class Division(NamedTuple):
    """Images of a run, no image in two of the three.

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

    Of data in parts those to test on are ``test``, or ``val`` where that is the only other part with labels; those to
    choose by are ``val`` where it does not serve for testing. What is missing is held out of the images to learn.

    Args:
        spec: as for :func:`squeezeedge.calib.datasets.open_dataset`.
        test_spec: likewise, for the images to test on; ``None``: those of ``spec``.
        seed: of what is held out.

    Raises:
        UsageError: there is no such data, it has no labels or too few images, or all of them are in
            ``test_spec``.
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
        known = set(map(_identity, tested.images))
        learned = _without(learned, known, test_spec, remarks)
        others = {part: _without(dataset, known, test_spec, remarks) for part, dataset in others.items()}
    elif others:
        tested = others.pop("test" if "test" in others else "val")
    else:
        learned, held = hold_out(learned, seed, TO_TEST, least=1)
        if held is None:
            raise UsageError(f"{spec}: has one image of each class, so that none can be held out to test on; give more")
        tested = held
        remarks.append(f"{spec}: has no test part; {len(tested)} of its {whole} images are held out for testing")
    _check_classes(spec, learned)
    chosen = others.get("val")
    if chosen is None:
        learned, chosen = hold_out(learned, seed, TO_CHOOSE)
        if chosen is None:
            text = "has too few images to hold any out, so the epoch is chosen by the images to learn"
        else:
            text = f"has no part to choose the epoch by; {len(chosen)} of its {whole} images are held out for that"
        remarks.append(f"{spec}: {text}")
    return Division(learned, chosen, tested, tuple(remarks))


def _to_learn(source: Source) -> Dataset:
    if "train" not in source.parts:
        raise UsageError(f"{source.name}: has no images to learn, only parts to {_purposes(source)}; name one train")
    return source.read("train", True)


def _purposes(source: Source) -> str:
    return " and to ".join(PURPOSE[part] for part in source.parts)


def _check_classes(spec: str, learned: Dataset) -> None:
    """Refuse classes that are folders without images to learn; a class list may have more classes than the data."""
    if learned.keys or learned.labels is None:
        return
    missing = np.setdiff1d(np.arange(len(learned.classes)), learned.labels)
    if len(missing):
        names = a_few([learned.classes[index] for index in missing.tolist()])
        raise SqueezeEdgeError(
            f"{spec}: no image to learn is in the folders of the classes {names}; put some there, or remove these "
            "folders from all parts"
        )


def hold_out(dataset: Dataset, seed: int, share: float, least: int = 0) -> tuple[Dataset, Dataset | None]:
    """Divide labelled images class by class; the seed decides.

    Args:
        dataset: labelled images.
        seed: of the choice.
        share: of each class that is held out, rounded.
        least: images of each class that are held out at least, unless none would be left.

    Returns:
        The images that are left and those held out; ``None`` where these are none.
    """
    assert dataset.labels is not None
    random = np.random.default_rng(seed)
    held = np.zeros(len(dataset), np.bool_)
    for label in np.unique(dataset.labels).tolist():
        own = np.flatnonzero(dataset.labels == label)
        count = min(max(least, round(share * len(own))), len(own) - 1)
        held[random.permutation(own)[:count]] = True
    if not held.any():
        return dataset, None
    return _part(dataset, ~held, "to learn"), _part(dataset, held, "held out")


def _part(dataset: Dataset, chosen: NDArray[np.bool_], what: str) -> Dataset:
    """Some images of a data set: those that ``chosen``, bool [N], says."""
    assert dataset.labels is not None
    indices = np.flatnonzero(chosen)
    pixels = dataset.images
    images = pixels[indices] if isinstance(pixels, np.ndarray) else tuple(pixels[index] for index in indices.tolist())
    name = f"{dataset.name.removesuffix(' (to learn)')} ({what})"
    return replace(dataset, name=name, images=images, labels=dataset.labels[indices])


def _without(dataset: Dataset, known: set[object], test_spec: str, remarks: list[str]) -> Dataset:
    """Without the images that are tested on."""
    kept = np.array([_identity(image) not in known for image in dataset.images], np.bool_)
    if kept.all():
        return dataset
    if not kept.any():
        raise UsageError(f"{test_spec}: all images of {dataset.name} are among these; give others to test on")
    remarks.append(f"{dataset.name}: {(~kept).sum()} images are among those to test on and left out")
    return _part(dataset, kept, "to learn")


def _identity(image: AnyImage) -> object:
    """What tells an image from others: its file, whatever links lead there, or its pixels."""
    if isinstance(image, np.ndarray):
        return image.shape, hashlib.sha256(image.tobytes()).digest()
    if isinstance(image, EncodedImage):
        return os.path.realpath(image.path), image.member, image.offset
    return image
