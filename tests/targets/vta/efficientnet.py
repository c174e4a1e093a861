"""EfficientNet-Lite0's shapes with random integer weights: depthwise 3x3 and 5x5 between 1x1 convolutions."""

from __future__ import annotations

import numpy as np

from squeezeedge.graph import IMAGE, IntegerGraph
from tests.graphs import GraphBuilder

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride, expansion, channels, blocks (Tan and Le 2019; the Lite variant has no squeeze-and-excitation)."""


def efficientnet_lite0(size: int = 224, classes: int = 1000) -> IntegerGraph:
    """The network for images of size x size."""
    builder = GraphBuilder(np.random.default_rng(0), (size, size))
    value = builder.conv(IMAGE, 32, (3, 3), (2, 2), _same(size, 3, 2), name="stem")
    for number, (kernel, stride, expansion, channels, blocks) in enumerate(STAGES):
        for block in range(blocks):
            before, name, step = value, f"stage{number}.{block}", stride if block == 0 else 1
            tensor = builder.tensors[value]
            wide = expansion * tensor.channels
            if expansion > 1:
                value = builder.conv(value, wide, name=f"{name}.expand")
            pads = _same(tensor.height, kernel, step)
            value = builder.conv(value, wide, (kernel,) * 2, (step,) * 2, pads, groups=wide, name=f"{name}.depthwise")
            value = builder.conv(value, channels, zero_point=128, name=f"{name}.project")
            if block:
                value = builder.add(before, value, 128, name=f"{name}.add")
    value = builder.conv(value, 1280, name="last")
    return builder.finish(value, classes, graph_name="efficientnet_lite0")


def _same(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Padding so that an output has size / stride rows, the odd one behind."""
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing // 2, missing - missing // 2, missing - missing // 2
