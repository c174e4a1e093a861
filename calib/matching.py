"""Match a data set's classes with a network's: by name where names are known, else by index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.datasets import Dataset, check_labels
from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.labels import a_few, folded
from squeezeedge.errors import SqueezeEdgeError

__all__ = ["with_classes_of"]

FIX = "rename the folders, or say with `classes` which class each folder is"


def with_classes_of(
    dataset: Dataset, count: int, names: Sequence[str], whose: str = "the network's", fix: str = FIX
) -> tuple[Dataset, tuple[str, ...]]:
    """A data set whose labels are class indices of a network.

    A class of the data is the network's class of the same name, or else of a name that differs only in case, ``_``,
    ``-`` and spaces. A WordNet id of ImageNet stands for its name. The data may have only some of the network's
    classes. If the data or the network has no names, labels are taken as the network's class indices.

    Args:
        dataset: with or without labels.
        count: number of classes of the network.
        names: of the network's classes in index order; empty if unknown.
        whose: these names are, for messages.
        fix: what to do where they are not the data's.

    Returns:
        The data set (its ``classes`` are ``names`` where these are known) and remarks for people.

    Raises:
        SqueezeEdgeError: classes of the data that are none of the network's, or two that are the same one; or, without
            names, another number of classes or a label outside them.
    """
    if dataset.labels is None:
        return dataset, ()
    if not names or not dataset.classes:
        check_labels(dataset, count)
        remarks = []
        if dataset.classes:
            pairs = ", ".join(f"{index} = {name}" for index, name in enumerate(dataset.classes[:3]))
            more = ", ..." if len(dataset.classes) > 3 else ""
            remarks.append(f"{dataset.name}: the network has no class names; classes are taken in order: {pairs}{more}")
        return dataset, tuple(remarks)
    if dataset.classes == tuple(names):
        check_labels(dataset, count)
        indices: NDArray[np.int64] = np.arange(count)
    else:
        indices = _indices(dataset, names, whose, fix)
    found = len(np.unique(dataset.labels))
    remarks = [f"{dataset.name}: has {found} of {whose} {count} classes"] if found < count else []
    if dataset.classes == tuple(names):
        return dataset, tuple(remarks)
    return replace(dataset, labels=indices[dataset.labels], classes=tuple(names), keys=()), tuple(remarks)


def _indices(dataset: Dataset, names: Sequence[str], whose: str, fix: str) -> NDArray[np.int64]:
    """Class of the network of each class that the data set has images of, -1 for the others."""
    assert dataset.labels is not None
    check_labels(dataset, len(dataset.classes))
    known = imagenet_classes()
    ids = dict(zip(known.keys, known.names, strict=True))
    exact, by_form = Counter(names), defaultdict(set)
    for index, name in enumerate(names):
        for form in _forms(name, ids):
            by_form[form].add(index)
    indices = np.full(len(dataset.classes), -1, np.int64)
    unknown: list[str] = []
    for position in np.unique(dataset.labels).tolist():
        own = [*dataset.keys[position : position + 1], dataset.classes[position]]
        same = [names.index(name) for name in own if exact[name] == 1]
        alike = [min(by_form[form]) for name in own for form in _forms(name, ids) if len(by_form.get(form, ())) == 1]
        found = [*same, *alike]
        if found:
            indices[position] = found[0]
        else:
            unknown.append(own[0])
    if unknown:
        raise SqueezeEdgeError(
            f"{dataset.name}: {len(unknown)} of its classes are none of {whose}: {a_few(unknown)}; {whose} are "
            f"{a_few(names)}; {fix}"
        )
    for index, times in Counter(indices[indices >= 0].tolist()).items():
        if times > 1:
            several = [dataset.classes[position] for position in np.flatnonzero(indices == index).tolist()]
            raise SqueezeEdgeError(
                f"{dataset.name}: its classes {a_few(several)} are one of {whose}, {names[index]!r}; {fix}"
            )
    return indices


def _forms(name: str, ids: Mapping[str, str]) -> Iterator[str]:
    """What a class may be called, without case and separators."""
    yield folded(name)
    if name in ids:
        yield folded(ids[name])
