"""Addresses of bytes of a batch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.layout import PIXEL, Layout


@given(height=st.integers(1, 7), width=st.integers(1, 7), channels=st.integers(1, 40), packed=st.booleans())
def test_every_byte_has_its_address(height: int, width: int, channels: int, packed: bool) -> None:
    """Images follow each other; each pixel begins on a whole group unless the image is as it comes."""
    layout = Layout(height, width, channels, packed)
    image, y, x, byte = np.indices((2, height, width, layout.pixel))
    addresses = layout.address(image, y, x, byte).ravel()
    np.testing.assert_array_equal(addresses, np.arange(2 * layout.size))
    assert layout.shape == Shape(height, width, channels)
    assert layout.pixel == channels if packed else layout.pixel % PIXEL == 0 and 0 <= layout.pixel - channels < PIXEL
