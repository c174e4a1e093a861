"""Weights and parameters of a convolution in the order in which its kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.lower.patterns import Convolution
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.tiling import STEP_BYTES, Plan

__all__ = ["Packed", "pack", "reduction_bytes"]

GROUP = 16


@dataclass(frozen=True, eq=False)
class Packed:
    """Constants of one convolution.

    Attributes:
        weights: uint32: int8 [block of columns][chunk][group of 16][column][16].
        parameters: int32 [2][channels, filled up]: biases, then shifts (0 in the head).
    """

    weights: NDArray[np.uint32]
    parameters: NDArray[np.int32]


def reduction_bytes(conv: Convolution, source: Layout) -> int:
    """Bytes of one output pixel's window, its pixels filled up as in memory."""
    _, kernel_h, kernel_w, _ = conv.weight.shape
    return int(kernel_h * kernel_w * source.pixel)


def column_order(plan: Plan) -> NDArray[Any]:
    """Channel, within a block, of each weight column: those of a lane become neighbours (see ``InstructionSet``)."""
    tiles = plan.tile.column_tiles
    warp, tile, pair, e = np.indices((plan.tile.warp_columns, tiles, 4, 2))
    order: NDArray[Any] = (warp * 8 * tiles + pair * 2 * tiles + tile * 2 + e).ravel()
    return order


def pack(conv: Convolution, source: Layout, plan: Plan) -> Packed:
    """Reorder a convolution's constants; what fills up is zero.

    The bias takes in the pad value's part: acc = bias + sum w * q, modulo 2**32.
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
    parameters = np.zeros((2, blocks * columns), np.int32)
    parameters[0, :out] = conv.bias_for(0)
    if conv.shift is not None:
        parameters[1, :out] = conv.shift
    return Packed(weights, parameters.ravel())
