"""Run the float graph in fp32 through torch: the reference of an ONNX file, and what the quantizer looks at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatNode,
    output_shape,
)

__all__ = ["apply_float", "execute_float", "run_float"]

BATCH = 16


def run_float(graph: FloatGraph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of a batch; memory holds the activations of a few images at a time.

    Args:
        graph: the float graph.
        x: normalized images, float32 [N, 3, height, width].

    Returns:
        float32 [N, classes].
    """
    logits = np.empty((len(x), graph.shapes[graph.nodes[-1].name][0]), np.float32)
    for start in range(0, len(x), BATCH):
        for name, value in execute_float(graph, torch.tensor(x[start : start + BATCH])):
            if name == graph.nodes[-1].name:
                logits[start : start + BATCH] = value.flatten(1).numpy()
    return logits


def execute_float(graph: FloatGraph, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Run a batch and yield every node's result in execution order; each is dropped after its last reader.

    Args:
        graph: the float graph.
        x: normalized images, float32 [N, 3, height, width].

    Yields:
        (node name, float32 [N, channels, height, width]).
    """
    if tuple(x.shape[1:]) != graph.shapes[IMAGE]:
        raise ValueError(f"images must be float32 [N, {', '.join(map(str, graph.shapes[IMAGE]))}]")
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    values = {IMAGE: x}
    for node in graph.nodes:
        with torch.no_grad():
            value = apply_float(node, [values[name] for name in node.inputs])
        values[node.name] = value
        for name in set(node.inputs):
            if last_reader[name] == node.name:
                del values[name]
        yield node.name, value


def apply_float(node: FloatNode, inputs: list[Tensor]) -> Tensor:
    """Run one node on float32 [N, channels, height, width] tensors."""
    x = inputs[0]
    if isinstance(node, FloatConv):
        top, left, bottom, right = node.padding
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), node.stride, (top, left))
    if isinstance(node, FloatBatchNorm):
        return x * _per_channel(node.multiplier) + _per_channel(node.offset)
    if isinstance(node, FloatMaxPool):
        return _max_pool(node, x)
    if isinstance(node, FloatConcat):
        return torch.cat(inputs, 1)
    if isinstance(node, FloatAdd):
        return x + inputs[1]
    if isinstance(node, FloatGlobalAveragePool):
        return x.mean((2, 3), keepdim=True)
    if isinstance(node, FloatLinear):
        return F.linear(x.flatten(1), torch.from_numpy(node.weight), torch.from_numpy(node.bias))[:, :, None, None]
    return x.relu()


def _max_pool(node: FloatMaxPool, x: Tensor) -> Tensor:
    """Padding and ceil mode as -inf pixels around the image; pixels that no window reaches are cut off."""
    channels, height, width = x.shape[1:]
    out = output_shape(node, [(channels, height, width)])
    top, left = node.padding[:2]
    below = (out[1] - 1) * node.stride[0] + node.kernel[0] - height - top
    beside = (out[2] - 1) * node.stride[1] + node.kernel[1] - width - left
    return F.max_pool2d(F.pad(x, (left, beside, top, below), value=-torch.inf), node.kernel, node.stride)


def _per_channel(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(array)[:, None, None]
