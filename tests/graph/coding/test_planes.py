"""The order of weights: nothing is lost, and nothing tells of what comes later."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph.coding.planes import FEW_PLANES, MOST_PLANES, Planes, plane_count

SHAPES = [(6, 1, 1, 5), (2, 3, 3, 7), (3, 5, 4, 3), (2, 3, 3, 1), (2, 5, 5, 6), (1, 33, 32, 1), (4, 1, 1, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_planes_of_a_weight_make_the_weight(shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    planes = Planes(shape)
    values = planes.of(weight)
    assert values.shape == (planes.count, *planes.shape)
    np.testing.assert_array_equal(planes.weight(values.astype(np.int16)), weight)


@pytest.mark.parametrize(("shape", "count"), list(zip(SHAPES, (1, 9, 60, 9, 25, 1, 1), strict=True)))
def test_how_many_planes(shape: tuple[int, ...], count: int) -> None:
    assert plane_count(shape) == Planes(shape).count == count <= MOST_PLANES


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_come_before(shape: tuple[int, ...]) -> None:
    planes = Planes(shape)
    for plane, neighbours in enumerate(planes.neighbours):
        assert all(0 <= other < plane for other, _ in neighbours)
        assert all(0 <= slot < planes.coefficients for _, slot in neighbours)
        assert max(planes.adjacent[plane]) < plane
        if planes.count <= FEW_PLANES:
            assert len(neighbours) == plane


def test_a_plane_s_left_and_upper_one() -> None:
    assert Planes((1, 2, 2, 8)).adjacent == [(-1, -1), (0, -1), (-1, 0), (2, 1)]
