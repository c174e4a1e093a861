"""Depthwise tiles of every kind, with plain arithmetic for the multiply instruction, against numpy.

So what other processors multiply is tried on this one: which bytes are side by side, and in which order weights and
sums lie. The instructions themselves are tested in test_convolution, where they are.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Tensor
from squeezeedge.targets.cpu.depthwise import UNROLLED, ChannelOperands, ChannelProducts
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.packing import pack
from squeezeedge.targets.cpu.tiling import Tile
from tests.targets.cpu.emit import run_body

KINDS = {repr(isa.channels): isa.channels for isa in INSTRUCTION_SETS.values()}
SIDES = st.integers(1, 120)


def _plain(products: ChannelProducts, acc: Expr, data: Expr, weights: Expr) -> Expr:
    """What the multiply instruction means."""
    for tap in range(products.taps):
        own = [products.taps * lane + tap for lane in range(products.lanes)]
        terms = (T.cast(T.Shuffle([vector], own), f"int32x{products.lanes}") for vector in (data, weights))
        acc = acc + next(terms) * next(terms)
    return acc


def _sums(
    products: ChannelProducts,
    tile: Tile,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    source: NDArray[np.uint8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Of one tile at the map's beginning: [row, pixel, channel]."""
    n, order = products.lanes, products.lane_order(tile.blocks)
    held = weights[order].reshape(1, tile.blocks, n, *kernel)
    packed = products.arrange(held, tile.rows, stride)
    assert packed.size == products.weight_bytes(tile, kernel, stride)
    parameters = np.stack([bias[order].reshape(tile.blocks, n), np.zeros((tile.blocks, n), np.int32)], 1)

    def body(inputs: list[Expr], out: Expr) -> None:
        row = source.shape[1] * source.shape[2]
        operands = ChannelOperands(kernel, stride, inputs[0], 0, row, source.shape[2], inputs[1], 0, inputs[2], 0)
        sums = products.accumulate(tile, operands)
        for y in range(tile.rows):
            for x in range(tile.pixels):
                for block in range(tile.blocks):
                    at = ((y * tile.pixels + x) * tile.blocks + block) * n
                    T.buffer_store(out, sums(y, x, block), [lanes(at, n)])

    size = tile.rows * tile.pixels * tile.blocks * n
    got = run_body(body, [source.ravel(), packed.ravel(), parameters.ravel()], np.zeros(size, np.int32))
    in_order = np.zeros((tile.rows, tile.pixels, tile.blocks * n), np.int32)
    in_order[..., order] = got.reshape(in_order.shape)
    return in_order


def _expected(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    q: NDArray[np.int64],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
) -> NDArray[np.int64]:
    windows = np.lib.stride_tricks.sliding_window_view(q, kernel, (0, 1))[:: stride[0], :: stride[1]]
    sums: NDArray[np.int64] = np.einsum("yxckl,ckl->yxc", windows, weights.astype(np.int64)) + bias
    return sums


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [((3, 2), (2, 1), (2, 2)), ((5, 2), (1, 3), (1, 2)), ((6, 9), (1, 1), (1, 1))],
    ids=["rows", "a row", "whole map"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_sums(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every number of blocks; the input's bytes lie at both ends of what they can be."""
    products = KINDS[kind]
    monkeypatch.setattr(type(products), "dot", _plain)
    rng = np.random.default_rng(0)
    for blocks in products.blocks:
        count = blocks * products.lanes
        height, width = ((n - 1) * s + k for n, s, k in zip(size, stride, kernel, strict=True))
        source = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (height, width, count + 3))
        weights = rng.choice(np.array([-127, -1, 0, 1, 126, 127], np.int8), (count, *kernel))
        bias = rng.integers(-(2**20), 2**20, count).astype(np.int32)
        got = _sums(products, Tile(*size, blocks), kernel, stride, source, weights, bias)
        q = source[..., :count].astype(np.int64) - products.input_offset
        np.testing.assert_array_equal(got, _expected(kernel, stride, q, weights, bias))


@given(
    products=st.sampled_from(list(KINDS.values())),
    height=SIDES,
    width=SIDES,
    kernel=st.tuples(SIDES, SIDES),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    data=st.data(),
)
def test_tiles_fit(
    products: ChannelProducts,
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    data: st.DataObject,
) -> None:
    """The map and the registers; what is written without a loop stays short whatever the kernel."""
    blocks = data.draw(st.sampled_from(products.blocks))
    tile = products.tile(height, width, blocks, kernel, stride)
    assert 1 <= tile.rows <= height and 1 <= tile.pixels <= width and tile.blocks == blocks
    held = tile.rows * tile.pixels * blocks
    assert held <= products.held or (tile.rows, tile.pixels) == (1, 1)
    if tile.rows > 1:
        vectors = products.weight_bytes(tile, kernel, stride) // (products.lanes * products.taps)
        assert vectors * tile.pixels <= UNROLLED * np.dtype(products.dtype).itemsize


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole_blocks", [False, True])
def test_every_channel_is_in_one_piece(kind: str, whole_blocks: bool) -> None:
    """As wide as 128 bits of bytes allow first; a last, partial block is one of its own."""
    isa = next(isa for isa in INSTRUCTION_SETS.values() if repr(isa.channels) == kind)
    for channels in (2, 3, 16, 70, 144, 240):
        zeros, scale = np.zeros(channels, np.uint8), np.ones(channels, np.float32)
        weight, bias = np.ones((channels, 3, 3, 1), np.int8), np.zeros(channels, np.int32)
        node = Conv("conv", "x", weight, bias, zeros, (1, 1), (0, 0, 0, 0), zeros, 0, scale, channels)
        packed = pack(node, Tensor(9, 9, channels, 0, scale), isa, 7, 7, 9 * channels, whole_blocks)
        seen = np.zeros(channels + 4 * 16, int)
        for piece in packed.pieces:
            for index in range(piece.count):
                first = piece.channel + index * piece.tile.blocks * isa.lanes
                seen[first : first + piece.valid] += 1
            assert piece.valid == piece.tile.blocks * isa.lanes or (piece.count, piece.tile.blocks) == (1, 1)
            assert not whole_blocks or piece.tile.blocks == 1
        assert (seen[:channels] == 1).all() and len(packed.pieces) <= len(isa.channels.blocks) + 1
