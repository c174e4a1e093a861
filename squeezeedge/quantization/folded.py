"""The folded graph: what the passes over the float graph end in and the quantization starts from.

Float32, NCHW. The input is the image's pixels as they are (0..255, R2). Four kinds of nodes are left: convolution
and addition, with their ReLU, max pooling, concatenation; the last is the head, whose mean over the map is the
logits. What is left to choose are scales, shifts and integer weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.graph import FloatAdd, FloatConcat, FloatConv, FloatMaxPool, output_shape
from squeezeedge.graph.float.run import apply_float
from squeezeedge.graph.integer import IMAGE
from squeezeedge.quantization.exact import exact_conv2d
from squeezeedge.quantization.rewrite import of_kind

__all__ = [
    "FOLDED_OPERATORS",
    "FoldedAdd",
    "FoldedConv",
    "FoldedGraph",
    "FoldedNode",
    "apply_folded",
    "execute_folded",
    "pad",
]


@dataclass(frozen=True, eq=False)
class FoldedConv(FloatConv):
    """A convolution with its ReLU.

    Attributes:
        pad_value: float32 [in]: what a padded pixel holds; 0 except on the image, where it is the mean pixel.
        relu: whether a ReLU follows.
        limit: of that ReLU: min(max(x, 0), limit); infinite without one.
    """

    pad_value: NDArray[np.float32]
    relu: bool
    limit: float = field(default=math.inf, kw_only=True)


@dataclass(frozen=True, eq=False)
class FoldedAdd(FloatAdd):
    """An addition with its ReLU, which has no limit (:mod:`place_relu`)."""

    relu: bool


FoldedNode = FoldedConv | FoldedAdd | FloatMaxPool | FloatConcat

FOLDED_OPERATORS: tuple[type[FoldedNode], ...] = (FoldedConv, FoldedAdd, FloatMaxPool, FloatConcat)
"""The family of the tables of :mod:`squeezeedge.graph.dispatch` for folded graphs."""


@dataclass(frozen=True, eq=False)
class FoldedGraph:
    """A whole network.

    Attributes:
        nodes: in execution order; the last is the head, a convolution.
        input_size: (height, width) of the image.
        shapes: of every tensor (derived).
        zero_points: of every tensor, R1: 0 if it has no negatives, else 128 (derived).
        last_reader: name of the last node that reads a tensor (derived).
        convolutions: in execution order, the head included (derived).
        additions: in execution order (derived).
        rectified: convolutions and additions that a ReLU follows -> its limit (derived).
    """

    nodes: tuple[FoldedNode, ...]
    input_size: tuple[int, int]
    shapes: Mapping[str, rules.Shape] = field(init=False, repr=False)
    zero_points: Mapping[str, int] = field(init=False, repr=False)
    last_reader: Mapping[str, str] = field(init=False, repr=False)
    convolutions: tuple[FoldedConv, ...] = field(init=False, repr=False)
    additions: tuple[FoldedAdd, ...] = field(init=False, repr=False)
    rectified: Mapping[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shapes = {IMAGE: rules.Shape(*self.input_size, 3)}
        zero_points = {IMAGE: rules.ZERO_POINTS[0]}
        for node in self.nodes:
            shapes[node.name] = output_shape(node, [shapes[name] for name in node.inputs])
            zero_points[node.name] = _zero_point(node, [zero_points[name] for name in node.inputs])
        convolutions, additions = of_kind(self.nodes, FoldedConv), of_kind(self.nodes, FoldedAdd)
        rectified = {conv.name: conv.limit for conv in convolutions if conv.relu}
        rectified |= {addition.name: math.inf for addition in additions if addition.relu}
        derived = {
            "shapes": MappingProxyType(shapes),
            "zero_points": MappingProxyType(zero_points),
            "last_reader": MappingProxyType({name: node.name for node in self.nodes for name in node.inputs}),
            "convolutions": tuple(convolutions),
            "additions": tuple(additions),
            "rectified": MappingProxyType(rectified),
        }
        for key, value in derived.items():
            object.__setattr__(self, key, value)

    @property
    def head(self) -> FoldedConv:
        """The last node."""
        return self.convolutions[-1]

    @property
    def scaled(self) -> tuple[str, ...]:
        """Names of the tensors that get a scale of their own, in execution order: all but pooled and joined ones."""
        names = {conv.name for conv in self.convolutions[:-1]} | {addition.name for addition in self.additions}
        return tuple(node.name for node in self.nodes if node.name in names)


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
        if node.name in graph.rectified:
            value.clamp_(0, graph.rectified[node.name])
        values[node.name] = value
        for name in set(node.inputs):
            if graph.last_reader[name] == node.name:
                del values[name]


apply_folded: Table[FoldedNode, Tensor] = Table("folded network", FOLDED_OPERATORS)
"""Run one node without its ReLU: (node, list of float32 [N, channels, height, width]) -> tensor of that kind."""


@apply_folded.implements(FoldedConv)
def _conv(node: FoldedConv, inputs: list[Tensor]) -> Tensor:
    x = pad(inputs[0], node.padding, node.pad_value)
    return exact_conv2d(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), node.stride, node.groups)


@apply_folded.implements(FoldedAdd, FloatMaxPool, FloatConcat)
def _as_float(node: FoldedAdd | FloatMaxPool | FloatConcat, inputs: list[Tensor]) -> Tensor:
    return apply_float(node, inputs)


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


_zero_point: Table[FoldedNode, int] = Table("zero points of the folded network", FOLDED_OPERATORS)
"""(node, zero points of its inputs) -> that of its result: 0 if it has no negatives (R1)."""


@_zero_point.implements(FoldedConv)
def _of_conv(node: FoldedConv, inputs: Sequence[int]) -> int:
    return rules.ZERO_POINTS[not node.relu]


@_zero_point.implements(FoldedAdd)
def _of_sum(node: FoldedAdd, inputs: Sequence[int]) -> int:
    return rules.ZERO_POINTS[0] if node.relu else max(inputs)


@_zero_point.implements(FloatMaxPool, FloatConcat)
def _of_operands(node: FloatMaxPool | FloatConcat, inputs: Sequence[int]) -> int:
    return max(inputs)
