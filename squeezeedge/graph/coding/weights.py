"""The model of a convolution's weights; :mod:`squeezeedge.graph.coding` says what it means."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.coding.adaptive import Adaptive, chunks
from squeezeedge.graph.coding.coder import CERTAIN, Coder, Family, Knots
from squeezeedge.graph.coding.fit import COEFFICIENT, STEPS, Fit, Sides, fit
from squeezeedge.graph.coding.planes import Planes
from squeezeedge.graph.coding.rans import TOTAL
from squeezeedge.graph.coding.tables import OCTAVE, exp2, log2, log2_of

__all__ = ["WeightModel"]

Integers = NDArray[np.int64]

LONGEST = 4096
"""Most weights between two updates."""
SHORTEST = 128
"""Fewest, at a kernel's beginning."""

# What is stated
STATED = 63
"""Magnitudes, odds and coefficients are -STATED..STATED."""
STEP = OCTAVE // STEPS

# The expected magnitude
LOWEST, HIGHEST = -4 * OCTAVE, 8 * OCTAVE
"""Of its logarithm."""
FRACTION_BITS = 10
MAGNITUDES = np.array([exp2(level, FRACTION_BITS) for level in range(LOWEST, HIGHEST + 1)])
"""Expected magnitudes in steps of 2**-10."""
NEIGHBOUR_PRIOR = 6
"""So many weights of the expected magnitude are seen beside the neighbours."""

# Whether a weight is 0
LEVELS = 40
"""Levels of odds, half an octave each; the middle one is even."""
DENSE_LEVELS = 10
"""In a dense kernel the level stands for the magnitude; this one for 1."""
COUNTED, ADJACENT = 10, 4
"""Neighbours that are not 0 are counted to COUNTED - 1; which of the two adjacent ones are not 0."""
CONTEXTS = LEVELS * COUNTED * ADJACENT
ASSUMED = 3
"""Weight of what is assumed before anything is counted; a weight counts 2."""

# Signs
PREDICTIONS = 8
"""Predictions are told apart up to so many quarters of the expected magnitude, on either side of 0."""
ROWS = 2 * PREDICTIONS + 1

# Magnitudes, relative to the expected one
BEGIN = -10 * OCTAVE
BIN = OCTAVE // 4
BINS = 88
FIRST = np.array([*range(8), 9, 11, 13, 15, 19, 23, 27, 31, 39, 47, 55, 63, 79, 95, 111, 127])
"""First magnitudes of runs, less 1: quarters of octaves."""
KNOTS = Knots(FIRST, np.array([log2_of(2 * int(n) + 1) - OCTAVE for n in FIRST[:-1]]))
"""A run begins at the logarithm of its first magnitude less 1/2."""
POINTS = np.array([[log2_of(3 * n + 3 + third) - log2_of(3) for n in range(127)] for third in (-1, 0, 1)])
"""Logarithms of three points of each magnitude: itself less 1/3, itself, itself plus 1/3."""
POINT = 8
"""What a point adds to its bin."""
KEPT = 150 * len(POINTS) * POINT
"""To so much the sum of a distribution's bins is reduced when a kernel begins."""


def _first_bins() -> Integers:
    """Magnitudes of which a share of 2**(-1.25 x) is larger than x times the expected one."""
    larger = [exp2(-(320 * exp2(BEGIN + BIN * place, FRACTION_BITS) >> FRACTION_BITS), 20) for place in range(BINS + 1)]
    return np.array([1 + (480 * (low - high) >> 20) for low, high in pairwise(larger)])


def _even(level: int) -> int:
    """Of TOTAL, the share that odds of 2**(level / STEPS) are."""
    odds = exp2(STEP * level, 20)
    return TOTAL * odds // (odds + (1 << 20))


