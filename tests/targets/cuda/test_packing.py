"""Packed weights, multiplied the way a block reads them, give the convolution's accumulators."""

import numpy as np
import pytest

from squeezeedge.lower.patterns import Convolution
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.packing import column_order, pack, reduction_bytes
from squeezeedge.targets.cuda.tiling import Plan, Tile


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
    conv = Convolution(
        source=(9, 11, channels),
        out=(9 - kernel[0] + 1, 11 - kernel[1] + 1, out),
        weight=rng.integers(-127, 128, (out, *kernel, channels)).astype(np.int8),
        bias=rng.integers(-(2**31), 2**31, out).astype(np.int32),
        pad_value=rng.integers(0, 256, channels).astype(np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        shift=None if head else rng.integers(0, 16, out).astype(np.int32),
        zero_point=0,
        relu=False,
        input=0,
    )
    layout = Layout(9, 11, channels, packed)
    steps = -(-reduction_bytes(conv, layout) // 32)
    plan = Plan(tile, 2, -(-steps // 2))
    constants = pack(conv, layout, plan)
    window = rng.integers(0, 256, (*kernel, layout.pixel))  # what fills up pixels does not count
    q = np.pad(window.ravel(), (0, plan.chunks * 64 - window.size), constant_values=99).reshape(plan.chunks, 4, 1, 16)
    blocks = -(-out // tile.columns)
    weights = constants.weights.view(np.int8).astype(int).reshape(blocks, plan.chunks, 4, tile.columns, 16)
    columns = (weights * q).sum((1, 2, 4))
    got = np.zeros((blocks, tile.columns), int)
    got[:, column_order(plan)] = columns
    bias, shift = constants.parameters.reshape(2, -1)
    exact = conv.weight.astype(int) * (window[..., :channels] - conv.pad_value)
    np.testing.assert_array_equal(
        (got.ravel() + bias)[:out].astype(np.uint32), (exact.sum((1, 2, 3)) + conv.bias).astype(np.uint32)
    )
    np.testing.assert_array_equal(shift[:out], 0 if conv.shift is None else conv.shift)
    assert not got.ravel()[out:].any()


def test_lanes_own_neighbouring_channels() -> None:
    """Lane t of each four has columns 2t and 2t + 1 of every 8: they hold channels that follow each other."""
    plan = Plan(Tile(2, 2, 1, 1, 4), 1, 1)
    order = column_order(plan).reshape(2, 4, 4, 2)  # warp, 8 columns, lane, 2 columns
    for warp in range(2):
        for lane in range(4):
            first = warp * 32 + lane * 8
            assert order[warp, :, lane].ravel().tolist() == list(range(first, first + 8))
