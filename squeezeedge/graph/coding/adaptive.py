"""Adaptive distributions: small whole numbers, and the arrays beside the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.coding.coder import Coder
from squeezeedge.graph.coding.rans import TOTAL

__all__ = ["Adaptive", "chunks", "code_side"]

Integers = NDArray[np.int64]

LONGEST = 64
"""Most symbols between two updates."""
FLOOR = 256
"""Frequencies that are given away to symbols never seen."""
INCREMENT = 16
"""What a symbol adds to its count; all counts begin at 1."""
BYTE_PARTS = ((0, 8),)
FLOAT_PARTS = ((23, 9), (15, 8), (7, 8), (0, 7))
"""Of an element's bits: the lowest of each part, and how many."""
LIMIT = 1 << 16
"""Counts are halved when their sum reaches this."""


def chunks(count: int, size: int, longest: int) -> list[slice]:
    """The parts of an array between which models learn: of ``size`` symbols, of twice as many, ..., of ``longest``."""
    parts, first = [], 0
    while first < count:
        parts.append(slice(first, min(first + size, count)))
        first, size = first + size, min(2 * size, longest)
    return parts


class Adaptive:
    """One distribution of symbols 0..size - 1, learned from those coded before.

    The cumulative frequency of symbol s is ``s * q + (sum of the counts below s) * (TOTAL - size * q) // (sum of
    all)``, with q = 256 // size or 1: no symbol is free.
    """

    def __init__(self, size: int) -> None:
        self._counts = np.ones(size, np.int64)
        self._part = 1

    def code(self, coder: Coder, count: int, values: Integers | None) -> Integers:
        """Code an array of ``count`` symbols."""
        result = np.empty(count, np.int64)
        size = len(self._counts)
        least = max(FLOOR // size, 1)
        for part in chunks(count, self._part, LONGEST):
            self._part = min(2 * self._part, LONGEST)
            sums = np.concatenate([[0], np.cumsum(self._counts)])
            cumulative = np.arange(size + 1) * least + sums * (TOTAL - size * least) // sums[-1]
            known = None if values is None else values[part]
            result[part] = coder.table(cumulative, part.stop - part.start, known)
            self._counts += INCREMENT * np.bincount(result[part], minlength=size)
            if self._counts.sum() >= LIMIT:
                self._counts = (self._counts + 1) >> 1
        return result


def code_side(coder: Coder, dtype: np.dtype[Any], count: int, array: NDArray[Any] | None) -> NDArray[Any]:
    """Code ``count`` elements of a type with distributions of their own.

    uint8: the value. int32: the number of bits of its magnitude, then its sign and what follows the highest bit.
    float32, as its 32 bits: sign and exponent, then the mantissa in 8, 8 and 7 bits.

    Args:
        coder: encoder or decoder.
        dtype: uint8, int8, int32 or float32.
        count: how many.
        array: the elements, one-dimensional; ``None`` to decode.

    Raises:
        CorruptFileError: an int32 has no such magnitude.
    """
    if dtype == np.int32:
        return _code_integers(coder, count, None if array is None else array.astype(np.int64))
    unsigned = np.dtype(f"u{dtype.itemsize}")
    bits = None if array is None else array.view(unsigned).astype(np.int64)
    result = np.zeros(count, np.int64)
    for shift, width in FLOAT_PARTS if dtype.itemsize == 4 else BYTE_PARTS:
        part = None if bits is None else bits >> shift & (1 << width) - 1
        result |= Adaptive(1 << width).code(coder, count, part) << shift
    return result.astype(unsigned).view(dtype)


def _code_integers(coder: Coder, count: int, values: Integers | None) -> NDArray[np.int32]:
    length = None if values is None else np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)
    length = Adaptive(33).code(coder, count, length)

    def even(where: NDArray[np.bool_], bits: Integers | None) -> Integers:
        return coder.binary(np.full(int(where.sum()), TOTAL // 2), None if bits is None else bits[where])

    negative = np.zeros(count, np.int64)
    negative[length > 0] = even(length > 0, None if values is None else (values < 0).astype(np.int64))
    magnitude = np.int64(1) << length >> 1
    for place in range(31):
        has = length > place + 1
        magnitude[has] |= even(has, None if values is None else np.abs(values) >> place & 1) << place
    result = np.where(negative == 1, -magnitude, magnitude)
    if (result != result.astype(np.int32)).any():
        raise CorruptFileError("a value has more than 32 bits")
    return result.astype(np.int32)
