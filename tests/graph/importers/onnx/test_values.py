"""Where each number of a tensor comes from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.graph.importers.onnx.values import MAX_ELEMENTS, Value, recovered


def _map(channels: int, height: int, width: int) -> Value:
    return Value(np.arange(10, 10 + channels).reshape(1, -1, 1, 1), (height, width), (2, 3))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_a_map_is_found_again_in_any_order_of_axes(channels: int, height: int, width: int, order: list[int]) -> None:
    value = _map(channels, height, width)
    found = recovered(value.elements().transpose(order), (height, width))
    assert found.pixels is None and found.shape == tuple(value.shape[axis] for axis in order)
    np.testing.assert_array_equal(found.elements(), value.elements().transpose(order))


def test_loose_numbers() -> None:
    elements = _map(2, 3, 4).elements()
    flat = recovered(elements.reshape(1, 24), (3, 4))
    assert flat.pixels is not None and flat.shape == (1, 24) and not flat.is_map
    np.testing.assert_array_equal(flat.elements(), elements.reshape(1, 24))
    assert recovered(elements[:, :, ::-1], (3, 4)).pixels is not None
    assert recovered(elements.reshape(1, 2, 3, 4), (3, 4)).is_map


def test_padding_is_part_of_the_shape() -> None:
    value = Value(np.arange(2).reshape(1, 2, 1, 1), (3, 4), (2, 3), padding=(1, 2, 3, 4))
    assert value.shape == (1, 2, 7, 10)
    with pytest.raises(ValueError, match="padded"):
        value.elements()


def test_a_map_that_is_too_large() -> None:
    with pytest.raises(ValueError, match=str(MAX_ELEMENTS)):
        _map(2, 2048, 2048).elements()
