"""Run the float graph in fp32 through torch: the reference of an ONNX file, and what the quantizer looks at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.graph import (
    FLOAT_OPERATORS,
    IMAGE,
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatNode,
    FloatRelu,
    output_shape,
)
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import floor_padding

__all__ = ["apply_float", "execute_float", "images_together", "not_finite", "run_float"]

MAX_BATCH = 64
BATCH_PIXELS = 4 * 224 * 224


def images_together(height: int, width: int) -> int:
    """How many images of a size a processor runs at a time: their activations stay near it, and its cores are busy."""
    return min(MAX_BATCH, max(1, BATCH_PIXELS // (height * width)))


def run_float(graph: FloatGraph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of a batch; memory holds the activations of a few images at a time.

    Args:
        graph: the float graph.
        x: normalized images, float32 [N, 3, height, width].

    Returns:
        float32 [N, classes].

    Raises:
        SqueezeEdgeError: they are not finite; names the first layer whose values are not.
    """
    logits = np.empty((len(x), graph.shapes[graph.nodes[-1].name].channels), np.float32)
    together = images_together(*x.shape[2:])
    for start in range(0, len(x), together):
        images = torch.tensor(x[start : start + together]).contiguous(memory_format=torch.channels_last)
        for name, value in execute_float(graph, images):
            if name == graph.nodes[-1].name:
                logits[start : start + together] = value.flatten(1).numpy()
        if not np.isfinite(logits[start : start + together]).all():
            for name, value in execute_float(graph, images):
                if not value.isfinite().all():
                    raise SqueezeEdgeError(not_finite(name))
    return logits


def not_finite(layer: str) -> str:
    """The message for a network that overflows."""
    return (
        f"{layer}: computes values that are not finite in float32 (infinity or NaN), so the network has no answer; its "
        "weights or its preprocessing (mean and standard deviation) are wrong, or its training diverged"
    )


def execute_float(graph: FloatGraph, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Run a batch and yield every node's result in execution order; each is dropped after its last reader.

    Args:
        graph: the float graph.
        x: normalized images, float32 [N, 3, height, width].

    Yields:
        (node name, float32 [N, channels, height, width]).
    """
    height, width, channels = graph.shapes[IMAGE]
    if x.shape[1:] != (channels, height, width):
        raise ValueError(f"images must be float32 [N, {channels}, {height}, {width}]")
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


apply_float: Table[FloatNode, Tensor] = Table("float run", FLOAT_OPERATORS)
"""``apply_float(node, inputs)``: run one node on float32 [N, channels, height, width] tensors."""


@apply_float.implements(FloatConv)
def _convolution(node: FloatConv, inputs: Sequence[Tensor]) -> Tensor:
    top, left, bottom, right = node.padding
    x = inputs[0]
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
    return F.conv2d(x, weight, bias, node.stride, (top, left), groups=node.groups)


@apply_float.implements(FloatBatchNorm)
def _batch_norm(node: FloatBatchNorm, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] * _per_channel(node.multiplier) + _per_channel(node.offset)


@apply_float.implements(FloatRelu)
def _relu(node: FloatRelu, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].relu() if math.isinf(node.limit) else inputs[0].clamp(0, node.limit)


@apply_float.implements(FloatMaxPool)
def _max_pool(node: FloatMaxPool, inputs: Sequence[Tensor]) -> Tensor:
    """Padding and ceil mode as -inf pixels around the image."""
    _, channels, height, width = inputs[0].shape
    source = Shape(height, width, channels)
    out = output_shape(node, [source])
    top, left, bottom, right = floor_padding(source, out, node.kernel, node.stride, node.padding)
    padded = F.pad(inputs[0], (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(padded, node.kernel, node.stride)


@apply_float.implements(FloatAveragePool)
def _average_pool(node: FloatAveragePool, inputs: Sequence[Tensor]) -> Tensor:
    top, left, bottom, right = node.padding
    padded = F.pad(inputs[0], (left, right, top, bottom))
    return F.avg_pool2d(padded, node.kernel, node.stride, divisor_override=node.divisor)


@apply_float.implements(FloatConcat)
def _concat(node: FloatConcat, inputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(inputs), 1)


@apply_float.implements(FloatAdd)
def _add(node: FloatAdd, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0] + inputs[1]


@apply_float.implements(FloatGlobalAveragePool)
def _global_average_pool(node: FloatGlobalAveragePool, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].mean((2, 3), keepdim=True)


@apply_float.implements(FloatLinear)
def _linear(node: FloatLinear, inputs: Sequence[Tensor]) -> Tensor:
    vector = inputs[0].flatten(1)
    return F.linear(vector, torch.from_numpy(node.weight), torch.from_numpy(node.bias))[:, :, None, None]


def _per_channel(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(array)[:, None, None]
