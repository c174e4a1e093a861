"""Weights, biases and shifts in the order in which the convolution kernels read them.

A kernel row of NHWC input is contiguous: kernel_w * channels bytes, whatever the channel count. It is reduced in steps
of the instruction set's ``group`` bytes; what a last step reads beyond the row is multiplied by zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, Tensor
from squeezeedge.lower.bias import offset_bias
from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.tiling import Tile

__all__ = ["MAX_SHIFT", "Packed", "Piece", "checked_shift", "pack"]

MAX_SHIFT = 30
"""Largest shift k of the kernels: their arithmetic, and so the rounding term from 1 << k, is in int32."""

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


def checked_shift(name: str, shift: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Shifts as the kernels take them.

    Raises:
        UnsupportedError: one is larger than ``MAX_SHIFT``; the text has the layer's name.
    """
    largest = int(shift.max())
    if largest > MAX_SHIFT:
        raise UnsupportedError(
            f"{name}: shift {largest}, the CPU's kernels shift by at most {MAX_SHIFT}; quantize with a smaller limit"
        )
    return shift.astype(np.int32)


def pack(
    conv: Conv | Head, source: Tensor, isa: InstructionSet, height: int, width: int, whole_blocks: bool = False
) -> Packed:
    """Pack a convolution.

    Args:
        conv: the convolution; the head's shifts are 0.
        source: its input.
        isa: the instruction set.
        height: output rows that the kernel computes at a time, at most.
        width: output pixels of a row.
        whole_blocks: of the head: its channels are filled up and stay in order, as nothing narrows them.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    out, kernel_h, kernel_w, channels = conv.weight.shape
    steps, group = isa.steps(kernel_w * channels)
    rows = np.zeros((out, kernel_h, steps * group), np.int8)
    rows[..., : kernel_w * channels] = conv.weight.reshape(out, kernel_h, -1)
    bias = offset_bias(conv, source, isa.input_offset)
    shift = checked_shift(conv.name, conv.shift if isinstance(conv, Conv) else np.zeros(out, np.uint8))
    pieces: list[Piece] = []
    weights: list[NDArray[np.int8]] = []
    parameters: list[NDArray[np.int32]] = []
    for channel, blocks, valid in _runs(out, isa.lanes, whole_blocks):
        tile = isa.tile(height, width, blocks)
        order = np.arange(tile.blocks * isa.lanes) if whole_blocks else isa.lane_order(tile.blocks)
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
        weights.append(_aligned(isa.arrange(packed)))
        values = np.stack([_padded(array, index).reshape(-1, isa.lanes) for array in (bias, shift)], 1)
        parameters.append(_aligned(values.astype(np.int32)))
    return Packed(group, steps, tuple(pieces), np.concatenate(weights), np.concatenate(parameters))


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
