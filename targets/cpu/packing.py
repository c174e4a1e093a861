"""Weights, biases and shifts in the order in which the convolution kernels read them.

A kernel row of NHWC input is contiguous: kernel_w * channels bytes, whatever the channel count. It is reduced in steps
of the instruction set's ``group`` bytes; what a last step reads beyond the row is multiplied by zero weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, Tensor
from squeezeedge.lower.bias import offset_bias
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.tiling import Tile

__all__ = ["MAX_SHIFT", "Packed", "Piece", "checked_shift", "pack"]

MAX_SHIFT = 30
"""Largest shift k of the kernels: their arithmetic, and so the rounding term from 1 << k, is in int32."""

S = TypeVar("S", bound=np.generic)

_NO_PLAN = np.zeros(0, np.int32)


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
        plan: offset of its plan (``InstructionSet.plan``), where it has one.
    """

    channel: int
    count: int
    tile: Tile
    valid: int
    weight: int
    parameter: int
    plan: int


@dataclass(frozen=True, eq=False)
class Packed:
    """A convolution's constants.

    Attributes:
        group: input bytes a reduction step; 0 of a depthwise convolution.
        steps: reduction steps a kernel row; 0 of a depthwise convolution.
        pieces: which channels are where.
        weights: int8, per piece [count, kernel_h, steps, blocks, lanes, group] (AMX: [..., group / 4, 16, 4]); of a
            depthwise convolution as :meth:`squeezeedge.targets.cpu.depthwise.ChannelProducts.arrange` says; where there
            is a plan, [its steps, lanes, group].
        parameters: int32, per piece [count, blocks, 2, lanes], bias and shift, then its plan.
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
    conv: Conv | Head,
    source: Tensor,
    isa: InstructionSet,
    height: int,
    width: int,
    row: int,
    whole_blocks: bool = False,
) -> Packed:
    """Pack a convolution.

    Args:
        conv: the convolution; the head's shifts are 0.
        source: its input.
        isa: the instruction set.
        height: output rows that the kernel computes at a time, at most.
        width: output pixels of a row.
        row: bytes from one row of its input to the next.
        whole_blocks: of the head: its channels are filled up and stay in order, as nothing narrows them.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    form = _depthwise(conv, isa, whole_blocks) if is_depthwise(conv) else _dense(conv, isa, row, whole_blocks)
    bias = offset_bias(conv, source, form.input_offset)
    shift = checked_shift(conv.name, conv.shift if isinstance(conv, Conv) else np.zeros(len(bias), np.uint8))
    pieces: list[Piece] = []
    weights: list[NDArray[np.int8]] = []
    parameters: list[NDArray[np.int32]] = []
    for channel, blocks, valid in form.runs:
        tile = form.tile(height, width, blocks)
        order = np.arange(tile.blocks * isa.lanes) if whole_blocks else form.lane_order(tile.blocks)
        index = channel + np.arange(0, blocks * isa.lanes, len(order))[:, None] + order  # [tiles, lanes of a tile]
        piece = Piece(
            channel,
            len(index),
            tile,
            min(valid, len(order)),
            sum(array.size for array in weights),
            sum(array.size for array in parameters),
            sum(array.size for array in parameters) + 2 * index.size,
        )
        pieces.append(piece)
        arranged, plan = form.arrange(index.reshape(len(index), tile.blocks, isa.lanes), tile)
        weights.append(_aligned(arranged))
        values = np.stack([_padded(array, index).reshape(-1, isa.lanes) for array in (bias, shift)], 1)
        parameters.append(_aligned(np.concatenate([values.astype(np.int32).ravel(), plan])))
    return Packed(form.group, form.steps, tuple(pieces), np.concatenate(weights), np.concatenate(parameters))


@dataclass(frozen=True)
class _Form:
    """How a convolution is packed.

    Attributes:
        input_offset: what the kernel subtracts from every q.
        group: of ``Packed``.
        steps: of ``Packed``.
        runs: (first channel, blocks, valid channels) of the pieces.
        lane_order: takes a tile's blocks, returns the channel of the tile that each accumulator lane holds.
        tile: takes the map's height and width and a run's blocks.
        arrange: takes the output channels [tile, block, lane] and the tile, returns their weights as they are read, and
            the plan of that.
    """

    input_offset: int
    group: int
    steps: int
    runs: list[tuple[int, int, int]]
    lane_order: Callable[[int], NDArray[np.intp]]
    tile: Callable[[int, int, int], Tile]
    arrange: Callable[[NDArray[np.intp], Tile], tuple[NDArray[np.int8], NDArray[np.int32]]]


def _dense(conv: Conv | Head, isa: InstructionSet, row: int, whole_blocks: bool) -> _Form:
    assert conv.groups == 1, f"{conv.name} has not been legalized"
    out, kernel_h, kernel_w, channels = conv.weight.shape
    steps, group = isa.steps(kernel_w * channels)
    rows = np.zeros((out, kernel_h, steps * group), np.int8)
    rows[..., : kernel_w * channels] = conv.weight.reshape(out, kernel_h, -1)

    places = np.add.outer(np.arange(kernel_h) * row, np.arange(steps) * group).ravel()

    def arrange(index: NDArray[np.intp], tile: Tile) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        own = _padded(rows, index).reshape(*index.shape, kernel_h, steps, group)
        if not isa.chained:
            return isa.arrange(own), _NO_PLAN
        return isa.plan(conv.name, own.reshape(-1, isa.lanes, kernel_h * steps, group), places)

    return _Form(isa.input_offset, group, steps, _runs(out, isa.lanes, whole_blocks), isa.lane_order, isa.tile, arrange)


def _runs(out: int, lanes: int, whole_blocks: bool) -> list[tuple[int, int, int]]:
    if whole_blocks:
        blocks = -(-out // lanes)
        blocks += blocks % 2 if blocks > 1 else 0
        return [(0, blocks, blocks * lanes)]
    full, rest = divmod(out, lanes)
    runs = [(0, full, full * lanes)] if full else []
    return [*runs, (full * lanes, 1, rest)] if rest else runs


def _depthwise(conv: Conv | Head, isa: InstructionSet, whole_blocks: bool) -> _Form:
    """Tiles of as many blocks as are brought side by side at a time, then of single blocks."""
    products, lanes, out = isa.channels, isa.lanes, len(conv.weight)
    kernel_h, kernel_w = conv.weight.shape[1:3]
    counts = (1,) if whole_blocks else products.blocks
    left, rest = divmod(-(-out // lanes) * lanes if whole_blocks else out, lanes)
    runs: list[tuple[int, int, int]] = []
    for count in counts:
        blocks = left - left % count
        if blocks:
            runs.append((sum(run[2] for run in runs), blocks, blocks * lanes))
        left -= blocks
    if rest:
        runs.append((out - rest, 1, rest))

    def tile(height: int, width: int, blocks: int) -> Tile:
        held = next(count for count in counts if blocks % count == 0)
        return products.tile(height, width, held, (kernel_h, kernel_w), conv.stride)

    def arrange(index: NDArray[np.intp], tile: Tile) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        return products.arrange(_padded(conv.weight[..., 0], index), tile.rows, conv.stride), _NO_PLAN

    return _Form(products.input_offset, 0, 0, runs, products.lane_order, tile, arrange)


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
