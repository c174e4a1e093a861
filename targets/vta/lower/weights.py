"""A convolution's weights as matrices for the array: dense, or block-diagonal where it has groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["weight_elements"]


def weight_elements(
    weight: NDArray[np.int8], groups: int, lanes: NDArray[np.int64], block: int
) -> tuple[NDArray[np.int8], tuple[int, ...]]:
    """Matrices of block x block weights, of those blocks of the source only that an output block's groups touch.

    All output blocks read equally many blocks, ``depth``: of a dense convolution all of the source, of a depthwise one
    a single one, whose matrices are diagonal.

    Args:
        weight: int8 [out, kernel_h, kernel_w, in / groups].
        groups: as in the graph.
        lanes: the source's channel in each of its lanes, -1 where there is none.
        block: channels of an element.

    Returns:
        int8 [out blocks, kernel_h * kernel_w * depth, block of out, block of in], and for each output block the first
        block that it reads.
    """
    out, height, width, inputs = weight.shape
    reads = [
        _reads(range(first, min(first + block, out)), out // groups, inputs, lanes, block)
        for first in range(0, out, block)
    ]
    depth = max(end - first for first, end in reads)
    starts = tuple(min(first, len(lanes) // block - depth) for first, _ in reads)
    elements = np.zeros((len(reads), block, height, width, depth * block), np.int8)
    for index, first in enumerate(starts):
        rows = np.arange(index * block, min((index + 1) * block, out))
        channels = lanes[first * block : (first + depth) * block]
        own = channels - rows[:, None] // (out // groups) * inputs  # [rows, lanes]: input of the row's group
        valid = (channels >= 0) & (own >= 0) & (own < inputs)
        taken = np.take_along_axis(weight[rows], np.where(valid, own, 0)[:, None, None], 3)
        elements[index, : len(rows)] = np.where(valid[:, None, None], taken, 0)
    split = elements.reshape(len(reads), block, height, width, depth, block).transpose(0, 2, 3, 4, 1, 5)
    return np.ascontiguousarray(split).reshape(len(reads), -1, block, block), starts


def _reads(rows: range, outputs: int, inputs: int, lanes: NDArray[np.int64], block: int) -> tuple[int, int]:
    """Blocks of the source, first and end, that hold the input channels of some output channels' groups."""
    first, end = rows[0] // outputs * inputs, (rows[-1] // outputs + 1) * inputs
    at = np.flatnonzero((lanes >= first) & (lanes < end)) // block
    return int(at[0]), int(at[-1]) + 1
