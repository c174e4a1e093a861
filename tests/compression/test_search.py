"""The search along curves that are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from squeezeedge.compression.search import BEST, NEAR, WORST, Point, found, price_of_bit


def along(size: Callable[[float], float]) -> Callable[[float], Point]:
    return lambda quality: Point(quality, round(size(quality)), 99.0, None)


@pytest.mark.parametrize("target", [150_000, 400_000, 550_000])
@pytest.mark.parametrize("slope", [0.4, 1.0])
def test_a_size_is_met_from_below(target: int, slope: float) -> None:
    made = found(
        along(lambda quality: 1e5 + slope * 2e4 * quality),
        lambda point: (point.bytes - target) / 2e4,
        feasible_above=False,
    )
    met = [point.bytes for point in made if point.bytes <= target]
    assert met and max(met) > target - 3 * NEAR * 2e4 and len(made) <= 8


def test_a_drop_is_met_from_above() -> None:
    made = found(along(lambda quality: 1e4 * quality), lambda point: point.bytes / 1e4 - 41.3, feasible_above=True)
    assert min(point.quality or 0 for point in made if (point.quality or 0) >= 41.3) < 41.3 + 3 * NEAR


@pytest.mark.parametrize(("excess", "end"), [(1e3, WORST), (-1e3, BEST)])
def test_it_ends_where_nothing_meets_the_goal(excess: float, end: float) -> None:
    made = found(along(lambda quality: quality), lambda point: excess, feasible_above=excess < 0)
    assert [point.quality for point in made] == [30.0, 30.0 + math.copysign(16, end - 30), end]


def test_a_price_halves_an_error_for_each_bit() -> None:
    assert price_of_bit(30, 8.0, 100) == pytest.approx(100 * price_of_bit(50, 8.0, 100))
    assert price_of_bit(0, 1.0, 1) == pytest.approx(1.386294, rel=1e-6)


def test_the_drop_is_the_larger_one() -> None:
    assert Point(None, 1, 98.5, None).drop == 1.5
    assert Point(None, 1, 98.5, None, 60.0, 2.0).drop == 2.0
    assert Point(30.0, 1, 100.0, None, 60.0, -0.5).to_json()["drop"] == 0.0
