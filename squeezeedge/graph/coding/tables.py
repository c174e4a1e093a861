"""Logarithms and powers of two as integers: the same on every machine.

A logarithm is a whole number of parts of 1/256 octave, rounded down. Both functions are exact by construction.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["OCTAVE", "exp2", "log2", "log2_of"]

OCTAVE = 256
"""Steps of a logarithm in one octave."""

MANTISSA_BITS = 8
_MANTISSA = np.array([(value**OCTAVE).bit_length() - 1 for value in range(1 << MANTISSA_BITS, 2 << MANTISSA_BITS)])
"""floor(256 * log2(v)) of every v in 256..511."""


def log2_of(value: int) -> int:
    """floor(256 * log2(value)) of a positive whole number."""
    return int((value**OCTAVE).bit_length() - 1)


def log2(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """256 * log2 of each value's nine leading bits, rounded down: int64 of the same shape.

    Args:
        values: int64, 1..2**52.
    """
    mantissa, exponent = np.frexp(values.astype(np.float64))  # both exact
    leading = (mantissa * (2 << MANTISSA_BITS)).astype(np.int64) - (1 << MANTISSA_BITS)
    result: NDArray[np.int64] = _MANTISSA[leading] + OCTAVE * (exponent.astype(np.int64) - 1 - MANTISSA_BITS)
    return result


def exp2(steps: int, fraction_bits: int) -> int:
    """floor(2**fraction_bits * 2**(steps / 256)); 0 if that is below 1."""
    power = steps + OCTAVE * fraction_bits
    if power < 0:
        return 0
    value = 1 << power
    for _ in range(OCTAVE.bit_length() - 1):  # the floor of a root of the floor of a root is the floor of both
        value = math.isqrt(value)
    return value
