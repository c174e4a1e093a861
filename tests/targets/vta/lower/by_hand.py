"""Layers by hand, with random weights."""

from __future__ import annotations

import numpy as np

from squeezeedge.graph import MaxPool
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import window_outputs
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part
from squeezeedge.targets.vta.lower.tensors import NO_PADS, Arena, Pads

Pair = tuple[int, int]


def conv_layer(
    size: Pair,
    channels: int,
    outs: tuple[int, ...],
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    *,
    zero_point: int = 128,
    halo: Pads = NO_PADS,
    pool: MaxPool | None = None,
    head: bool = False,
    block: int = 16,
    depthwise: bool = False,
) -> ConvLayer:
    """Convolutions side by side, with the same padding on both sides, and the pooling behind them.

    Depthwise: an output block reads the block of the same number only, so there is one part of ``channels`` outputs.
    """
    arena, random = Arena(block), np.random.default_rng(0)
    source = arena.value("source", Shape(*size, channels), zero_point, halo)
    height, width = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    out = Shape(height, width, sum(outs))
    if pool is not None:
        rows, columns = (
            window_outputs(
                (height, width)[i], pool.kernel[i], pool.stride[i], pool.padding[i], pool.padding[i + 2], False
            )
            for i in (0, 1)
        )
        out = Shape(rows, columns, sum(outs))
    parts = []
    for index, count in enumerate(outs):
        blocks = -(-count // block)
        taps = kernel[0] * kernel[1] * (1 if depthwise else len(source.origins))
        weight = random.integers(-127, 128, (blocks, taps, block, block), dtype=np.int8)
        target = None if head else arena.value(f"out/{index}", out._replace(channels=count), 0)
        first = tuple(range(blocks)) if depthwise else (0,) * blocks
        bias, shift = np.zeros((blocks, block), np.int32), np.zeros((blocks, block), np.uint8)
        parts.append(Part(kernel, padding, weight, bias, shift, not head, target, first))
    return ConvLayer("layer", source, tuple(parts), stride, height, width, out, pool, head)


def add_layer(size: Pair, channels: int, block: int = 16) -> AddLayer:
    """The sum of two tensors."""
    arena = Arena(block)
    first, second, target = (arena.value(name, Shape(*size, channels), 0) for name in ("a", "b", "sum"))
    shape = (len(target.origins), 2, block)
    return AddLayer("sum", (first, second), np.zeros(shape, np.int32), np.zeros(shape, np.uint8), True, target)
