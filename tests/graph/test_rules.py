"""The arithmetic of the rules against Python integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.graph import rules


def test_a_shape_is_height_width_channels() -> None:
    assert rules.Shape(2, 3, 4) == (2, 3, 4)
    assert rules.Shape(height=2, width=3, channels=4)._fields == ("height", "width", "channels")


@pytest.mark.parametrize(("shift", "expected"), [(0, 0), (1, 1), (2, 2), (15, 2**14), (18, 2**17)])
def test_rounding_terms(shift: int, expected: int) -> None:
    assert rules.rounding_term(shift) == expected
    assert rules.rounding_term(np.array([shift], np.int64)).tolist() == [expected]
    assert rules.rounding_term(torch.tensor([shift])).tolist() == [expected]


@given(st.integers(-(2**31) + 2**17, 2**31 - 1 - 2**17), st.integers(0, 18))
def test_shifts_round_half_up(acc: int, shift: int) -> None:
    expected = acc if shift == 0 else (acc + 2 ** (shift - 1)) // 2**shift
    result = rules.rounding_shift(np.array([acc], np.int32), np.array([shift], np.uint8))
    assert result.dtype == np.int32 and result.tolist() == [expected]


def test_clipping() -> None:
    result = rules.clip(np.array([-(2**31), -1, 0, 255, 256, 2**31 - 1], np.int32))
    assert result.dtype == np.uint8 and result.tolist() == [0, 0, 0, 255, 255, 255]


def test_reach_of_an_accumulator() -> None:
    weight = np.array([[[[-127, 1]]], [[[0, 0]]]], np.int8)
    result = rules.accumulator_reach(weight)
    assert result.dtype == np.int64 and result.tolist() == [128 * 255, 0]


@given(st.integers(-(2**40), 2**40))
def test_wrapping(value: int) -> None:
    expected = (value + 2**31) % 2**32 - 2**31
    result = rules.wrap_int32(np.array([value], np.int64))
    assert result.dtype == np.int32 and result.tolist() == [expected]
