"""Figures by which two sets of logits are compared."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["agreement", "percentiles", "sqnr_db", "topk_accuracy"]

Logits = NDArray[np.float32]


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
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return 100 * float((ranked == labels[:, None]).any(1).mean())


def agreement(logits: Logits, reference: Logits) -> float:
    """Percentage of rows with the same largest logit; rows that are not finite agree with none."""
    finite = np.isfinite(logits).all(1) & np.isfinite(reference).all(1)
    return 100 * float((finite & (logits.argmax(1) == reference.argmax(1))).mean())


def sqnr_db(reference: Logits, logits: Logits) -> float | None:
    """Signal to quantization noise ratio in decibels, over all logits.

    Returns:
        10 log10(sum r^2 / sum (r - l)^2); ``None`` (infinite) if they are equal.
    """
    wide = reference.astype(np.float64)
    signal, noise = float((wide**2).sum()), float(((wide - logits) ** 2).sum())
    if noise == 0 or signal == 0:
        return None
    return 10 * math.log10(signal / noise)


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Median, 90th percentile and least of some times, float64 [N], in their unit."""
    p50, p90 = np.percentile(values, [50, 90])
    return {"p50": float(p50), "p90": float(p90), "min": float(values.min())}
