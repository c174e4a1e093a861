"""Register tiles and lane orders; what they compute is tested in test_compile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS, InstructionSet, MatrixSet, VectorSet
from squeezeedge.targets.cpu.options import FEATURES

ALL = list(INSTRUCTION_SETS.values())


def test_every_instruction_set_has_its_requirements() -> None:
    assert INSTRUCTION_SETS.keys() == FEATURES.keys()


@given(
    isa=st.sampled_from(ALL),
    height=st.integers(1, 120),
    width=st.integers(1, 200),
    blocks=st.integers(1, 64),
)
def test_tiles_fit_the_map_and_the_registers(isa: InstructionSet, height: int, width: int, blocks: int) -> None:
    tile = isa.tile(height, width, blocks)
    assert 1 <= tile.rows <= height and 1 <= tile.pixels <= width and blocks % tile.blocks == 0
    if isinstance(isa, VectorSet) and (tile.rows, tile.pixels, tile.blocks) != (1, 1, 1):
        assert tile.rows * tile.pixels * tile.blocks + 2 * tile.blocks <= isa.registers
    if isinstance(isa, MatrixSet):
        assert tile.pixels <= 16 and tile.rows * tile.blocks <= 4


@pytest.mark.parametrize("isa", ALL, ids=lambda isa: isa.name)
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 7])
def test_lane_order_is_a_permutation_within_each_group(isa: InstructionSet, blocks: int) -> None:
    order = isa.lane_order(blocks)
    assert sum(isa.narrow_counts(blocks)) == blocks
    first = 0
    for count in isa.narrow_counts(blocks):
        channels = range(first * isa.lanes, (first + count) * isa.lanes)
        np.testing.assert_array_equal(np.sort(order[channels.start : channels.stop]), channels)
        first += count


def test_the_measured_tile_of_wide_vectors() -> None:
    """13 pixels x 2 blocks fill the 32 registers of AVX-512 without a spill."""
    tile = INSTRUCTION_SETS["avx512-vnni"].tile(13, 13, 16)
    assert (tile.rows, tile.pixels, tile.blocks) == (1, 13, 2)
