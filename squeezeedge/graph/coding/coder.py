"""Encoder and decoder with one interface, so that a model is one walk that both take.

Every method codes one array. The encoder is given the values and returns them; the decoder is given ``None`` and
returns what it decoded.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.coding.rans import TOTAL, TOTAL_BITS, Reader, words_of

__all__ = ["CERTAIN", "Coder", "Decoder", "Encoder", "Family"]

Integers = NDArray[np.int64]

CERTAIN = TOTAL // 128
"""Least frequency of a binary symbol, so that no symbol is free."""


class Family:
    """Symbols 0..count - 1 whose cumulative frequencies are steps of given functions.

    A function is given by its rises, each over ``step`` units, and is linear in between. The cumulative frequency of
    symbol n > 0 is ``n + (f(place + bound[n]) - f(place + bound[0])) * scale >> 32``, where f sums all rises below,
    and scale = ``((TOTAL - count) << 32) // (f(end) - f(place + bound[0]))``; that of 0 is 0, that of count is TOTAL.
    """

    def __init__(self, rises: Integers, bounds: Integers, place: Integers, end: Integers, step: int) -> None:
        """State the functions.

        Args:
            rises: int64, positive: of all functions, one after the other.
            bounds: int64 [count]: of each symbol.
            place: int64 [n]: what to add to them for each coded symbol.
            end: int64 [n]: number of rises up to the end of its function.
            step: a power of two.
        """
        self._bits = step.bit_length() - 1
        self._rises = np.append(rises, 0)
        self._sums = np.concatenate([[0], np.cumsum(rises)]) << self._bits
        self._bounds, self.place = bounds, place
        self._base = self._at(place + bounds[0])
        self._scale = ((TOTAL - len(bounds)) << 32) // (self._sums[end] - self._base)

    def _at(self, units: Integers) -> Integers:
        index = units >> self._bits
        result: Integers = self._sums[index] + self._rises[index] * (units & (1 << self._bits) - 1)
        return result

    def _cumulative(self, values: Integers, part: slice) -> Integers:
        inside = np.minimum(values, len(self._bounds) - 1)
        steps = self._at(self.place[part] + self._bounds[inside]) - self._base[part]
        return np.where(values == len(self._bounds), TOTAL, inside + (steps * self._scale[part] >> 32))

    def parts(self, values: Integers, part: slice = slice(None)) -> tuple[Integers, Integers]:
        """Starts and frequencies of these symbols."""
        start = self._cumulative(values, part)
        return start, self._cumulative(values + 1, part) - start

    def find(self, slots: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
        """The symbols that these slots are of, see :data:`squeezeedge.graph.coding.rans.Slots`."""
        values = np.zeros_like(slots)
        step = 1 << (len(self._bounds) - 1).bit_length() - 1
        while step:
            tried = np.minimum(values + step, len(self._bounds) - 1)
            values = np.where(self._cumulative(tried, part) <= slots, tried, values)
            step >>= 1
        return values, *self.parts(values, part)


class Coder(Protocol):
    """What a model needs."""

    def binary(self, ones: Integers, values: Integers | None) -> Integers:
        """Zeros and ones; ``ones``: int64 [n], the frequency of 1, CERTAIN..TOTAL - CERTAIN."""

    def table(self, cumulative: Integers, count: int, values: Integers | None) -> Integers:
        """``count`` symbols of one distribution; ``cumulative``: int64 [symbols + 1], from 0 to TOTAL."""

    def family(self, family: Family, values: Integers | None) -> Integers:
        """Symbols of a distribution each."""


class Encoder:
    """Collects symbols.

    Attributes:
        bits: the code's length so far, without the states.
    """

    def __init__(self) -> None:
        self._arrays: list[tuple[Integers, Integers]] = []

    @property
    def symbols(self) -> int:
        """How many there are."""
        return sum(len(starts) for starts, _ in self._arrays)

    @property
    def bits(self) -> float:
        """Length of the code without its states, ideally."""
        return math.fsum(float((TOTAL_BITS - np.log2(frequency)).sum()) for _, frequency in self._arrays)

    def code(self, width: int) -> bytes:
        """The code with so many states."""
        return words_of(self._arrays, width)

    def binary(self, ones: Integers, values: Integers | None) -> Integers:
        assert values is not None
        one = values == 1
        self._arrays.append((np.where(one, 0, ones), np.where(one, ones, TOTAL - ones)))
        return values

    def table(self, cumulative: Integers, count: int, values: Integers | None) -> Integers:
        assert values is not None
        self._arrays.append((cumulative[values], np.diff(cumulative)[values]))
        return values

    def family(self, family: Family, values: Integers | None) -> Integers:
        assert values is not None
        self._arrays.append(family.parts(values))
        return values


class Decoder:
    """Decodes them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def binary(self, ones: Integers, values: Integers | None) -> Integers:
        def slots(slot: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
            border = ones[part]
            one = slot < border
            return one.astype(np.int64), np.where(one, 0, border), np.where(one, border, TOTAL - border)

        return self._reader.read(len(ones), slots)

    def table(self, cumulative: Integers, count: int, values: Integers | None) -> Integers:
        def slots(slot: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
            symbol = np.searchsorted(cumulative, slot, "right") - 1
            return symbol, cumulative[symbol], cumulative[symbol + 1] - cumulative[symbol]

        return self._reader.read(count, slots)

    def family(self, family: Family, values: Integers | None) -> Integers:
        return self._reader.read(len(family.place), family.find)
