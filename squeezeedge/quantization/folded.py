"""The folded graph: what the passes over the float graph end in and the quantization starts from.

Float32, NCHW. The input is the image's pixels as they are (0..255, R2). Four kinds of nodes are left: convolution
and addition, with their ReLU, max pooling, concatenation; the last is the head, whose mean over the map is the
logits. What is left to choose are scales, shifts and integer weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.graph.float.graph import FloatAdd, FloatConcat, FloatConv, FloatMaxPool, Shape, output_shape
from squeezeedge.graph.float.run import apply_float
from squeezeedge.graph.integer import IMAGE

__all__ = ["FoldedAdd", "FoldedConv", "FoldedGraph", "FoldedNode", "apply_folded", "execute_folded", "pad"]


@dataclass(frozen=True, eq=False)
class FoldedConv(FloatConv):
    """A convolution with its ReLU.

    Attributes:
        pad_value: float32 [in]: what a padded pixel holds; 0 except on the image, where it is the mean pixel.
        relu: whether a ReLU follows.
    """

    pad_value: NDArray[np.float32]
    relu: bool


@dataclass(frozen=True, eq=False)
class FoldedAdd(FloatAdd):
    """An addition with its ReLU."""

    relu: bool


FoldedNode = FoldedConv | FoldedAdd | FloatMaxPool | FloatConcat


@dataclass(frozen=True, eq=False)
class FoldedGraph:
    """A whole network.

    Attributes:
        nodes: in execution order; the last is the head, a convolution.
        input_size: (height, width) of the image.
        shapes: (channels, height, width) of every tensor (derived).
        zero_points: of every tensor, R1: 0 if it has no negatives, else 128 (derived).
        last_reader: name of the last node that reads a tensor (derived).
    """

    nodes: tuple[FoldedNode, ...]
    input_size: tuple[int, int]
    shapes: Mapping[str, Shape] = field(init=False, repr=False)
    zero_points: Mapping[str, int] = field(init=False, repr=False)
    last_reader: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {IMAGE: (3, *self.input_size)}
        zero_points = {IMAGE: 0}
        for node in self.nodes:
            shapes[node.name] = output_shape(node, [shapes[name] for name in node.inputs])
            zero_points[node.name] = _zero_point(node, [zero_points[name] for name in node.inputs])
        object.__setattr__(self, "shapes", MappingProxyType(shapes))
        object.__setattr__(self, "zero_points", MappingProxyType(zero_points))
        readers = {name: node.name for node in self.nodes for name in node.inputs}
        object.__setattr__(self, "last_reader", MappingProxyType(readers))

    @property
    def head(self) -> FoldedConv:
        """The last node."""
        head = self.nodes[-1]
        assert isinstance(head, FoldedConv)
        return head


def execute_folded(graph: FoldedGraph, pixels: Tensor) -> Iterator[tuple[FoldedNode, Tensor]]:
    """Run a batch and yield every node's result before its ReLU; each is dropped after its last reader.

    Args:
        graph: the folded graph.
        pixels: float32 [N, 3, height, width], 0..255.

    Yields:
        (node, float32 [N, channels, height, width]); it is changed in place when the generator goes on.
    """
    values = {IMAGE: pixels}
    for node in graph.nodes:
        value = apply_folded(node, [values[name] for name in node.inputs])
        yield node, value
        if isinstance(node, FoldedConv | FoldedAdd) and node.relu:
            value.relu_()
        values[node.name] = value
        for name in set(node.inputs):
            if graph.last_reader[name] == node.name:
                del values[name]


def apply_folded(node: FoldedNode, inputs: Sequence[Tensor]) -> Tensor:
    """Run one node without its ReLU on float32 [N, channels, height, width] tensors."""
    if isinstance(node, FoldedConv):
        x = pad(inputs[0], node.padding, node.pad_value)
        return F.conv2d(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), node.stride)
    return apply_float(node, list(inputs))


def pad(x: Tensor, padding: tuple[int, int, int, int], value: NDArray[np.generic]) -> Tensor:
    """Put pixels around an image.

    Args:
        x: [N, channels, height, width].
        padding: (top, left, bottom, right).
        value: [channels], of the new pixels.
    """
    top, left, bottom, right = padding
    if not any(padding):
        return x
    if not value.any():
        return F.pad(x, (left, right, top, bottom))
    channels, height, width = x.shape[1:]
    padded = torch.empty((len(x), channels, height + top + bottom, width + left + right), dtype=x.dtype)
    padded[:] = torch.from_numpy(value).to(x.dtype)[:, None, None]
    padded[:, :, top : top + height, left : left + width] = x
    return padded


def _zero_point(node: FoldedNode, inputs: Sequence[int]) -> int:
    if isinstance(node, FoldedConv):
        return 0 if node.relu else 128
    if isinstance(node, FoldedAdd) and node.relu:
        return 0
    return max(inputs)
