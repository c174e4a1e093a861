"""Rules R1-R7 of the integer graph (ARCHITECTURE.md) as numbers and arithmetic, each stated here and nowhere else.

Whoever needs a limit reads it as ``rules.NAME`` when it is needed, so that the value in this file is the only one.
A target whose hardware or arithmetic has a narrower limit states that limit in its own folder and refuses the graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLOAT32_EXACT",
    "INT32_LIMIT",
    "MAX_SHIFT",
    "Q_MAX",
    "SIGN",
    "WEIGHT_LIMIT",
    "ZERO_POINTS",
    "Shape",
    "accumulator_reach",
    "clip",
    "rounding_shift",
    "rounding_term",
    "wrap_int32",
]

Q_MAX = 255
"""R1: a q lies in 0..Q_MAX."""

ZERO_POINTS = (0, 128)
"""R1: of a tensor without negatives, and of one with them."""

WEIGHT_LIMIT = 127
"""R3: a weight lies in -WEIGHT_LIMIT..WEIGHT_LIMIT."""

MAX_SHIFT = 15
"""R3, R5: a shift k lies in 0..MAX_SHIFT."""

INT32_LIMIT = 2**31
"""R4, R6: no accumulator, and no sum of accumulators, reaches this magnitude."""

SIGN = 128
"""R7: signed storage holds q - SIGN; that is q ^ 0x80 taken as int8."""

FLOAT32_EXACT = 2**24
"""Every integer below this magnitude is a float32, so sums that stay below it are exact in float32."""

Integers = TypeVar("Integers", bound=Any)


class Shape(NamedTuple):
    """Size of a tensor: the one order in which this project writes it, whatever the order in memory."""

    height: int
    width: int
    channels: int


def rounding_term(shift: Integers) -> Integers:
    """What R3 and R5 add before a right shift by k: 1 << (k - 1), or 0 for k = 0.

    Args:
        shift: k as an int, or an array or torch tensor of a type that holds 1 << k (not uint8).
    """
    return cast(Integers, (1 << shift) >> 1)


def rounding_shift(acc: NDArray[np.int32], shift: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(acc + rounding term) >> k, arithmetic (R3).

    Args:
        acc: int32 [..., channels].
        shift: uint8 [channels], k.

    Returns:
        int32, of the shape of ``acc``.
    """
    k = shift.astype(np.int32)
    result = acc + rounding_term(k)
    result >>= k
    return result


def clip(value: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Clip to 0..Q_MAX (R3, R5): int32 -> uint8 of the same shape."""
    return value.clip(0, Q_MAX).astype(np.uint8)


def accumulator_reach(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """Largest magnitude of sum w * (q - z) over all inputs (R4): Q_MAX * sum |w|.

    Args:
        weight: int8 [out, ...].

    Returns:
        int64 [out].
    """
    magnitudes: NDArray[np.int64] = np.abs(weight.astype(np.int16)).reshape(len(weight), -1).sum(1, dtype=np.int64)
    return Q_MAX * magnitudes


def wrap_int32(value: NDArray[np.int64]) -> NDArray[np.int32]:
    """Wrap modulo 2**32, like int32 arithmetic. An intermediate bias may leave int32; the accumulator does not (R4)."""
    return value.astype(np.uint32).view(np.int32)
