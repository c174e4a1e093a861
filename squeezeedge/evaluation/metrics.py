"""Metrics that compare two sets of logits, all at once or batch by batch."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Interval",
    "Tally",
    "agreement",
    "paired_interval",
    "percentiles",
    "sqnr_db",
    "sums_error",
    "topk_accuracy",
    "wilson_interval",
]

Logits = NDArray[np.float32]
Interval: TypeAlias = tuple[float, float]
"""Lower and upper end, in percent or points."""

_Z = NormalDist().inv_cdf(0.975)
"""Of intervals with a confidence of 95 %."""


class Tally:
    """Counts and sums over logits that come batch by batch; none of the logits is kept.

    Attributes:
        images: how many logits' rows were added.
    """

    def __init__(self) -> None:
        self.images = self._labelled = self._compared = 0
        self._first = self._five = self._same = 0
        self._paired = self._gained = self._lost = 0
        self._signal = self._noise = 0.0

    def add(self, logits: Logits, labels: NDArray[np.int64] | None, reference: Logits | None) -> None:
        """Add a batch.

        Args:
            logits: float32 [n, classes].
            labels: int64 [n], or ``None`` if unknown.
            reference: float32 [n, classes] of the same images, or ``None`` if unknown.
        """
        self.images += len(logits)
        if labels is not None:
            self._labelled += len(labels)
            right = _among_first(logits, labels, 1)
            self._first += int(right.sum())
            self._five += _hits(logits, labels, 5)
            if reference is not None:
                before = _among_first(reference, labels, 1)
                self._paired += len(labels)
                self._gained += int((right & ~before).sum())
                self._lost += int((before & ~right).sum())
        if reference is not None:
            self._compared += len(reference)
            self._same += int(_agreeing(logits, reference).sum())
            signal, noise = _powers(reference, logits)
            self._signal, self._noise = self._signal + signal, self._noise + noise

    @property
    def top1(self) -> float | None:
        """As :func:`topk_accuracy` of all."""
        return _percent(self._first, self._labelled)

    @property
    def top5(self) -> float | None:
        """As :func:`topk_accuracy` of all."""
        return _percent(self._five, self._labelled)

    @property
    def top1_interval(self) -> Interval | None:
        """As :func:`wilson_interval` of :attr:`top1`."""
        return wilson_interval(self._first, self._labelled)

    @property
    def top1_difference(self) -> float | None:
        """Points of top-1 accuracy above the reference's; ``None`` without labels or reference."""
        return _percent(self._gained - self._lost, self._paired)

    @property
    def top1_difference_interval(self) -> Interval | None:
        """As :func:`paired_interval` of :attr:`top1_difference`."""
        return paired_interval(self._gained, self._lost, self._paired)

    @property
    def changed(self) -> int | None:
        """Rows with another largest logit than the reference's; ``None`` without a reference."""
        return self._compared - self._same if self._compared else None

    @property
    def agreement(self) -> float | None:
        """As :func:`agreement` of all; ``None`` without a reference."""
        return _percent(self._same, self._compared)

    @property
    def sqnr_db(self) -> float | None:
        """As :func:`sqnr_db` of all; ``None`` without a reference, too."""
        return _decibels(self._signal, self._noise)


def sums_error(sums: NDArray[np.int32], expected: NDArray[np.int32]) -> float:
    """Largest difference of class sums, int32 [n, classes], from the expected ones, as a share of the largest one."""
    wide = expected.astype(np.int64)
    return float(np.abs(sums - wide).max() / max(1, np.abs(wide).max()))


def topk_accuracy(logits: Logits | None, labels: NDArray[np.int64] | None, k: int) -> float | None:
    """Percentage of rows whose label is among the k largest logits; equal logits rank by lower index.

    Args:
        logits: float32 [N, classes], or ``None`` if unknown.
        labels: int64 [N], or ``None`` if unknown.
        k: how many; at most the number of classes count.

    Returns:
        Percent, or ``None`` where logits or labels are unknown.
    """
    if logits is None or labels is None:
        return None
    return _percent(_hits(logits, labels, k), len(labels))


def agreement(logits: Logits, reference: Logits) -> float:
    """Percentage of rows with the same largest logit; rows that are not finite agree with none."""
    return 100 * float(_agreeing(logits, reference).mean())


def sqnr_db(reference: Logits, logits: Logits) -> float | None:
    """Signal to quantization noise ratio in decibels, over all logits.

    Returns:
        10 log10(sum r^2 / sum (r - l)^2); ``None`` (infinite) if they are equal.
    """
    return _decibels(*_powers(reference, logits))


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Median, 90th percentile and least of some times, float64 [N], in their unit."""
    p50, p90 = np.percentile(values, [50, 90])
    return {"p50": float(p50), "p90": float(p90), "min": float(values.min())}


def wilson_interval(hits: int, of: int) -> Interval | None:
    """Interval of an accuracy with a confidence of 95 %, in percent; ``None`` of no images.

    Wilson, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22 (1927).
    """
    if not of:
        return None
    share, z2 = hits / of, _Z**2 / of
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of)) / (1 + z2)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def paired_interval(gained: int, lost: int, of: int) -> Interval | None:
    """Interval of the difference between two accuracies on the same images, 95 %, in points; ``None`` of no images.

    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Stat. Med. 24 (2005):
    half an image is added to each of the four outcomes of a pair.

    Args:
        gained: images that the second is right on and the first is not.
        lost: images that the first is right on and the second is not.
        of: images.
    """
    if not of:
        return None
    pairs, discordant, difference = of + 2, gained + lost + 1, gained - lost
    half = _Z * math.sqrt(discordant - difference**2 / pairs) / pairs
    return 100 * max(-1.0, difference / pairs - half), 100 * min(1.0, difference / pairs + half)


def _hits(logits: Logits, labels: NDArray[np.int64], k: int) -> int:
    """Rows whose label is among the k largest logits."""
    return int(_among_first(logits, labels, k).sum())


def _among_first(logits: Logits, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether a row's label is among its k largest logits, bool [n]; what is not a number is never among them."""
    of_label = np.take_along_axis(logits, labels[:, None], 1)
    lower_index = np.arange(logits.shape[1]) < labels[:, None]
    before = ~(logits <= of_label) | ((logits == of_label) & lower_index)
    found: NDArray[np.bool_] = before.sum(1) < k
    return found


def _agreeing(logits: Logits, reference: Logits) -> NDArray[np.bool_]:
    """Which rows have the same largest logit; bool [N]."""
    finite = np.isfinite(logits).all(1) & np.isfinite(reference).all(1)
    same: NDArray[np.bool_] = finite & (logits.argmax(1) == reference.argmax(1))
    return same


def _percent(count: int, of: int) -> float | None:
    return 100 * count / of if of else None


def _powers(reference: Logits, logits: Logits) -> tuple[float, float]:
    """Sums of squares of the reference, and of the differences from it."""
    wide = reference.astype(np.float64)
    return float((wide**2).sum()), float(((wide - logits) ** 2).sum())


def _decibels(signal: float, noise: float) -> float | None:
    return None if noise == 0 or signal == 0 else 10 * math.log10(signal / noise)
