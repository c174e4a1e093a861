"""Register tiles, lane orders, and narrowing to 8 bits; the multiplications are tested in test_convolution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.options import FEATURES
from tests.targets.cpu.emit import run_body

ALL = list(INSTRUCTION_SETS.values())


def test_every_instruction_set_has_its_requirements() -> None:
    assert INSTRUCTION_SETS.keys() == FEATURES.keys()


SIZES = {"height": st.integers(1, 120), "width": st.integers(1, 200), "blocks": st.integers(1, 64)}


@given(isa=st.sampled_from(ALL), **SIZES)
def test_tiles_fit_the_map(isa: InstructionSet, height: int, width: int, blocks: int) -> None:
    tile = isa.tile(height, width, blocks)
    assert 1 <= tile.rows <= height and 1 <= tile.pixels <= width and blocks % tile.blocks == 0


@pytest.mark.parametrize("isa", ALL, ids=lambda isa: isa.name)
@given(row=st.integers(1, 5000))
def test_steps_cover_a_row(isa: InstructionSet, row: int) -> None:
    """Of words for AMX, in as few steps as there are; nothing more than a step is read beyond the row."""
    steps, group = isa.steps(row)
    assert row <= steps * group < row + group + (steps - 1) * 4 and group <= isa.group
    assert steps == -(-row // isa.group)


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


@pytest.mark.parametrize("zero_point", rules.ZERO_POINTS)
@pytest.mark.parametrize("blocks", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 3, 4)), 7])
def test_narrowing_clips_every_int32(isa: str, blocks: int, zero_point: int) -> None:
    """Also what 16 bits cannot hold: saturation on the way there loses nothing that clipping keeps."""
    chosen = INSTRUCTION_SETS[isa]
    n = chosen.lanes
    rng = np.random.default_rng(blocks)
    near = rng.integers(-400, 700, 6 * blocks * n)
    edges = [-(2**31), 2**31 - 1 - zero_point, -32769, -32768, 32767, 32768, 65536 + 5, -zero_point, 255 - zero_point]
    far = rng.integers(-(2**31), 2**31 - 128, 4 * blocks * n)
    values = np.concatenate([near, far, np.resize(edges, 10 * blocks * n)]).astype(np.int32)
    order = chosen.lane_order(blocks)

    def body(inputs: list[Expr], out: Expr) -> None:
        with T.serial(0, 20) as tile:
            first = 0
            for count in chosen.narrow_counts(blocks):
                at = [tile * (blocks * n) + (first + b) * n for b in range(count)]
                value = chosen.narrow([inputs[0][lanes(a, n)] for a in at], zero_point)
                T.buffer_store(out, value, [lanes(at[0], count * n)])
                first += count

    held = values.reshape(20, -1)[:, order].ravel()  # a tile's lanes hold the channels in this order
    got = run_body(body, [held], np.zeros(len(held), np.uint8), chosen)
    np.testing.assert_array_equal(got, rules.clip(values + zero_point))
