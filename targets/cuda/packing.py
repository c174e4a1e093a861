"""Weights and parameters of a convolution in the order in which its kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, Tensor
from squeezeedge.lower.bias import offset_bias
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.tiling import STEP_BYTES, ChannelPlan, Plan

__all__ = ["MAX_SHIFT", "Packed", "checked_shift", "pack", "pack_depthwise", "reduction_bytes"]

GROUP = 16

MAX_SHIFT = 30
"""Largest shift k of the kernels: their arithmetic, and so the rounding term from 1 << k, is in int32."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Constants of one convolution.

    Attributes:
        weights: uint32: int8 [block of columns][chunk][group of 16][column][16]; of a depthwise convolution
            [kernel row][quad][column][channel, filled up][4] (:class:`.tiling.ChannelPlan`).
        parameters: int32 [2][channels, filled up]: biases, then shifts (0 in the head).
    """

    weights: NDArray[np.uint32]
    parameters: NDArray[np.int32]


def reduction_bytes(conv: Conv | Head, source: Layout) -> int:
    """Bytes of one output pixel's window, its pixels filled up as in memory."""
    _, kernel_h, kernel_w, _ = conv.weight.shape
    return int(kernel_h * kernel_w * source.pixel)


def column_order(plan: Plan) -> NDArray[Any]:
    """Channel, within a block, of each weight column: those of a lane become neighbours (see ``InstructionSet``)."""
    tiles = plan.tile.column_tiles
    warp, tile, pair, e = np.indices((plan.tile.warp_columns, tiles, 4, 2))
    order: NDArray[Any] = (warp * 8 * tiles + pair * 2 * tiles + tile * 2 + e).ravel()
    return order


def checked_shift(name: str, shift: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Shifts as the kernels take them.

    Raises:
        UnsupportedError: one is larger than ``MAX_SHIFT``; the text has the layer's name.
    """
    largest = int(shift.max())
    if largest > MAX_SHIFT:
        raise UnsupportedError(
            f"{name}: shift {largest}, CUDA's kernels shift by at most {MAX_SHIFT}; quantize with a smaller limit"
        )
    return shift.astype(np.int32)


def pack(conv: Conv | Head, tensor: Tensor, source: Layout, plan: Plan) -> Packed:
    """Reorder a convolution's constants; the filling is zero, and so are the head's shifts.

    The bias takes in the zero point's part: acc = bias + sum w * q, modulo 2**32.

    Args:
        conv: the convolution.
        tensor: its input.
        source: layout of that.
        plan: its tiles.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    out, kernel_h, kernel_w, channels = conv.weight.shape
    columns = plan.tile.columns
    blocks = -(-out // columns)
    filled = np.zeros((blocks * columns, kernel_h, kernel_w, source.pixel), np.int8)
    filled[:out, :, :, :channels] = conv.weight
    flat = filled.reshape(blocks, columns, -1)
    size = plan.chunks * plan.steps * STEP_BYTES
    rows = np.zeros((blocks, columns, size), np.int8)
    rows[:, :, : flat.shape[2]] = flat
    rows = rows[:, column_order(plan)].reshape(blocks, columns, plan.chunks, -1, GROUP)
    weights = np.ascontiguousarray(rows.transpose(0, 2, 3, 1, 4)).view(np.uint32).ravel()
    return Packed(weights, _parameters(conv, tensor, blocks * columns))


def pack_depthwise(conv: Conv | Head, tensor: Tensor, plan: ChannelPlan) -> Packed:
    """Reorder a depthwise convolution's constants, as :func:`pack` does.

    Each column of a tile has its own words for the same taps, at the position of its window's columns in the quads.
    All other positions are zero.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    out, kernel_h, kernel_w, _ = conv.weight.shape
    rows = np.zeros((plan.kernel_rows, plan.quads, plan.tile.columns, plan.filled_channels, 4), np.int8)
    for column in range(plan.tile.columns):
        for tap in range(kernel_w):
            quad, byte = divmod(column * conv.stride[1] + tap, 4)
            rows[:kernel_h, quad, column, :out, byte] = conv.weight[:, :, tap, 0].T
    return Packed(rows.view(np.uint32).ravel(), _parameters(conv, tensor, plan.filled_channels))


def _parameters(conv: Conv | Head, tensor: Tensor, filled: int) -> NDArray[np.int32]:
    parameters = np.zeros((2, filled), np.int32)
    parameters[0, : len(conv.bias)] = offset_bias(conv, tensor, 0)
    if isinstance(conv, Conv):
        parameters[1, : len(conv.bias)] = checked_shift(conv.name, conv.shift)
    return parameters.ravel()
