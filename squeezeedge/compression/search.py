"""Search for the price of a bit that meets a goal, along the curve of size against quality.

A price is given by the quality that it aims at, in decibels. The price of a bit is

    2 ln 2 * P * 10^(-quality / 10) / weights

with P the images' mean of the summed squared logits. One more bit saves this much at an error that many decibels below
P, because one more bit for every weight divides the error by four. Bytes and drops are nearly monotone in the quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["BEST", "NEAR", "WORST", "Point", "found", "price_of_bit"]

WORST, BEST = 2.0, 62.0
"""The range of qualities that is searched, in decibels."""
START = 30.0
MOST_POINTS = 8
NEAR = 0.2
"""The search ends within this many decibels of the goal."""
EDGE = 0.1
"""Share of the bracket at each end in which no point is tried."""
STRIDE = 1.1
"""Steps go further by this factor than the slope says, until a bracket holds the answer."""
FLATTEST, LONGEST = 0.1, 16.0
"""Least slope of the excess that is assumed, and longest step in decibels."""


@dataclass(frozen=True)
class Point:
    """One compressed graph, judged.

    Attributes:
        quality: what its price of a bit aims at, in decibels; ``None``: the uncompressed graph.
        bytes: of its file.
        agreement: expected percentage of images on which it gives the uncompressed graph's class.
        sqnr_db: signal to noise of its logits beside the uncompressed graph's; ``None`` where they are equal.
        top1: expected percentage of images on which it gives the right class; ``None`` without labels.
        top1_drop: by how much that is less than the uncompressed graph's, in points; ``None`` without labels.
    """

    quality: float | None
    bytes: int
    agreement: float
    sqnr_db: float | None
    top1: float | None = None
    top1_drop: float | None = None

    @property
    def drop(self) -> float:
        """The larger one of both drops, in points."""
        return max(100 - self.agreement, self.top1_drop or 0.0)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return vars(self) | {"drop": self.drop}


def price_of_bit(quality: float, power: float, weights: int) -> float:
    """Squared error of the logits that a bit is worth; see the module.

    Args:
        quality: in decibels.
        power: mean over images of the sum of the squared logits.
        weights: how many there are.
    """
    return 2 * math.log(2) * power * 10 ** (-quality / 10) / weights


def found(walk: Callable[[float], Point], excess: Callable[[Point], float], *, feasible_above: bool) -> list[Point]:
    """Search for the quality at which ``excess`` is zero, by secants within a bracket (Dowell and Jarratt, 1971).

    Args:
        walk: quality -> that point of the curve.
        excess: by how many decibels, about, a point is better than what is looked for.
        feasible_above: whether points of more quality meet the goal, else those of less.

    Returns:
        All points in the order of their making.
    """
    points: list[Point] = []
    low: tuple[float, float] | None = None  # (quality, its excess), below zero
    high: tuple[float, float] | None = None
    before: tuple[float, float] | None = None
    quality = START
    while len(points) < MOST_POINTS:
        points.append(walk(quality))
        more = excess(points[-1])
        meets = more >= 0 if feasible_above else more <= 0
        if (meets and abs(more) < NEAR) or (quality == WORST and more >= 0) or (quality == BEST and more <= 0):
            break
        if more > 0:
            high = quality, more
        else:
            low = quality, more
        if low is not None and high is not None:
            width = high[0] - low[0]
            if width < NEAR:
                break
            share = -low[1] / (high[1] - low[1])
            quality = low[0] + width * min(max(share, EDGE), 1 - EDGE)
        else:
            slope = (more - before[1]) / (quality - before[0]) if before is not None else 1.0
            before = quality, more
            stride = max(-LONGEST, min(LONGEST, STRIDE * more / max(slope, FLATTEST)))
            quality = min(max(quality - stride, WORST), BEST)
    return points
