"""Figures by which two sets of logits are compared: of all at once, or added up as they come."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tally", "agreement", "percentiles", "sqnr_db", "topk_accuracy"]

Logits = NDArray[np.float32]


class Tally:
    """Counts and sums over logits that come batch by batch; none of the logits is kept.

    Attributes:
        images: how many logits' rows were added.
    """

    def __init__(self) -> None:
        self.images = self._labelled = self._compared = 0
        self._first = self._five = self._same = 0
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
            self._first += _hits(logits, labels, 1)
            self._five += _hits(logits, labels, 5)
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
    def agreement(self) -> float | None:
        """As :func:`agreement` of all; ``None`` without a reference."""
        return _percent(self._same, self._compared)

    @property
    def sqnr_db(self) -> float | None:
        """As :func:`sqnr_db` of all; ``None`` without a reference, too."""
        return _decibels(self._signal, self._noise)


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


def _hits(logits: Logits, labels: NDArray[np.int64], k: int) -> int:
    """Rows whose label is among the k largest logits; what is not a number is never among them."""
    of_label = np.take_along_axis(logits, labels[:, None], 1)
    lower_index = np.arange(logits.shape[1]) < labels[:, None]
    before = ~(logits <= of_label) | ((logits == of_label) & lower_index)
    return int((before.sum(1) < k).sum())


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
