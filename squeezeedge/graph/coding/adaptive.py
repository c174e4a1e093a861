"""Adaptive distributions: small whole numbers, and the arrays beside the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.coding.coder import Coder
from squeezeedge.graph.coding.rans import TOTAL

__all__ = ["Adaptive", "SideModel", "chunks"]

Integers = NDArray[np.int64]

LONGEST = 256
"""Most symbols between two updates."""
INCREMENT = 8
"""What a symbol adds to its count; all counts begin at 1."""
LIMIT = 1 << 16
"""Counts are halved when their sum reaches this."""


def chunks(count: int, longest: int) -> list[slice]:
    """The parts of an array between which a distribution is updated: of 1, 2, 4, ... and then ``longest`` symbols."""
    parts, first, size = [], 0, 1
    while first < count:
        parts.append(slice(first, min(first + size, count)))
        first, size = first + size, min(2 * size, longest)
    return parts


class Adaptive:
    """One distribution of symbols 0..size - 1, learned from those coded before.

    The cumulative frequency of symbol s is ``s + (sum of the counts below s) * (TOTAL - size) // (sum of all)``.
    """

    def __init__(self, size: int) -> None:
        self._counts = np.ones(size, np.int64)

    def code(self, coder: Coder, count: int, values: Integers | None) -> Integers:
        """Code an array of ``count`` symbols."""
        result = np.empty(count, np.int64)
        size = len(self._counts)
        for part in chunks(count, LONGEST):
            sums = np.concatenate([[0], np.cumsum(self._counts)])
            cumulative = np.arange(size + 1) + sums * (TOTAL - size) // sums[-1]
            known = None if values is None else values[part]
            result[part] = coder.table(cumulative, part.stop - part.start, known)
            self._counts += INCREMENT * np.bincount(result[part], minlength=size)
            if self._counts.sum() >= LIMIT:
                self._counts = (self._counts + 1) >> 1
        return result


class SideModel:
    """Models of the arrays beside the weights, one for each kind (the field's name).

    uint8: the value. int32: the number of bits of its magnitude, then its sign and what follows the highest bit.
    float32, as its 32 bits: sign and exponent, then the mantissa in 8, 8 and 7 bits.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], Adaptive] = {}

    def _code(self, coder: Coder, kind: str, part: str, size: int, count: int, values: Integers | None) -> Integers:
        return self._models.setdefault((kind, part), Adaptive(size)).code(coder, count, values)

    def code(self, coder: Coder, kind: str, dtype: np.dtype[Any], count: int, array: NDArray[Any] | None) -> Integers:
        """Code ``count`` elements; returns them as int64, of float32 as bits.

        Args:
            coder: encoder or decoder.
            kind: whose models.
            dtype: uint8, int8, int32 or float32.
            count: how many.
            array: the elements, one-dimensional; ``None`` to decode.
        """
        if dtype.itemsize == 1:
            bits = None if array is None else array.view(np.uint8).astype(np.int64)
            return self._code(coder, kind, "byte", 256, count, bits)
        if dtype == np.float32:
            bits = None if array is None else array.view(np.uint32).astype(np.int64)
            result = np.zeros(count, np.int64)
            for shift, size in ((23, 9), (15, 8), (7, 8), (0, 7)):
                part = None if bits is None else bits >> shift & (1 << size) - 1
                result |= self._code(coder, kind, str(shift), 1 << size, count, part) << shift
            return result
        return self._integers(coder, kind, count, None if array is None else array.astype(np.int64))

    def _integers(self, coder: Coder, kind: str, count: int, values: Integers | None) -> Integers:
        size = None if values is None else np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)
        size = self._code(coder, kind, "size", 33, count, size)
        sign = None if values is None else (values < 0).astype(np.int64)[size > 0]
        magnitude = np.where(size > 0, np.int64(1) << np.maximum(size - 1, 0), 0)
        half = np.full(int((size > 0).sum()), TOTAL // 2)
        negative = np.zeros(count, np.int64)
        negative[size > 0] = coder.binary(half, sign)
        for place in range(31):
            has = size > place + 1
            if not has.any():
                break
            bit = None if values is None else (np.abs(values) >> place & 1)[has]
            magnitude[has] |= coder.binary(np.full(int(has.sum()), TOTAL // 2), bit) << place
        return np.where(negative == 1, -magnitude, magnitude)
