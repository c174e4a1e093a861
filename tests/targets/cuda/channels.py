"""Depthwise convolutions without a graph around them, and kernels of them."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

from squeezeedge.graph import Conv, Tensor
from squeezeedge.graph.windows import window_map
from squeezeedge.targets.cuda import depthwise
from squeezeedge.targets.cuda.depthwise import DepthwiseKernel, depthwise_kernel
from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.tiling import THREADS, ChannelPlan, ChannelTile

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def layer(
    size: Pair, channels: int, kernel: Pair, stride: Pair = (1, 1), padding: Pads = (0, 0, 0, 0), zero_point: int = 0
) -> tuple[Conv, Tensor]:
    """A depthwise convolution with random constants, and its input."""
    rng, scale = np.random.default_rng(channels), np.ones(channels, np.float32)
    weight = rng.integers(-127, 128, (channels, *kernel, 1)).astype(np.int8)
    bias = rng.integers(-20000, 20000, channels).astype(np.int32)
    shift = rng.integers(4, 12, channels).astype(np.uint8)
    pads = np.full(channels, zero_point, np.uint8)
    conv = Conv("conv", "x", weight, bias, shift, stride, padding, pads, 128, scale, groups=channels)
    return conv, Tensor(*size, channels, zero_point, scale)


def channel_kernel(
    conv: Conv, tensor: Tensor, tile: ChannelTile | None = None, name: str = "test", before: int = 0, after: int = 0
) -> tuple[Kernel, Layout]:
    """The kernel of a layer with a tile or the chosen one, and its output's layout: there, other channels are beside.

    Args:
        conv: the layer.
        tensor: its input.
        tile: of its threads.
        name: of the kernel.
        before: channels of the output in front of its.
        after: channels behind them.
    """
    source, out = Layout(*tensor.shape), window_map(tensor.shape, conv.weight.shape[1:3], conv.stride, conv.padding)
    target = Layout(*out, before + tensor.channels + after)
    made = _kernel(conv, tensor, out, source, tile)

    def body(block: Block) -> None:
        made.store(block, (block.constants[0], block.constants[1]), block.index, target, before, conv.zero_point)

    constants = (made.packed.weights, made.packed.parameters)
    return Kernel(
        name, made.blocks, THREADS, made.shared, (source.size,), constants, (target.size, "uint8"), body, made.macs
    ), target


def _kernel(conv: Conv, tensor: Tensor, out: Pair, source: Layout, tile: ChannelTile | None) -> DepthwiseKernel:
    shape = Tensor(*out, tensor.channels, 0, tensor.scale).shape
    if tile is None:
        return depthwise_kernel(conv, tensor, shape, 0, source)
    plan = ChannelPlan(tile, tensor.channels, (conv.weight.shape[1], conv.weight.shape[2]), conv.stride)
    with patch.object(depthwise, "choose_channel_tile", return_value=plan):
        return depthwise_kernel(conv, tensor, shape, 0, source)
