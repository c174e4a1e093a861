"""Tiles of x86's registers; the multiplications are tested in test_convolution and test_chains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS


@pytest.mark.slow
@given(height=st.integers(1, 120), width=st.integers(1, 200), blocks=st.integers(1, 64))
def test_tiles_fit_the_matrix_registers(height: int, width: int, blocks: int) -> None:
    tile = INSTRUCTION_SETS["amx"].tile(height, width, blocks)
    assert tile.pixels <= 16 and tile.rows * tile.blocks <= 4


def test_the_measured_tile_of_wide_vectors() -> None:
    """13 pixels x 2 blocks fill the 32 registers of AVX-512 without a spill."""
    tile = INSTRUCTION_SETS["avx512-vnni"].tile(13, 13, 16)
    assert (tile.rows, tile.pixels, tile.blocks) == (1, 13, 2)
