"""Windows are counted as torch counts them, and floor mode can stand for ceil mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import floor_padding, window_map, window_outputs, window_pixels


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_window_counts_as_in_torch(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
    import torch

    if 2 * padding > kernel or size + 2 * padding < kernel:
        return
    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=ceil_mode).shape[2]
    assert window_outputs(size, kernel, stride, padding, padding, ceil_mode) == expected


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.data(), st.booleans())
def test_r5_every_window_has_a_valid_pixel(
    size: int, kernel: int, stride: int, data: st.DataObject, ceil_mode: bool
) -> None:
    before, after = (data.draw(st.integers(0, kernel - 1)) for _ in range(2))
    for place in range(window_outputs(size, kernel, stride, before, after, ceil_mode)):
        start = place * stride - before
        assert start < size and start + kernel > 0


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4))
def test_pixels_of_every_window_are_those_that_are_not_padded(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    valid = [0] * before + [1] * size + [0] * after
    starts = range(0, len(valid) - kernel + 1, stride)
    expected = [sum(valid[start : start + kernel]) for start in starts]
    assert window_pixels(size, kernel, stride, before, after) == expected


def test_both_axes_by_hand() -> None:
    assert window_map(Shape(7, 9, 4), (3, 2), (2, 1), (1, 0, 0, 3)) == (3, 11)
    assert window_map((6, 6), (3, 3), (2, 2), (0, 0, 0, 0), ceil_mode=True) == (3, 3)


@pytest.mark.parametrize(
    ("size", "windows", "expected"),
    [((6, 6), (3, 3), (0, 0, 1, 1)), ((7, 8), (3, 3), (0, 0, 0, 0)), ((8, 5), (3, 2), (0, 0, 0, 0))],
)
def test_floor_padding_by_hand(
    size: tuple[int, int], windows: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    assert floor_padding(size, windows, (3, 3), (2, 2), (0, 0, 0, 0)) == expected


@given(st.tuples(*[st.integers(1, 12)] * 2), st.integers(1, 5), st.integers(1, 4), st.data(), st.booleans())
def test_floor_mode_with_that_padding_has_the_same_windows(
    size: tuple[int, int], kernel: int, stride: int, data: st.DataObject, ceil_mode: bool
) -> None:
    given = data.draw(st.tuples(*[st.integers(0, kernel - 1)] * 4))
    kernels, strides = (kernel, kernel), (stride, stride)
    windows = window_map(size, kernels, strides, given, ceil_mode)
    if min(windows) < 1:
        return
    padding = floor_padding(size, windows, kernels, strides, given)
    assert padding[:2] == given[:2] and min(padding) >= 0
    assert window_map(size, kernels, strides, padding) == windows
    for axis in (0, 1):
        end = (windows[axis] - 1) * stride + kernel
        assert end <= size[axis] + padding[axis] + padding[axis + 2]
        assert padding[axis + 2] == 0 or end == size[axis] + padding[axis] + padding[axis + 2]
