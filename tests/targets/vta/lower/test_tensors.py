"""Planes of tensors in the arena."""

import numpy as np
import pytest

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.vta.lower.tensors import Arena, Fill, joined


def test_planes_with_a_halo() -> None:
    arena = Arena(16)
    first = arena.value("first", Shape(2, 2, 16), 128)
    value = arena.value("value", Shape(3, 4, 20), 0, (1, 2, 0, 1), host=True)
    assert (first.origins, first.pitch) == ((0,), 2)
    plane = (1 + 3) * (2 + 4 + 1)
    assert value.pitch == 7 and value.origins == (4 + 7 + 2, 4 + plane + 7 + 2)
    assert value.lanes.tolist() == [*range(20), *[-1] * 12]
    assert arena.elements == 4 + 2 * plane
    assert arena.fills == [Fill("first", 0, 4, 0, False), Fill("value", 4, 2 * plane, 128, True)]


@pytest.mark.parametrize("block", [16, 32])
def test_no_two_pixels_share_an_element(block: int) -> None:
    arena = Arena(block)
    values = [arena.value(str(number), Shape(3, 5, 40 * number), 0, (number, 1, 0, 2)) for number in (1, 2)]
    y, x = np.arange(3)[:, None], np.arange(5)
    elements = [origin + y * value.pitch + x for value in values for origin in value.origins]
    assert len(np.unique(elements)) == np.size(elements) and np.max(elements) < arena.elements


def test_a_concatenation_costs_nothing() -> None:
    arena = Arena(16)
    parts = [arena.value(str(channels), Shape(2, 2, channels), 0) for channels in (5, 20)]
    before = arena.elements
    value = joined("both", parts)
    assert value.name == "both" and arena.elements == before
    assert value.origins == (*parts[0].origins, *parts[1].origins)
    assert value.lanes.tolist() == [*range(5), *[-1] * 11, *range(5, 25), *[-1] * 12]
