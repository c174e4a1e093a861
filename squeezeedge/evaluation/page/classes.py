"""Accuracy class by class, the pairs of classes that are confused, and the images whose answer is not fp32's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.evaluation.answers import Answers, Ranked

__all__ = ["ClassAccuracy", "Confusion", "Group", "changed_images", "class_accuracies", "confusions", "groups"]


@dataclass(frozen=True, eq=False)
class Group:
    """Devices that give the same class to every image.

    Attributes:
        devices: their names, in order.
        answers: the first one's.
    """

    devices: tuple[str, ...]
    answers: Ranked

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self.devices)


@dataclass(frozen=True)
class ClassAccuracy:
    """How often a class is recognized.

    Attributes:
        index: of the class.
        images: of this class.
        fp32: how many of them fp32 is right on; ``None`` if it is not known.
        right: how many of them each group is right on.
    """

    index: int
    images: int
    fp32: int | None
    right: tuple[int, ...]


@dataclass(frozen=True)
class Confusion:
    """Images of one class that get another one.

    Attributes:
        label: the right class.
        answer: the class that is given.
        count: how many images, by the first group of devices.
        images: of the right class, all.
        fp32: how many images fp32 confuses so; ``None`` if it is not known.
    """

    label: int
    answer: int
    count: int
    images: int
    fp32: int | None


def groups(names: Sequence[str], answers: Answers) -> list[Group]:
    """Devices by what they answer, in their order; devices that are bit-exact are one group."""
    found: list[Group] = []
    for name, own in zip(names, answers.devices, strict=True):
        for place, group in enumerate(found):
            if np.array_equal(group.answers.classes, own.classes):
                found[place] = Group((*group.devices, name), group.answers)
                break
        else:
            found.append(Group((name,), own))
    return found


def class_accuracies(answers: Answers, grouped: Sequence[Group]) -> list[ClassAccuracy]:
    """Of every class that has images, those that the first group is worst on first; empty without labels."""
    labels = answers.labels
    if labels is None:
        return []
    count = int(labels.max()) + 1
    images = np.bincount(labels, minlength=count)

    def right(of: Ranked) -> NDArray[np.int64]:
        return np.bincount(labels[of.classes == labels], minlength=count)

    fp32 = None if answers.fp32 is None else right(answers.fp32)
    by_group = [right(group.answers) for group in grouped]
    rows = [
        ClassAccuracy(
            index,
            int(images[index]),
            None if fp32 is None else int(fp32[index]),
            tuple(int(one[index]) for one in by_group),
        )
        for index in np.flatnonzero(images).tolist()
    ]
    return sorted(rows, key=lambda row: (row.right[0] / row.images, -row.images, row.index))


def confusions(answers: Answers, group: Group, most: int) -> list[Confusion]:
    """The pairs of classes that a group confuses most, at most so many; empty without labels."""
    labels = answers.labels
    if labels is None:
        return []
    own = Counter(_wrong(labels, group.answers))
    fp32 = None if answers.fp32 is None else Counter(_wrong(labels, answers.fp32))
    images = np.bincount(labels)
    pairs = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [
        Confusion(label, answer, count, int(images[label]), None if fp32 is None else fp32[label, answer])
        for (label, answer), count in pairs
    ]


def _wrong(labels: NDArray[np.int64], answers: Ranked) -> list[tuple[int, int]]:
    wrong = np.flatnonzero(answers.classes != labels)
    return list(zip(labels[wrong].tolist(), answers.classes[wrong].tolist(), strict=True))


def changed_images(answers: Answers, grouped: Sequence[Group]) -> NDArray[np.int64]:
    """Numbers of the images to which any group gives another class than fp32.

    First those that become wrong, then those that become right, then the others; in each, where fp32 was surest first.
    """
    if answers.fp32 is None:
        return np.empty(0, np.int64)
    fp32 = answers.fp32
    different = np.zeros(len(fp32.classes), bool)
    order = np.full(len(fp32.classes), 2)
    for group in grouped:
        own = group.answers.classes != fp32.classes
        different |= own
        if answers.labels is not None:
            order[own & (group.answers.classes == answers.labels)] = 1
    if answers.labels is not None:
        order[different & (fp32.classes == answers.labels)] = 0
    numbers = np.flatnonzero(different)
    return numbers[np.lexsort((-fp32.scores[numbers], order[numbers]))]
