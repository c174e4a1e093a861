"""Packed weights, multiplied the way a block reads them, give the convolution's accumulators."""

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, Tensor, rules
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.packing import (
    MAX_SHIFT,
    checked_shift,
    column_order,
    pack,
    pack_depthwise,
    reduction_bytes,
)
from squeezeedge.targets.cuda.tiling import ChannelPlan, ChannelTile, Plan, Tile
from tests.targets.cuda.channels import layer


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize(
    ("out", "kernel", "channels", "packed"),
    [
        (16, (1, 1), 64, False),
        (33, (3, 3), 5, False),
        (7, (3, 3), 3, True),
        (96, (7, 7), 3, True),
        (70, (1, 2), 48, False),
    ],
)
@pytest.mark.parametrize("tile", [Tile(4, 1, 1, 1, 2), Tile(1, 2, 2, 1, 4), Tile(1, 4, 1, 2, 2)])
def test_accumulators(tile: Tile, out: int, kernel: tuple[int, int], channels: int, packed: bool, head: bool) -> None:
    rng = np.random.default_rng(out)
    weight = rng.integers(-127, 128, (out, *kernel, channels)).astype(np.int8)
    bias = rng.integers(-(2**31), 2**31, out).astype(np.int32)
    shifts = np.zeros(out, np.uint8) if head else rng.integers(0, 16, out).astype(np.uint8)
    zero_point, scale = 0 if packed else 128, np.ones(out, np.float32)
    pads, window_of = np.full(channels, zero_point, np.uint8), ((1, 1), (0, 0, 0, 0))
    conv: Conv | Head = Conv("conv", "x", weight, bias, shifts, *window_of, pads, 0, scale)
    if head:
        conv = Head("head", "x", weight, bias, *window_of, pads, False, scale)
    source = Tensor(9, 11, channels, zero_point, np.ones(channels, np.float32))
    layout = Layout(9, 11, channels, packed)
    steps = -(-reduction_bytes(conv, layout) // 32)
    plan = Plan(tile, 2, -(-steps // 2))
    constants = pack(conv, source, layout, plan)
    window = rng.integers(0, 256, (*kernel, layout.pixel))  # what fills up pixels does not count
    q = np.pad(window.ravel(), (0, plan.chunks * 64 - window.size), constant_values=99).reshape(plan.chunks, 4, 1, 16)
    blocks = -(-out // tile.columns)
    weights = constants.weights.view(np.int8).astype(int).reshape(blocks, plan.chunks, 4, tile.columns, 16)
    columns = (weights * q).sum((1, 2, 4))
    got = np.zeros((blocks, tile.columns), int)
    got[:, column_order(plan)] = columns
    held, shift = constants.parameters.reshape(2, -1)
    exact = weight.astype(int) * (window[..., :channels] - zero_point)
    np.testing.assert_array_equal(
        (got.ravel() + held)[:out].astype(np.uint32),
        (exact.sum((1, 2, 3)) + bias + rules.rounding_term(shifts.astype(int))).astype(np.uint32),
    )
    np.testing.assert_array_equal(shift[:out], shifts)
    assert not got.ravel()[out:].any()


def test_lanes_own_neighbouring_channels() -> None:
    """Lane t of each four has columns 2t and 2t + 1 of every 8: they hold channels that follow each other."""
    plan = Plan(Tile(2, 2, 1, 1, 4), 1, 1)
    order = column_order(plan).reshape(2, 4, 4, 2)  # warp, 8 columns, lane, 2 columns
    for warp in range(2):
        for lane in range(4):
            first = warp * 32 + lane * 8
            assert order[warp, :, lane].ravel().tolist() == list(range(first, first + 8))


def test_shifts_that_int32_does_not_have_are_refused() -> None:
    np.testing.assert_array_equal(checked_shift("conv", np.array([0, MAX_SHIFT], np.uint8)), [0, MAX_SHIFT])
    with pytest.raises(UnsupportedError, match="conv: shift 31, CUDA's kernels shift by at most 30; quantize"):
        checked_shift("conv", np.array([0, 31], np.uint8))


@pytest.mark.parametrize("zero_point", rules.ZERO_POINTS)
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), (1, 1)), ((5, 5), (2, 2)), ((2, 7), (1, 3))])
@pytest.mark.parametrize("tile", [ChannelTile(2, 1), ChannelTile(1, 4, 4), ChannelTile(4, 2)])
def test_accumulators_of_each_channel(
    tile: ChannelTile, kernel: tuple[int, int], stride: tuple[int, int], zero_point: int
) -> None:
    """Quads of a row of a tile's window, times the words of each of its columns."""
    channels, (height, width) = 18, kernel
    conv, tensor = layer((20, 30), channels, kernel, stride, zero_point=zero_point)
    plan = ChannelPlan(tile, channels, kernel, stride)
    constants = pack_depthwise(conv, tensor, plan)
    window = np.random.default_rng(0).integers(0, 256, (plan.kernel_rows, 4 * plan.quads, channels))
    quads = window.reshape(plan.kernel_rows, plan.quads, 1, 4, channels).swapaxes(3, 4)
    weights = constants.weights.view(np.int8).astype(int)
    weights = weights.reshape(plan.kernel_rows, plan.quads, tile.columns, plan.filled_channels, 4)
    assert not weights[..., channels:, :].any()
    sums = (weights[..., :channels, :] * quads).sum((0, 1, 4))
    bias, shift = constants.parameters.reshape(2, plan.filled_channels)[:, :channels]
    np.testing.assert_array_equal(shift, conv.shift)
    for column in range(tile.columns):
        seen = window[:height, column * stride[1] :][:, :width] - zero_point
        expected = (seen * conv.weight[..., 0].transpose(1, 2, 0)).sum((0, 1)) + conv.bias + conv.rounding
        np.testing.assert_array_equal(sums[column] + bias, expected)
