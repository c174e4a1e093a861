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

__all__ = ["CERTAIN", "Coder", "Decoder", "Encoder", "Family", "Knots"]

Integers = NDArray[np.int64]

CERTAIN = TOTAL // 128
"""Least frequency of a binary symbol, so that no symbol is free."""


class Knots:
    """Symbols 0..count - 1 in runs; those of a run are about equally likely.

    Attributes:
        first: int64 [runs + 1]: the first symbol of each run, and count.
        bounds: int64 [runs]: where each run begins in the units of a :class:`Family`.
        run: int64 [count]: of each symbol.
    """

    def __init__(self, first: Integers, bounds: Integers) -> None:
        self.first, self.bounds = first, bounds
        self.run = np.repeat(np.arange(len(bounds)), np.diff(first))
        self.steps = [1 << bit for bit in reversed(range((len(bounds) - 1).bit_length()))]
        beyond = (2 << len(self.steps)) - len(bounds)  # no search finds what begins there
        self.search_bounds = np.append(bounds, np.full(beyond, bounds[0]))
        self.search_first = np.append(first[:-1], np.full(beyond, 2 * TOTAL))


class Family:
    """Runs of symbols whose cumulative frequencies are steps of given functions.

    A function is given by its rises, each over ``step`` units, and is linear in between. The cumulative frequency of a
    run that begins with symbol n is ``n + (f(place + bound) - f(place + first bound)) * scale >> 32``, where f sums all
    rises below, and scale = ``((TOTAL - count) << 32) // (f(end) - f(place + first bound))``. A run of w symbols that
    takes F frequencies from c gives its symbol i those from ``c + F * i // w``.
    """

    def __init__(self, knots: Knots, rises: Integers, step: int, place: Integers, end: Integers) -> None:
        """State the functions.

        Args:
            knots: the symbols.
            rises: int64, positive: of all functions, one after the other.
            step: a power of two.
            place: int64 [n]: what to add to the bounds for each coded symbol.
            end: int64 [n]: number of rises up to the end of its function.
        """
        self._knots, self._bits, self._place = knots, step.bit_length() - 1, place
        self._rises = np.append(rises, 0)
        self._sums = np.concatenate([[0], np.cumsum(rises)]) << self._bits
        self._base = self._at(place + knots.bounds[0])
        self._scale = ((TOTAL - knots.first[-1]) << 32) // (self._sums.take(end) - self._base)

    def __len__(self) -> int:
        return len(self._place)

    def _at(self, units: Integers) -> Integers:
        index = units >> self._bits
        units &= (1 << self._bits) - 1
        units *= self._rises.take(index)
        units += self._sums.take(index)
        return units

    def parts(self, values: Integers) -> tuple[Integers, Integers]:
        """Starts and frequencies of all symbols."""
        knots = self._knots
        run = knots.run[values]

        def cumulative(run: Integers) -> Integers:
            inside = np.minimum(run, len(knots.bounds) - 1)
            steps = self._at(self._place + knots.bounds[inside]) - self._base
            return np.where(run == len(knots.bounds), TOTAL, knots.first[inside] + (steps * self._scale >> 32))

        start, width, i = cumulative(run), np.diff(knots.first)[run], values - knots.first[run]
        frequency = cumulative(run + 1) - start
        low = frequency * i // width
        return start + low, frequency * (i + 1) // width - low

    def find(self, slots: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
        """The symbols that these slots are of, see :data:`squeezeedge.graph.coding.rans.Slots`."""
        knots, place, base, scale = self._knots, self._place[part], self._base[part], self._scale[part]

        def cumulative(run: Integers) -> Integers:
            reached = knots.search_bounds.take(run)
            reached += place
            reached = self._at(reached)
            reached -= base
            reached *= scale
            reached >>= 32
            reached += knots.search_first.take(run)
            return reached

        run = np.zeros_like(slots)
        for step in knots.steps:
            tried = run + step
            np.copyto(run, tried, where=cumulative(tried) <= slots)
        start, after = cumulative(run), run + 1
        frequency = np.minimum(cumulative(after), TOTAL)
        frequency -= start
        first = knots.first.take(run)
        width = knots.first.take(after)
        width -= first
        i = ((slots - start + 1) * width - 1) // frequency
        low = frequency * i // width
        return first + i, start + low, frequency * (i + 1) // width - low


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

    def code(self, width: int, rest: bytes = b"") -> bytes:
        """The code with so many states, and bytes beside the symbols."""
        return words_of(self._arrays, width, rest)

    def binary(self, ones: Integers, values: Integers | None) -> Integers:
        """See :class:`Coder`."""
        assert values is not None
        one = values == 1
        self._arrays.append((np.where(one, 0, ones), np.where(one, ones, TOTAL - ones)))
        return values

    def table(self, cumulative: Integers, count: int, values: Integers | None) -> Integers:
        """See :class:`Coder`."""
        assert values is not None
        self._arrays.append((cumulative[values], np.diff(cumulative)[values]))
        return values

    def family(self, family: Family, values: Integers | None) -> Integers:
        """See :class:`Coder`."""
        assert values is not None
        self._arrays.append(family.parts(values))
        return values


class Decoder:
    """Decodes them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def binary(self, ones: Integers, values: Integers | None) -> Integers:
        """See :class:`Coder`."""

        def slots(slot: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
            border = ones[part]
            one = slot < border
            return one.astype(np.int64), np.where(one, 0, border), np.where(one, border, TOTAL - border)

        return self._reader.read(len(ones), slots)

    def table(self, cumulative: Integers, count: int, values: Integers | None) -> Integers:
        """See :class:`Coder`."""

        def slots(slot: Integers, part: slice) -> tuple[Integers, Integers, Integers]:
            symbol = np.searchsorted(cumulative, slot, "right") - 1
            return symbol, cumulative[symbol], cumulative[symbol + 1] - cumulative[symbol]

        return self._reader.read(count, slots)

    def family(self, family: Family, values: Integers | None) -> Integers:
        """See :class:`Coder`."""
        return self._reader.read(len(family), family.find)
