"""Weights, biases and shifts in the order in which the convolution kernels read them.

A kernel row of NHWC input is contiguous: kernel_w * channels bytes, whatever the channel count. It is reduced in steps
of the instruction set's ``group`` bytes; what a last step reads beyond the row is multiplied by zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.lower.patterns import Convolution
from squeezeedge.targets.cpu.isa import InstructionSet, MatrixSet, Tile

__all__ = ["Packed", "Piece", "pack"]

S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True)
class Piece:
    """A run of output channels that one loop nest computes.

    Attributes:
        channel: its first output channel.
        count: number of tiles along the channels.
        tile: the register tile.
        valid: channels of each tile that exist; fewer than the tile has in the last, partial block.
        weight: offset of its weights in bytes.
        parameter: offset of its biases and shifts in int32 values.
    """

    channel: int
    count: int
    tile: Tile
    valid: int
    weight: int
    parameter: int


@dataclass(frozen=True, eq=False)
class Packed:
    """A convolution's constants.

    Attributes:
        group: input bytes a reduction step.
        steps: reduction steps a kernel row.
        pieces: which channels are where.
        weights: int8, per piece [count, kernel_h, steps, blocks, lanes, group] (AMX: [..., group / 4, 16, 4]).
        parameters: int32, per piece [count, blocks, 2, lanes]: bias and shift.
    """

    group: int
    steps: int
    pieces: tuple[Piece, ...]
    weights: NDArray[np.int8]
    parameters: NDArray[np.int32]


def pack(conv: Convolution, isa: InstructionSet, height: int) -> Packed:
    """Pack a convolution.

    Args:
        conv: the convolution; without a shift (the head) its channels are filled up to whole blocks.
        isa: the instruction set.
        height: output rows that the kernel computes at a time, at most.
    """
    out, kernel_h, kernel_w, channels = conv.weight.shape
    steps, group = _steps(kernel_w * channels, isa)
    rows = np.zeros((out, kernel_h, steps * group), np.int8)
    rows[..., : kernel_w * channels] = conv.weight.reshape(out, kernel_h, -1)
    bias = conv.bias_for(isa.input_offset)
    is_head = conv.shift is None
    shift = np.zeros(out, np.int32) if conv.shift is None else conv.shift
    pieces: list[Piece] = []
    weights: list[NDArray[np.int8]] = []
    parameters: list[NDArray[np.int32]] = []
    for channel, blocks, valid in _runs(out, isa.lanes, is_head):
        tile = isa.tile(height, conv.out[1], blocks)
        order = np.arange(tile.blocks * isa.lanes) if is_head else isa.lane_order(tile.blocks)
        index = channel + np.arange(0, blocks * isa.lanes, len(order))[:, None] + order  # [tiles, lanes of a tile]
        piece = Piece(
            channel,
            len(index),
            tile,
            min(valid, len(order)),
            sum(array.size for array in weights),
            sum(array.size for array in parameters),
        )
        pieces.append(piece)
        packed = _padded(rows, index).reshape(len(index), tile.blocks, isa.lanes, kernel_h, steps, group)
        if isinstance(isa, MatrixSet):  # rows of four bytes a lane
            packed = packed.reshape(*packed.shape[:-1], group // 4, 4).transpose(0, 3, 4, 1, 5, 2, 6)
        else:
            packed = packed.transpose(0, 3, 4, 1, 2, 5)
        weights.append(_aligned(packed))
        values = np.stack([_padded(array, index).reshape(-1, isa.lanes) for array in (bias, shift)], 1)
        parameters.append(_aligned(values.astype(np.int32)))
    return Packed(group, steps, tuple(pieces), np.concatenate(weights), np.concatenate(parameters))


def _steps(row: int, isa: InstructionSet) -> tuple[int, int]:
    """(number of reduction steps, bytes of one) of a kernel row of so many bytes."""
    if not isinstance(isa, MatrixSet):
        return -(-row // isa.group), isa.group
    steps = -(-row // isa.group)
    return steps, -(-row // (4 * steps)) * 4


def _runs(out: int, lanes: int, whole_blocks: bool) -> list[tuple[int, int, int]]:
    """(first channel, blocks, valid channels) of the pieces."""
    if whole_blocks:
        blocks = -(-out // lanes)
        blocks += blocks % 2 if blocks > 1 else 0
        return [(0, blocks, blocks * lanes)]
    full, rest = divmod(out, lanes)
    runs = [(0, full, full * lanes)] if full else []
    return [*runs, (full * lanes, 1, rest)] if rest else runs


def _padded(array: NDArray[S], index: NDArray[np.intp]) -> NDArray[S]:
    """array[index], zero where the channel does not exist."""
    exists = index < len(array)
    return np.where(
        exists.reshape(*exists.shape, *[1] * (array.ndim - 1)), array[np.where(exists, index, 0)], array.dtype.type(0)
    )


def _aligned(array: NDArray[S]) -> NDArray[S]:
    """Flattened, padded to whole cache lines."""
    flat = np.ascontiguousarray(array).ravel()
    unit = 64 // flat.itemsize
    return np.pad(flat, (0, -flat.size % unit))
