"""Packed weights, multiplied the way a kernel reads them, give the convolution."""

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, Tensor, rules
from squeezeedge.targets.cpu.chains import HEADER, LENGTHS
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.packing import MAX_SHIFT, Packed, Piece, checked_shift, pack

ZERO_POINT = 128


def _convolution(out: int, kernel: tuple[int, int], channels: int, head: bool = False) -> Conv | Head:
    rng = np.random.default_rng(out * 100 + channels)
    weight = rng.integers(-127, 128, (out, *kernel, channels)).astype(np.int8)
    bias = rng.integers(-5000, 5000, out).astype(np.int32)
    shift = rng.integers(0, 16, out).astype(np.uint8)
    pads, scale = np.full(channels, ZERO_POINT, np.uint8), np.ones(out, np.float32)
    if head:
        return Head("head", "x", weight, bias, (1, 1), (0, 0, 0, 0), pads, False, scale)
    return Conv("conv", "x", weight, bias, shift, (1, 1), (0, 0, 0, 0), pads, 0, scale)


def _source(channels: int) -> Tensor:
    return Tensor(9, 11, channels, ZERO_POINT, np.ones(channels, np.float32))


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize(
    ("out", "kernel", "channels"), [(16, (1, 1), 64), (33, (3, 3), 5), (7, (1, 2), 3), (96, (3, 1), 48)]
)
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_accumulators(name: str, out: int, kernel: tuple[int, int], channels: int, head: bool) -> None:
    isa = INSTRUCTION_SETS[name]
    conv = _convolution(out, kernel, channels, head)
    row_steps, group = isa.steps(kernel[1] * channels)
    height, width = 9 - kernel[0] + 1, 11 - kernel[1] + 1
    packed = pack(conv, _source(channels), isa, height, width, row_steps * group, whole_blocks=head)
    shifts = np.zeros(out, np.int64) if isinstance(conv, Head) else conv.shift.astype(np.int64)
    rounding = rules.rounding_term(shifts)
    q = np.random.default_rng(0).integers(0, 256, (kernel[0], kernel[1] * channels))
    window = np.full((kernel[0], packed.steps * packed.group), 99)  # what lies behind the row does not count
    window[:, : q.shape[1]] = q
    centred = q.reshape(1, *kernel, channels) - ZERO_POINT
    expected = conv.bias + rounding + (conv.weight.astype(int) * centred).sum((1, 2, 3))
    got = np.zeros(out + 8 * isa.lanes, np.int64)
    seen = np.zeros(len(got), int)
    for piece in packed.pieces:
        blocks, n = piece.tile.blocks, isa.lanes
        size = kernel[0] * packed.steps * blocks * n * packed.group * isa.weight_size
        order = np.arange(blocks * n) if head else isa.lane_order(blocks)
        for index in range(piece.count):
            if isa.chained:
                planned = _in_chains if isa.paired else _in_neon_chains
                weights = np.stack(
                    [planned(packed, piece, index * blocks + b, n, kernel[0] * row_steps) for b in range(blocks)]
                )
                weights = weights.reshape(blocks, kernel[0], packed.steps, n, packed.group).transpose(1, 2, 0, 3, 4)
            else:
                weights = packed.weights[piece.weight + index * size :][:size].view(isa.weight_type).astype(int)
            if name == "amx":
                weights = weights.reshape(kernel[0], packed.steps, blocks, packed.group // 4, n, 4)
                weights = weights.transpose(0, 1, 2, 4, 3, 5)
            if name == "generic":
                weights = weights.reshape(kernel[0], packed.steps, blocks, packed.group // 2, n, 2).swapaxes(3, 4)
            weights = weights.reshape(kernel[0], packed.steps, blocks, n, packed.group)
            steps = (window - isa.input_offset).reshape(kernel[0], packed.steps, packed.group)
            parameters = packed.parameters[piece.parameter + index * blocks * 2 * n :][: blocks * 2 * n]
            bias, shift = parameters.reshape(blocks, 2, n).transpose(1, 0, 2).reshape(2, -1)
            acc = np.einsum("ksbng,ksg->bn", weights, steps).ravel() + bias
            channel = piece.channel + index * blocks * n + order
            got[channel] = acc
            seen[channel] += 1
            exists = channel < out
            np.testing.assert_array_equal(shift[exists], shifts[channel[exists]])
            assert not weights.transpose(2, 3, 0, 1, 4).reshape(blocks * n, -1)[~exists].any()
    np.testing.assert_array_equal(seen[:out], 1)
    np.testing.assert_array_equal(got[:out].astype(np.int32), expected.astype(np.int32))


def _in_chains(packed: Packed, piece: Piece, block: int, lanes: int, steps: int) -> NDArray[np.int64]:
    """A block's weights, [steps of the window, lanes, group], put together as its plan says."""
    table, weights = packed.parameters[piece.plan :], packed.weights[piece.weight :]
    weight, step, *counts = table[block * HEADER :][:HEADER].tolist()
    number = sum(count * length for count, length in zip(counts, LENGTHS, strict=True))
    own = weights[weight:][: number * lanes * packed.group].reshape(number, lanes, packed.group)
    whole = np.zeros((steps, lanes, packed.group), np.int64)
    np.add.at(whole, table[step:][:number] // packed.group, own)
    return whole


def _in_neon_chains(packed: Packed, piece: Piece, block: int, lanes: int, steps: int) -> NDArray[np.int64]:
    """The same of NEON's plans, which have four lanes each."""
    table, weights = packed.parameters[piece.plan :], packed.weights[piece.weight :]
    whole = np.zeros((steps, lanes, packed.group), np.int64)
    for part in range(lanes // 4):
        chains = table[1 + block * (lanes // 4) + part :][:2]
        for step in range(*table[chains].tolist()):
            own = weights[(step - table[0]) * 4 * packed.group :][: 4 * packed.group].reshape(4, packed.group)
            whole[table[step] // packed.group, part * 4 : part * 4 + 4] += own
    return whole


def test_pieces_start_on_cache_lines() -> None:
    packed = pack(_convolution(45, (3, 3), 5), _source(5), INSTRUCTION_SETS["avx-vnni"], 7, 9, 55)
    assert len(packed.pieces) == 2 and packed.pieces[1].valid == 5
    assert all(piece.weight % 64 == 0 and piece.parameter % 16 == 0 for piece in packed.pieces)


def test_shifts_that_int32_does_not_have_are_refused() -> None:
    np.testing.assert_array_equal(checked_shift("conv", np.array([0, MAX_SHIFT], np.uint8)), [0, MAX_SHIFT])
    with pytest.raises(UnsupportedError, match="conv: shift 31, the CPU's kernels shift by at most 30; quantize"):
        checked_shift("conv", np.array([0, 31], np.uint8))
