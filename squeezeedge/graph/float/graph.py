"""The float graph: what the importers make and the quantizer reads. NCHW, float32, batch 1, static shapes.

Nodes are in execution order and make one tensor of their own name; the input is ``image``: the normalized
float32 image, RGB. A graph that exists is a consistent one: names, shapes and values are checked when it is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import MAX_PIXELS
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import IMAGE
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import window_map

__all__ = [
    "FLOAT_OPERATORS",
    "IMAGE",
    "FloatAdd",
    "FloatAveragePool",
    "FloatBatchNorm",
    "FloatConcat",
    "FloatConv",
    "FloatGlobalAveragePool",
    "FloatGraph",
    "FloatLinear",
    "FloatMaxPool",
    "FloatNode",
    "FloatRelu",
    "output_shape",
]

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FloatConv:
    """Convolution. weight float32 [out, in / groups, kh, kw], bias float32 [out]; padding (t, l, b, r).

    With ``groups`` g, the o-th part of the outputs reads the o-th part of the input channels only.
    """

    name: str
    inputs: tuple[str]
    weight: F32
    bias: F32
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int = field(default=1, kw_only=True)


@dataclass(frozen=True, eq=False)
class FloatBatchNorm:
    """Inference batch normalization as y = x * multiplier + offset; both float32 [channels]."""

    name: str
    inputs: tuple[str]
    multiplier: F32
    offset: F32


@dataclass(frozen=True, eq=False)
class FloatRelu:
    """min(max(x, 0), limit); ReLU6 has the limit 6."""

    name: str
    inputs: tuple[str]
    limit: float = math.inf


@dataclass(frozen=True, eq=False)
class FloatMaxPool:
    """Max pooling over valid pixels; padding (top, left, bottom, right)."""

    name: str
    inputs: tuple[str]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    ceil_mode: bool


@dataclass(frozen=True, eq=False)
class FloatAveragePool:
    """The sum over each window, padded pixels being 0, divided by ``divisor``; padding (top, left, bottom, right)."""

    name: str
    inputs: tuple[str]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    divisor: int


@dataclass(frozen=True, eq=False)
class FloatConcat:
    """Concatenation over channels."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FloatAdd:
    """Element-wise sum of two tensors of one shape."""

    name: str
    inputs: tuple[str, str]


@dataclass(frozen=True, eq=False)
class FloatGlobalAveragePool:
    """Mean over height and width."""

    name: str
    inputs: tuple[str]


@dataclass(frozen=True, eq=False)
class FloatLinear:
    """Fully connected layer on the pooled vector. weight float32 [out, in], bias float32 [out]."""

    name: str
    inputs: tuple[str]
    weight: F32
    bias: F32


FloatNode = (
    FloatConv
    | FloatBatchNorm
    | FloatRelu
    | FloatMaxPool
    | FloatAveragePool
    | FloatConcat
    | FloatAdd
    | FloatGlobalAveragePool
    | FloatLinear
)

FLOAT_OPERATORS: tuple[type[FloatNode], ...] = (
    FloatConv,
    FloatBatchNorm,
    FloatRelu,
    FloatMaxPool,
    FloatAveragePool,
    FloatConcat,
    FloatAdd,
    FloatGlobalAveragePool,
    FloatLinear,
)
"""The family of the tables of :mod:`squeezeedge.graph.dispatch` for float graphs."""


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """A whole float network; the last node's result (flattened) is the logits.

    Attributes:
        name: for people and file names.
        nodes: in execution order.
        input_size: (height, width) of the image.
        shapes: of every tensor by name, the image included (derived).

    Raises:
        UnsupportedError: names, shapes or values do not fit together; the text names the node.
    """

    name: str
    nodes: tuple[FloatNode, ...]
    input_size: tuple[int, int]
    shapes: Mapping[str, Shape] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        height, width = self.input_size
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise UnsupportedError(
                f"network {self.name}: its input has {height}x{width} pixels; 1 to {MAX_PIXELS} are supported"
            )
        if not self.nodes:
            raise UnsupportedError(f"network {self.name}: it has no layers")
        shapes: dict[str, Shape] = {IMAGE: Shape(height, width, 3)}
        for node in self.nodes:
            if node.name in shapes:
                raise UnsupportedError(f"{node.name}: the name is used twice")
            missing = [name for name in node.inputs if name not in shapes]
            if missing:
                raise UnsupportedError(f"{node.name}: input {missing[0]} is not made by an earlier node")
            shapes[node.name] = output_shape(node, [shapes[name] for name in node.inputs])
        last = self.nodes[-1]
        for node in self.nodes[:-1]:
            pooled = isinstance(node, FloatGlobalAveragePool)
            if pooled and not (node is self.nodes[-2] and isinstance(last, FloatLinear)):
                raise UnsupportedError(
                    f"{node.name}: a global average pooling must be the last node, or the last before the one "
                    "fully connected layer (R6)"
                )
            if isinstance(node, FloatLinear):
                raise UnsupportedError(f"{node.name}: a fully connected layer must be the last node (R6)")
        used = {name for node in self.nodes for name in node.inputs}
        dead = [node.name for node in self.nodes[:-1] if node.name not in used]
        if dead:
            raise UnsupportedError(f"{dead[0]}: nothing reads its output")
        if shapes[last.name][:2] != (1, 1):
            raise UnsupportedError(f"{last.name}: the result must be one value a class, not {_text(shapes[last.name])}")
        object.__setattr__(self, "shapes", MappingProxyType(shapes))


