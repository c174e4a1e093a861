"""Tiles fit the hardware's limits; what they compute is tested in test_kernels."""

from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.targets.cuda.tiling import SHARED_BYTES, THREADS, choose_tile


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
