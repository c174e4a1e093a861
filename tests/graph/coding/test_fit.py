"""What the encoder states: it finds what made the weights."""

from __future__ import annotations

import numpy as np

from squeezeedge.graph.coding.fit import COEFFICIENT, STEPS, fit
from squeezeedge.graph.coding.planes import Planes


def test_magnitudes_of_rows() -> None:
    values = np.array([2, 16]).repeat(200).reshape(1, 2, 200)
    found = fit(Planes((2, 1, 1, 200)), values)
    assert found.odds is None
    assert found.magnitudes[0][1] - found.magnitudes[0][0] == 3 * STEPS


def test_odds_of_columns() -> None:
    random = np.random.default_rng(0)
    values = (random.random((1, 400, 2)) < [0.1, 0.8]).astype(np.int64)
    odds = fit(Planes((400, 1, 1, 2)), values).odds
    assert odds is not None
    expected = STEPS * (np.log2(0.8 / 0.2) - np.log2(0.1 / 0.9))
    assert abs(odds[1][1] - odds[1][0] - expected) <= 2


def test_coefficients_of_neighbours() -> None:
    shape = (200, 1, 2, 8)
    values = np.random.default_rng(0).integers(-60, 61, (2, 200, 8))
    values[1] = values[0] // 2
    assert abs(int(fit(Planes(shape), values).coefficients[0]) - COEFFICIENT // 2) <= 1