FIRST_BINS = _first_bins()
FIRST_ONES = np.array(
    [
        np.repeat(np.full(LEVELS, TOTAL * 19 // 20), COUNTED * ADJACENT),
        np.repeat([_even(level - LEVELS // 2) for level in range(LEVELS)], COUNTED * ADJACENT),
    ]
)
"""Assumed frequency of weights that are not 0 in each context: of dense kernels, of others."""


class _Known:
    """What is known of a kernel's planes, [planes, out, in] each.

    Attributes:
        values: int16: the weights.
        used: int8: 1 where they are not 0.
        sizes: int32: their magnitudes in steps of 2**-10.
        expected: int32: what was expected of these magnitudes before neighbours; 0 where a weight is 0.
    """

    def __init__(self, planes: Planes) -> None:
        shape = planes.count, *planes.shape
        self.values, self.used = np.zeros(shape, np.int16), np.zeros(shape, np.int8)
        self.sizes, self.expected = np.zeros(shape, np.int32), np.zeros(shape, np.int32)

    def end(self, plane: int) -> None:
        """All of a plane's weights are known."""
        np.abs(self.values[plane], out=self.sizes[plane])
        self.sizes[plane] <<= FRACTION_BITS
        self.used[plane] = self.values[plane] != 0
        self.expected[plane] *= self.used[plane]


class WeightModel:
    """Learns from weight to weight and from kernel to kernel of a graph."""

    def __init__(self) -> None:
        self._bins = np.tile(FIRST_BINS, (ROWS, 1))
        self._signs = np.full((ROWS, 2), 4, np.int64)
        self._counts = np.zeros((2, CONTEXTS, 2), np.int64)
        self._sparse = Adaptive(2)
        self._stated = [Adaptive(2 * STATED + 1) for _ in range(9)]

    def code(self, coder: Coder, shape: tuple[int, ...], weight: NDArray[np.int8] | None) -> NDArray[np.int8]:
        """Code a weight int8 [out, kernel_h, kernel_w, in]; ``None`` to decode it."""
        planes = Planes(shape)
        known = None if weight is None else planes.of(weight)
        stated = self._state(coder, planes, None if known is None else fit(planes, known))
        self._begin()
        coded = _Known(planes)
        size = SHORTEST
        for plane in range(planes.count):
            context = self._context(planes, stated, coded, plane)
            result = coded.values[plane].reshape(-1)
            for part in chunks(result.size, size, LONGEST):
                target = None if known is None else known[plane].reshape(-1)[part]
                result[part] = self._part(coder, [array[part] for array in context], stated.odds is not None, target)
                size = min(2 * size, LONGEST)
            coded.end(plane)
        return planes.weight(coded.values)

    def _begin(self) -> None:
        """Forget a part of what was learned."""
        total = self._bins.sum(1, keepdims=True)
        self._bins = np.maximum(self._bins * KEPT // np.maximum(total, KEPT), (FIRST_BINS + 2) // 3)
        self._signs = self._signs // 3 + 2
        self._counts = self._counts * 5 // 8

    def _state(self, coder: Coder, planes: Planes, chosen: Fit | None) -> Fit:
        """Code the parameters."""
        sparse = self._sparse.code(coder, 1, None if chosen is None else np.array([int(chosen.odds is not None)]))
        magnitudes = self._state_sides(coder, planes, 0, None if chosen is None else chosen.magnitudes)
        odds = self._state_sides(coder, planes, 4, None if chosen is None else chosen.odds) if sparse[0] else None
        coefficients = self._some(8, coder, planes.coefficients, None if chosen is None else chosen.coefficients)
        return Fit(magnitudes, odds, coefficients)

    def _state_sides(self, coder: Coder, planes: Planes, model: int, chosen: Sides | None) -> Sides:
        """Code what holds for all and for rows; for columns and planes if there are several."""
        out, channels = planes.shape
        middle = None if chosen is None else np.array([int(np.median(chosen[0]))])
        common = self._some(model, coder, 1, middle)
        sides = [self._some(model + 1, coder, out, None if chosen is None else chosen[0] - common) + common]
        for index, count in ((1, channels), (2, planes.count)):
            some = None if chosen is None else chosen[index]
            sides.append(self._some(model + 1 + index, coder, count, some) if count > 1 else np.zeros(1, np.int64))
        return sides[0], sides[1], sides[2]

    def _some(self, model: int, coder: Coder, count: int, values: Integers | None) -> Integers:
        known = None if values is None else np.clip(values, -STATED, STATED) + STATED
        return self._stated[model].code(coder, count, known) - STATED

    def _context(self, planes: Planes, stated: Fit, known: _Known, plane: int) -> list[Integers]:
        """Of each weight of a plane, int64 [weights]: level of its magnitude, context of its odds, prediction."""
        level = _clip(STEP * _sum(stated.magnitudes, plane), LOWEST, HIGHEST)
        expected = MAGNITUDES.take(level - LOWEST)
        known.expected[plane] = expected
        odds = level // STEP + DENSE_LEVELS if stated.odds is None else _sum(stated.odds, plane) + LEVELS // 2
        context = _clip(odds, 0, LEVELS - 1) * (COUNTED * ADJACENT)
        prediction = np.zeros_like(level)
        if planes.neighbours[plane]:
            prior = NEIGHBOUR_PRIOR * expected
            near = np.array([other for other, _ in planes.neighbours[plane]])
            level += log2(prior + known.sizes[near].sum(0)) - log2(prior + known.expected[near].sum(0))
            level = _clip(level, LOWEST, HIGHEST)
            context += np.minimum(known.used[near].sum(0), COUNTED - 1) * ADJACENT
            for bit, other in enumerate(planes.adjacent[plane]):
                if other >= 0:
                    context += known.used[other] << bit
            for other, slot in planes.neighbours[plane]:
                if coefficient := int(stated.coefficients[slot]):
                    prediction += coefficient * known.values[other]
            magnitude = MAGNITUDES.take(level - LOWEST)
            quarters = (prediction * (8 << FRACTION_BITS) // COEFFICIENT + magnitude) // (2 * magnitude)
            prediction = _clip(quarters, -PREDICTIONS, PREDICTIONS)
        return [np.ravel(array) for array in (level, context, prediction)]

    def _part(self, coder: Coder, context: list[Integers], sparse: bool, known: Integers | None) -> Integers:
        """Code some weights, then learn from them."""
        level, place, prediction = context
        counts = self._counts[int(sparse)]
        ones = (counts[:, 1] * TOTAL + ASSUMED * FIRST_ONES[int(sparse)]) // (counts.sum(1) + ASSUMED)
        used = coder.binary(_possible(ones).take(place), None if known is None else (known != 0).astype(np.int64))
        counts += 2 * np.bincount(2 * place + used, minlength=counts.size).reshape(counts.shape)

        (chosen,) = np.nonzero(used)
        level, prediction = level.take(chosen), prediction.take(chosen)
        target = None if known is None else known.take(chosen)
        ones = self._signs[:, 1] * TOTAL // self._signs.sum(1)
        row = prediction + PREDICTIONS
        negative = coder.binary(_possible(ones).take(row), None if target is None else (target < 0).astype(np.int64))
        self._signs += np.bincount(2 * row + negative, minlength=self._signs.size).reshape(self._signs.shape)

        sign = 1 - 2 * negative
        row = sign * prediction + PREDICTIONS
        place = row * (BIN * BINS) - BEGIN - level
        family = Family(KNOTS, self._bins.reshape(-1), BIN, place, (row + 1) * BINS)
        magnitude = coder.family(family, None if target is None else np.abs(target) - 1)
        for points in POINTS:
            bins = place + points.take(magnitude) >> BIN.bit_length() - 1
            self._bins += POINT * np.bincount(bins, minlength=self._bins.size).reshape(self._bins.shape)
        result = np.zeros_like(used)
        result[chosen] = sign * (magnitude + 1)
        return result


def _possible(ones: Integers) -> Integers:
    """Frequencies of ones within what :meth:`squeezeedge.graph.coding.coder.Coder.binary` takes."""
    return _clip(ones, CERTAIN, TOTAL - CERTAIN)


def _clip(values: Integers, least: int, most: int) -> Integers:
    """``np.clip`` in place and without its checks, which take longer than such small arrays."""
    np.maximum(values, least, out=values)
    return np.minimum(values, most, out=values)


def _sum(stated: Sides, plane: int) -> Integers:
    """What is stated for each weight of a plane: int64 [out, in]."""
    rows, columns, planes = stated
    return rows[:, None] + columns + (planes[plane] if len(planes) > 1 else 0)
