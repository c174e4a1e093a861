"""What the encoder states of a convolution's weights: chosen so that the code is short; any choice can be decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.coding.planes import Planes

__all__ = ["COEFFICIENT", "STEPS", "Fit", "Sides", "fit"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Sides = tuple[Integers, Integers, Integers]
"""For rows [out], columns [in or 1] and planes [count], added up for a weight."""

STEPS = 2
"""Magnitudes are stated in steps of 1/2 octave, odds likewise."""
COEFFICIENT = 32
"""Coefficients are stated in steps of 1/32."""
DENSE = 0.85
"""From this share of weights that are not 0, nothing is stated of the odds."""
SHRINK = 4.0
"""So many weights' worth of what holds for the whole kernel enters each row and column."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters, all int64.

    Attributes:
        magnitudes: log2 of the expected magnitude of weights that are not 0, in steps of 1/2.
        odds: log2 of the odds that a weight is not 0, likewise; ``None`` for a dense kernel.
        coefficients: of the weights' neighbours, in steps of 1/32.
    """

    magnitudes: Sides
    odds: Sides | None
    coefficients: Integers


PULL = 3.0
"""Weight of the prior of odds: the inverse of their variance."""

AXES = ((0, 2), (0, 1), (1, 2))
"""Of planes [count, out, in]: all but rows, columns, planes."""
SIDES = (1, 2, 0)


def _spread(values: Floats | Integers, index: int) -> Floats:
    shape = [1, 1, 1]
    shape[SIDES[index]] = -1
    return values.reshape(shape).astype(np.float64)


def fit(planes: Planes, values: Integers) -> Fit:
    """Choose for the values int64 [count, out, in]."""
    used = (values != 0).astype(np.float64)
    coefficients = _regression(planes, values)
    magnitudes = _magnitudes(np.abs(values).astype(np.float64), used)
    return Fit(magnitudes, None if used.mean() >= DENSE else _odds(used), coefficients)


def _magnitudes(sizes: Floats, used: Floats) -> Sides:
    levels = [np.zeros(side) for side in (sizes.shape[1], sizes.shape[2], sizes.shape[0])]
    mean = sizes.sum() / max(used.sum(), 1) or 1.0
    levels[0] += np.log2(mean)
    for _ in range(4):
        for index in range(3):
            others = sum(_spread(level, other) for other, level in enumerate(levels) if other != index)
            expected = (np.exp2(others) * used).sum(AXES[index])
            base = SHRINK * mean if index else SHRINK
            level = np.log2((sizes.sum(AXES[index]) + SHRINK * mean) / (expected + base))
            levels[index] = np.round(STEPS * level) / STEPS
    rows, columns, places = ((STEPS * level).astype(np.int64) for level in levels)
    return rows, columns, places


def _odds(used: Floats) -> Sides:
    """Fitted by Newton's steps on each side in turn, with a normal prior."""
    levels = [np.zeros(side) for side in (used.shape[1], used.shape[2], used.shape[0])]
    share = (used.sum() + 1) / (used.size + 2)
    common = np.log(share / (1 - share))
    for _ in range(8):
        for index in range(3):
            total = common + sum(_spread(level, other) for other, level in enumerate(levels))
            chance = 1 / (1 + np.exp(-np.clip(total, -9, 9)))
            gradient = (used - chance).sum(AXES[index]) - PULL * levels[index]
            curvature = (chance * (1 - chance)).sum(AXES[index]) + 0.5
            levels[index] = levels[index] + np.clip(gradient / curvature, -1.5, 1.5)
    levels[0] = levels[0] + common
    rows, columns, places = (np.round(STEPS / np.log(2) * level).astype(np.int64) for level in levels)
    return rows, columns, places


def _regression(planes: Planes, values: Integers) -> Integers:
    """Least squares of every weight on its neighbours; sums are exact, so that machines agree."""
    result = np.zeros(planes.coefficients, np.int64)
    groups: dict[int, list[int]] = {}
    for plane, neighbours in enumerate(planes.neighbours):
        if neighbours:
            groups.setdefault(planes.first[plane], []).append(plane)
    for first, members in groups.items():
        size = planes.size[members[0]]
        rows = np.zeros((len(members), size, values[0].size), np.int64)
        for row, plane in zip(rows, members, strict=True):
            for other, slot in planes.neighbours[plane]:
                row[slot - first] = values[other].ravel()
        targets = values[members].reshape(len(members), -1)
        square = np.einsum("pin,pjn->ij", rows, rows) + np.eye(size)
        product = np.einsum("pin,pn->i", rows, targets)
        solution = np.linalg.solve(square, product)
        result[first : first + size] = np.clip(np.round(COEFFICIENT * solution), -2 * COEFFICIENT, 2 * COEFFICIENT)
    return result
