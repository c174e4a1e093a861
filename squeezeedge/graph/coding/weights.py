"""The model of convolutions' weights. See the package's text for its meaning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.coding.adaptive import Adaptive
from squeezeedge.graph.coding.coder import CERTAIN, Coder, Family
from squeezeedge.graph.coding.fit import STEPS, Fit, fit
from squeezeedge.graph.coding.planes import Planes
from squeezeedge.graph.coding.rans import TOTAL
from squeezeedge.graph.coding.tables import OCTAVE, exp2, log2, log2_of

__all__ = ["WeightModel"]

Integers = NDArray[np.int64]

CHUNK = 4096
"""Most weights between two updates."""

LOWEST, HIGHEST = -4 * OCTAVE, 8 * OCTAVE
"""Of log2 of an expected magnitude."""
FRACTION_BITS = 10
MAGNITUDES = np.array([exp2(level, FRACTION_BITS) for level in range(LOWEST, HIGHEST + 1)])
"""Expected magnitudes, 2**-10 steps each."""

# magnitudes relative to the expected one
BEGIN = -10 * OCTAVE
BIN = OCTAVE // 4
BINS = 22 * OCTAVE // BIN
BOUNDS = np.array([log2_of(2 * n + 1) - OCTAVE for n in range(127)])
"""log2(n + 1/2): where magnitude n + 1 begins."""
POINTS = np.array([[log2_of(3 * n + 3 + third) - log2_of(3) for n in range(127)] for third in (-1, 0, 1)])
"""log2 of three points of each magnitude: n + 2/3, n + 1, n + 4/3."""
SHAPES = 8
"""Predictions are told apart up to so many quarters of the expected magnitude, of either sign."""
KEPT = 150
"""Of so many weights a distribution remembers at most when a layer begins."""

LEVELS = 40
ZERO_SHARE = 3
COUNTED, ADJACENT = 10, 4
NEIGHBOUR_PRIOR = 6
STATED = 64
PRIOR = 3
"""Weight, in half symbols, of what is assumed before anything is counted."""


def _first_shape() -> Integers:
    """What is assumed of relative magnitudes: those of an exponential distribution, 480 in all."""
    tail = [exp2(-(320 * exp2(BEGIN + BIN * place, FRACTION_BITS) >> FRACTION_BITS), 20) for place in range(BINS + 1)]
    return np.array([1 + (480 * (first - last) >> 20) for first, last in zip(tail, tail[1:], strict=False)])


FIRST_SHAPE = _first_shape()
ODDS = np.array([TOTAL * exp2(OCTAVE // STEPS * (level - LEVELS // 2), 20) // (exp2(OCTAVE // STEPS * (level - LEVELS // 2), 20) + (1 << 20)) for level in range(LEVELS)])
ALMOST = np.full(LEVELS, TOTAL * 19 // 20)


class WeightModel:
    """Learns from weight to weight of a graph."""

    def __init__(self) -> None:
        self._shapes = np.tile(FIRST_SHAPE, (2 * SHAPES + 1, 1))
        self._signs = np.full((2 * SHAPES + 1, 2), 4, np.int64)
        self._counts = np.zeros((2, LEVELS * COUNTED * ADJACENT, 2), np.int64)
        self._flag = Adaptive(2)
        self._stated = [Adaptive(2 * STATED + 1) for _ in range(7)]

    def code(self, coder: Coder, shape: tuple[int, ...], weight: NDArray[np.int8] | None) -> NDArray[np.int8]:
        """Code a weight int8 [out, kernel_h, kernel_w, in]; ``None`` to decode it."""
        planes = Planes(shape)
        known = None if weight is None else planes.of(weight)
        stated = self._state(coder, planes, None if known is None else fit(planes, known))
        self._begin()
        values = np.zeros((planes.count, *planes.shape), np.int64)
        sizes = iter(_sizes())
        for plane in range(planes.count):
            context = self._context(planes, stated, values, plane)
            result = values[plane].reshape(-1)
            first, count = 0, result.size
            while first < count:
                part = slice(first, min(first + next(sizes), count))
                target = None if known is None else known[plane].reshape(-1)[part]
                result[part] = self._chunk(coder, [array[part] for array in context], stated.odds is not None, target)
                first = part.stop
        return planes.weight(values)

    def _begin(self) -> None:
        """Forget a part of what was learned."""
        total = self._shapes.sum(1, keepdims=True)
        limit = 24 * KEPT
        self._shapes = np.maximum(self._shapes * limit // np.maximum(total, limit), (FIRST_SHAPE + 2) // 3)
        self._signs = (self._signs + 3) // 3 + 1
        self._counts = self._counts * 5 >> 3

    def _state(self, coder: Coder, planes: Planes, chosen: Fit | None) -> Fit:
        """Code the parameters."""
        sides = (*planes.shape, planes.count)

        def some(index: int, count: int, values: Integers | None) -> Integers:
            shifted = None if values is None else np.clip(values, -STATED, STATED) + STATED
            return self._stated[index].code(coder, count, shifted) - STATED

        def three(first: int, values: tuple[Integers, Integers, Integers] | None) -> tuple[Integers, ...]:
            return tuple(
                some(first + index, side if side > 1 or not index else 0, None if values is None else values[index][: side if side > 1 or not index else 0])
                for index, side in enumerate(sides)
            )

        sparse = None if chosen is None else np.array([int(chosen.odds is not None)])
        sparse = self._flag.code(coder, 1, sparse)
        magnitudes = three(0, None if chosen is None else chosen.magnitudes)
        odds = three(3, None if chosen is None else chosen.odds) if sparse[0] else None
        coefficients = some(6, planes.coefficients, None if chosen is None else chosen.coefficients)
        return Fit(magnitudes, odds, coefficients)

    def _context(self, planes: Planes, stated: Fit, values: Integers, plane: int) -> list[Integers]:
        """What is known of each weight of a plane: (level, place among the counts, prediction), each int64 [weights]."""
        neighbours = planes.neighbours[plane]
        base = _level(stated.magnitudes, plane, OCTAVE // STEPS)
        if stated.odds is None:
            odds = np.clip(base // (OCTAVE // STEPS) + 10, 0, LEVELS - 1)
        else:
            odds = np.clip(_sum(stated.odds, plane) + LEVELS // 2, 0, LEVELS - 1)
        level = np.clip(base, LOWEST, HIGHEST)
        context = odds * (COUNTED * ADJACENT)
        prediction = np.zeros_like(context)
        if neighbours:
            prior = NEIGHBOUR_PRIOR * MAGNITUDES[level - LOWEST]
            seen, expected = prior.copy(), prior.copy()
            used = np.zeros_like(context)
            for other, slot in neighbours:
                near = values[other]
                seen += np.abs(near) << FRACTION_BITS
                used += near != 0
                other_level = np.clip(_level(stated.magnitudes, other, OCTAVE // STEPS), LOWEST, HIGHEST)
                expected += np.where(near != 0, MAGNITUDES[other_level - LOWEST], 0)
                prediction += stated.coefficients[slot] * near
            level = np.clip(level + log2(seen) - log2(expected), LOWEST, HIGHEST)
            context += np.minimum(used, COUNTED - 1) * ADJACENT
            for bit, other in enumerate(planes.adjacent[plane]):
                if other >= 0:
                    context += (values[other] != 0) << bit
            magnitude = MAGNITUDES[level - LOWEST]
            prediction = (prediction * 256 + magnitude) // (2 * magnitude)
            prediction = np.clip(prediction, -SHAPES, SHAPES)
        return [np.ravel(array) for array in (level, context, prediction)]

    def _chunk(self, coder: Coder, context: list[Integers], sparse: bool, known: Integers | None) -> Integers:
        level, place, prediction = context
        counts = self._counts[int(sparse)]
        assumed = (ODDS if sparse else ALMOST)[place // (COUNTED * ADJACENT)]
        zeros, ones = counts[place, 0], counts[place, 1]
        ones = (ones * TOTAL + PRIOR * assumed) // (zeros + ones + PRIOR)
        used = coder.binary(np.clip(ones, CERTAIN, TOTAL - CERTAIN), None if known is None else (known != 0).astype(np.int64))
        size = counts.shape[0]
        counts += 2 * np.bincount(2 * place + used, minlength=2 * size).reshape(size, 2)
        chosen = used == 1
        level, prediction = level[chosen], prediction[chosen] + SHAPES
        target = None if known is None else known[chosen]
        signs = self._signs[prediction]
        ones = np.clip(signs[:, 1] * TOTAL // signs.sum(1), CERTAIN, TOTAL - CERTAIN)
        negative = coder.binary(ones, None if target is None else (target < 0).astype(np.int64))
        self._signs += np.bincount(2 * prediction + negative, minlength=self._signs.size).reshape(-1, 2)
        row = np.where(negative == 1, 2 * SHAPES - prediction, prediction)
        place = row * (BIN * BINS) - level - BEGIN
        family = Family(self._shapes.reshape(-1), BOUNDS, place, (row + 1) * BINS, BIN)
        magnitude = coder.family(family, None if target is None else np.abs(target) - 1)
        for points in POINTS:
            bins = place + points[magnitude] >> BIN.bit_length() - 1
            self._shapes += 8 * np.bincount(bins, minlength=self._shapes.size).reshape(self._shapes.shape)
        result = np.zeros(len(used), np.int64)
        result[chosen] = np.where(negative == 1, -1 - magnitude, 1 + magnitude)
        return result


def _sizes():
    size = 128
    while True:
        yield size
        size = min(2 * size, CHUNK)


def _sum(stated: tuple[Integers, ...], plane: int) -> Integers:
    rows, columns, places = stated
    total = rows[:, None] + (columns if len(columns) else 0) + (places[plane] if len(places) else 0)
    return total


def _level(stated, plane, step):
    return _sum(stated, plane) * step
