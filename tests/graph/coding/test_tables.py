"""Logarithms and powers as integers, against exact arithmetic."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.graph.coding.tables import OCTAVE, exp2, log2, log2_of


@given(st.integers(1, 2**52))
def test_logarithms_are_exact(value: int) -> None:
    steps = log2_of(value)
    assert 2**steps <= value**OCTAVE < 2 ** (steps + 1)
    leading = value >> max(value.bit_length() - 9, 0) << max(value.bit_length() - 9, 0)
    assert log2(np.array([value]))[0] == log2_of(leading)
    assert exp2(steps, 10) <= value << 10
