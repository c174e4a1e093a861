"""A convolution's weights as matrices for the array: dense, or block-diagonal where it has groups.

An element of the input is ``block`` channels of one pixel, and a step of the array multiplies one by a block x block
matrix. So the output block of a depthwise convolution reads the input block of the same number alone, with a diagonal
matrix for each position of the kernel: kernel_h * kernel_w steps an output element, which use 1/block of the array.
That is the most that this layout allows, in any order: an element has no second input of the same channel.

The alternatives, in steps of an output element, for a 5x5 kernel (25 steps with diagonal matrices):

- a dense convolution: 25 * channels / block steps, and 33 MB of weights for a layer with 1152 channels.
- the vector unit: two cycles an operation, and no published operation multiplies (ADD, MAX, MIN, SHR). With one that
  does, a position of the kernel would take a copy, a product and a sum, six cycles, and the array would first have to
  copy the inputs into the accumulators. XADD and XPOOL do not multiply either.
- elements of two pixels of block / 2 channels: 15 steps (two outputs read three pairs in each of five rows); a 3x3
  kernel takes 6 instead of 9. But then the 1x1 convolutions in front and behind use half of the array: (channels in
  of the one + channels out of the other) / block more steps. One of EfficientNet-Lite0's 16 depthwise layers (between
  40 -> 240 and 240 -> 40 channels) would gain, a hundredth of the network's cycles.
- a transposition of lanes and pixels by the array, so that a matrix holds a row of outputs: ``block`` steps an element
  in each direction.

EfficientNet-Lite0 (224 x 224, block 16, 8 bytes a cycle): its depthwise layers use 5.9 % of the array; at most 6.25 %
are possible. Published instructions reach 3.5 %, as their vector unit also takes cycles to requantize.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["weight_elements"]


def weight_elements(
    weight: NDArray[np.int8], groups: int, lanes: NDArray[np.int64], block: int
) -> tuple[NDArray[np.int8], tuple[int, ...]]:
    """Matrices of block x block weights, only for the source blocks that an output block's groups touch.

    All output blocks read equally many blocks, ``depth``. In a dense convolution these are all source blocks; in a
    depthwise one it is a single block, whose matrices are diagonal.

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