def output_shape(node: FloatNode, inputs: Sequence[Shape]) -> Shape:
    """Check one node against its inputs.

    Args:
        node: the node.
        inputs: shapes of its input tensors, in order.

    Returns:
        The shape of its output.

    Raises:
        UnsupportedError: the node does not fit its inputs, or holds values that are not finite.
    """
    if not inputs:
        raise UnsupportedError(f"{node.name}: it has no input")
    return _SHAPES(node, inputs)


_SHAPES: Table[FloatNode, Shape] = Table("float graph's checks", FLOAT_OPERATORS)


@_SHAPES.implements(FloatConv)
def _convolution(node: FloatConv, inputs: Sequence[Shape]) -> Shape:
    source, out, groups = inputs[0], node.weight.shape[0], node.groups
    if groups < 1 or source.channels % groups or out % groups:
        raise UnsupportedError(
            f"{node.name}: {groups} groups do not divide its {source.channels} input and {out} output channels"
        )
    _check_array(node.name, "weight", node.weight, (out, source.channels // groups, *node.weight.shape[2:]), 4)
    _check_array(node.name, "bias", node.bias, (out,))
    return _windows(node.name, source, out, node.weight.shape[2:], node.stride, node.padding)


@_SHAPES.implements(FloatMaxPool)
def _max_pool(node: FloatMaxPool, inputs: Sequence[Shape]) -> Shape:
    (source,) = inputs
    return _windows(node.name, source, source.channels, node.kernel, node.stride, node.padding, node.ceil_mode)


@_SHAPES.implements(FloatAveragePool)
def _average_pool(node: FloatAveragePool, inputs: Sequence[Shape]) -> Shape:
    (source,) = inputs
    if node.divisor < 1:
        raise UnsupportedError(f"{node.name}: it averages {node.divisor} pixels; it must average 1 or more")
    return _windows(node.name, source, source.channels, node.kernel, node.stride, node.padding)


@_SHAPES.implements(FloatBatchNorm)
def _batch_norm(node: FloatBatchNorm, inputs: Sequence[Shape]) -> Shape:
    _check_array(node.name, "multiplier", node.multiplier, inputs[0][2:])
    _check_array(node.name, "offset", node.offset, inputs[0][2:])
    return inputs[0]


@_SHAPES.implements(FloatRelu)
def _relu(node: FloatRelu, inputs: Sequence[Shape]) -> Shape:
    if not node.limit > 0:
        raise UnsupportedError(f"{node.name}: its ReLU has the limit {node.limit}; it must be positive")
    return inputs[0]


@_SHAPES.implements(FloatConcat)
def _concat(node: FloatConcat, inputs: Sequence[Shape]) -> Shape:
    if any(shape[:2] != inputs[0][:2] for shape in inputs):
        raise UnsupportedError(
            f"{node.name}: it concatenates {' and '.join(map(_text, inputs))}; the maps must be of one size"
        )
    return inputs[0]._replace(channels=sum(shape.channels for shape in inputs))


@_SHAPES.implements(FloatAdd)
def _add(node: FloatAdd, inputs: Sequence[Shape]) -> Shape:
    if any(shape != inputs[0] for shape in inputs):
        raise UnsupportedError(f"{node.name}: it adds {' and '.join(map(_text, inputs))}; the shapes must be equal")
    return inputs[0]


@_SHAPES.implements(FloatGlobalAveragePool)
def _global_average_pool(node: FloatGlobalAveragePool, inputs: Sequence[Shape]) -> Shape:
    return Shape(1, 1, inputs[0].channels)


@_SHAPES.implements(FloatLinear)
def _linear(node: FloatLinear, inputs: Sequence[Shape]) -> Shape:
    height, width, channels = inputs[0]
    if (height, width) != (1, 1):
        raise UnsupportedError(
            f"{node.name}: the fully connected layer reads a map of {height}x{width} pixels; "
            "it must follow a global average pooling (R6)"
        )
    _check_array(node.name, "weight", node.weight, (*node.weight.shape[:1], channels), 2)
    _check_array(node.name, "bias", node.bias, node.weight.shape[:1])
    return Shape(1, 1, len(node.bias))


def _windows(
    name: str,
    source: Shape,
    channels: int,
    kernel: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    ceil_mode: bool = False,
) -> Shape:
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise UnsupportedError(f"{name}: kernel {tuple(kernel)}, stride {stride} or padding {padding} out of range")
    height, width = window_map(source, kernel, stride, padding, ceil_mode)
    if min(height, width) < 1:
        raise UnsupportedError(
            f"{name}: its input of {source.height}x{source.width} pixels is smaller than its kernel; use a larger image"
        )
    return Shape(height, width, channels)


def _check_array(name: str, key: str, array: F32, shape: tuple[int, ...], ndim: int | None = None) -> None:
    if array.dtype != np.float32 or array.ndim != (ndim or len(shape)) or array.shape != shape or 0 in shape:
        raise UnsupportedError(f"{name}: {key} is {array.dtype} {list(array.shape)}, must be float32 {list(shape)}")
    if not np.isfinite(array).all():
        raise UnsupportedError(f"{name}: {key} holds values that are not finite")


def _text(shape: Shape) -> str:
    """As in messages about NCHW networks: channels first."""
    return f"{shape.channels}x{shape.height}x{shape.width}"
