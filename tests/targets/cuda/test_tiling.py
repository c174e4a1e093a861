"""Tiles fit the hardware's limits; what they compute is tested in test_kernels."""

from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.tiling import (
    MOST_REGISTERS,
    SHARED_BYTES,
    THREADS,
    ChannelTile,
    choose_channel_tile,
    choose_tile,
)


@given(
    pixels=st.integers(1, 20000),
    channels=st.integers(1, 2048),
    steps=st.integers(1, 400),
)
def test_every_shape_has_a_tile(pixels: int, channels: int, steps: int) -> None:
    plan = choose_tile(pixels, channels, steps)
    tile = plan.tile
    assert tile.warp_rows * tile.warp_columns * tile.warp_steps * 32 == THREADS
    assert plan.shared * 4 <= SHARED_BYTES
    assert plan.steps % tile.warp_steps == 0
    assert steps <= plan.chunks * plan.steps < steps + plan.chunks * tile.warp_steps + plan.chunks
    positions = {tile.warp(number) for number in range(4)}
    assert len(positions) == 4


@given(pixels=st.integers(1, 20000), channels=st.integers(1, 512), steps=st.integers(1, 100))
def test_neighbouring_pixels_start_in_different_banks(pixels: int, channels: int, steps: int) -> None:
    """Lane 4g + t reads word t of pixel g: all 32 words lie in different banks."""
    plan = choose_tile(pixels, channels, steps)
    assert len({(g * plan.pitch + t) % 32 for g in range(8) for t in range(4)}) == 32


sides = st.integers(1, 12) | st.integers(1, 200)


@given(
    out=st.builds(Shape, sides, sides, st.integers(2, 2048)),
    kernel=st.tuples(sides, sides),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_every_depthwise_shape_has_a_tile(out: Shape, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    plan = choose_channel_tile(out, kernel, stride)
    assert plan.lanes * plan.block_tiles * plan.tile.parts == THREADS
    assert plan.shared * 4 <= SHARED_BYTES
    assert plan.held + plan.accumulators <= MOST_REGISTERS and (plan.unrolled or not plan.held)
    assert kernel[0] <= plan.kernel_rows < kernel[0] + plan.tile.parts
    tiles = plan.tile_blocks(out) * plan.block_tiles
    assert out.height * out.width <= tiles * plan.tile.rows * plan.tile.columns
    assert plan.blocks(out) * plan.lanes // plan.tile_blocks(out) >= plan.words


def test_what_decides_the_tile_of_a_depthwise_convolution() -> None:
    """Large maps use what is loaded for several rows; the rows of a kernel as large as its map are divided."""
    assert choose_channel_tile(Shape(112, 112, 96), (3, 3), (1, 1)).tile == ChannelTile(4, 2)
    assert choose_channel_tile(Shape(1, 1, 1280), (14, 14), (1, 1)).tile.parts > 4
