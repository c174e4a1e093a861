"""Addresses of pixels, of borders around them, and the room behind them."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cpu.layout import CACHE_LINE, OVERRUN, Layout

BORDERS = st.tuples(*[st.integers(0, 3)] * 4)


@given(height=st.integers(1, 9), width=st.integers(1, 9), channels=st.integers(1, 20), border=BORDERS)
def test_every_byte_has_its_address(height: int, width: int, channels: int, border: tuple[int, int, int, int]) -> None:
    """Pixels and border together are the bytes from 0 on, row by row; behind them is room to read."""
    layout = Layout(height, width, channels, border)
    top, left, bottom, right = border
    y, x, channel = np.mgrid[-top : height + bottom, -left : width + right, :channels]
    addresses = layout.address(y, x, channel).ravel()
    np.testing.assert_array_equal(addresses, np.arange(len(addresses)))
    assert layout.size == len(addresses) + OVERRUN
    assert layout.shape == Shape(height, width, channels)
    assert layout.contiguous == (not any(border))
    assert layout.end == layout.size
    roomy = replace(layout, scratch=100)
    assert layout.end <= roomy.end < layout.end + CACHE_LINE and roomy.end % CACHE_LINE == 0
    assert roomy.size == roomy.end + 100 and roomy.address(1, 2, 3) == layout.address(1, 2, 3)
