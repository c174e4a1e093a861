"""The integer graph: the contract between the quantizer and every target (rules R1-R7 of ARCHITECTURE.md).

One uint8 RGB image goes in, int32 class sums come out. Nodes are in execution order; every node but the last
makes one 8-bit NHWC tensor that has the node's name. All rules are enforced when a graph is built, so a graph
that exists is a valid one. The meaning of the nodes is in :mod:`squeezeedge.graph.oracle`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import window_map

__all__ = [
    "IMAGE",
    "INTEGER_OPERATORS",
    "Add",
    "Concat",
    "Conv",
    "Head",
    "IntegerGraph",
    "MaxPool",
    "Node",
    "Tensor",
]

IMAGE = "image"
"""Name of the input tensor: uint8 RGB, zero point 0 (R2)."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """An 8-bit activation (R1): value = scale[c] * (q - zero_point), q in 0..rules.Q_MAX.

    Attributes:
        height: rows.
        width: columns.
        channels: channels; scale has one float32 for each.
        zero_point: 0 (never negative) or 128.
        scale: float32 [channels]; not needed on a device.
    """

    height: int
    width: int
    channels: int
    zero_point: int
    scale: NDArray[np.float32]

    @property
    def shape(self) -> Shape:
        """Height, width, channels."""
        return Shape(self.height, self.width, self.channels)


class _OneInput:
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input tensors."""
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Conv(_OneInput):
    """Convolution with power-of-two requantization (R3).

    Attributes:
        name: also the output tensor's name.
        input: name of the input tensor.
        weight: int8 [out, kernel_h, kernel_w, in / groups], within rules.WEIGHT_LIMIT.
        bias: int32 [out].
        shift: uint8 [out], k of R3, at most rules.MAX_SHIFT.
        stride: (vertical, horizontal).
        padding: (top, left, bottom, right).
        pad_value: uint8 [in]: the q of a padded pixel. The input's zero point, except on the image, where
            it is the rounded mean pixel (R2).
        zero_point: of the output, 0 or 128; 0 includes the ReLU.
        scale: float32 [out] of the output.
        groups: g; outputs o * out / g .. (o + 1) * out / g - 1 read the o-th part of the input channels only. As many
            groups as input channels: depthwise.
    """

    name: str
    input: str
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    pad_value: NDArray[np.uint8]
    zero_point: int
    scale: NDArray[np.float32]
    groups: int = 1


@dataclass(frozen=True, eq=False)
class MaxPool(_OneInput):
    """Max pooling over the valid pixels of each window (R5); scale and zero point pass through.

    Attributes:
        name: also the output tensor's name.
        input: name of the input tensor.
        kernel: (height, width).
        stride: (vertical, horizontal).
        padding: (top, left, bottom, right); padded pixels never win.
        ceil_mode: whether a last, partly valid window counts.
    """

    name: str
    input: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False)
class Concat:
    """Channels of the inputs one after the other (R5); nothing is rescaled, all zero points are equal."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Add:
    """Bypass addition (R5): clip(rshift(qa - za, sa) + rshift(qb - zb, sb) + zero_point, 0, 255).

    ``rshift`` rounds as R3 does. scale = scale_a * 2**sa = scale_b * 2**sb per channel.

    Attributes:
        name: also the output tensor's name.
        inputs: names of the two operands, of one shape.
        shift: uint8 [2, channels], at most rules.MAX_SHIFT.
        zero_point: of the output, 0 (includes the ReLU) or 128.
        scale: float32 [channels] of the output.
    """

    name: str
    inputs: tuple[str, str]
    shift: NDArray[np.uint8]
    zero_point: int
    scale: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head(_OneInput):
    """Last convolution, not requantized, summed over the map in int32 (R6).

    logits[c] = scale[c] * sum over the map of (relu(acc) or acc).

    Attributes:
        name: the layer's name.
        input: name of the input tensor.
        weight: int8 [classes, kernel_h, kernel_w, in / groups], within rules.WEIGHT_LIMIT.
        bias: int32 [classes].
        stride: (vertical, horizontal).
        padding: (top, left, bottom, right).
        pad_value: uint8 [in]: the q of a padded pixel.
        relu: whether the network has a ReLU before the global average pooling.
        scale: float32 [classes], applied by the host.
        groups: as of :class:`Conv`.
    """

    name: str
    input: str
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    pad_value: NDArray[np.uint8]
    relu: bool
    scale: NDArray[np.float32]
    groups: int = 1


Node = Conv | MaxPool | Concat | Add | Head

INTEGER_OPERATORS: tuple[type[Node], ...] = (Conv, MaxPool, Concat, Add, Head)
"""The family of the tables of :mod:`squeezeedge.graph.dispatch` for integer graphs."""


@dataclass(frozen=True, eq=False)
class IntegerGraph:
    """A whole network as integers.

    Attributes:
        name: for people and file names.
        nodes: in execution order; the last is the :class:`Head`, the only one.
        preprocessing: how an image file becomes the uint8 input; gives the input size.
        labels: class names in index order; empty if unknown.
        tensors: every tensor by name, the image included (derived).

    Raises:
        UnsupportedError: a rule is violated; the text names the layer and the rule.
    """

    name: str
    nodes: tuple[Node, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[-1], Head):
            raise UnsupportedError(f"graph {self.name}: the last node must be the head (R6)")
        if not self.name.isprintable() or set(self.name) <= {"."} or "/" in self.name or "\\" in self.name:
            raise UnsupportedError(f"graph {self.name!r}: the name cannot be a file's name")
        height, width = self.preprocessing.size
        tensors = {IMAGE: Tensor(height, width, 3, 0, np.ones(3, np.float32))}
        for node in self.nodes:
            if not node.name or not node.name.isprintable():
                raise UnsupportedError(f"{node.name!r}: a node's name must be printable text")
            if node.name in tensors:
                raise UnsupportedError(f"{node.name}: the name is used twice")
            missing = [name for name in node.inputs if name not in tensors]
            if missing:
                raise UnsupportedError(f"{node.name}: input {missing[0]} is not made by an earlier node")
            if isinstance(node, Head) and node is not self.nodes[-1]:
                raise UnsupportedError(f"{node.name}: a head that is not the last node (R6)")
            _require(bool(node.inputs), node, "has no input")
            tensors[node.name] = _check(node, [tensors[name] for name in node.inputs])
        if self.labels and len(self.labels) != self.classes:
            raise UnsupportedError(f"graph {self.name}: {len(self.labels)} labels for {self.classes} classes")
        padded = [node for node in self.convolutions if node.input == IMAGE and any(node.padding)]
        for node in padded:
            _require(bool((node.pad_value == padded[0].pad_value).all()), node, "another pad value of the image (R2)")
        used = {name for node in self.nodes for name in node.inputs}
        dead = [node.name for node in self.nodes[:-1] if node.name not in used]
        if dead:
            raise UnsupportedError(f"{dead[0]}: nothing reads its output")
        object.__setattr__(self, "tensors", MappingProxyType(tensors))

    @property
    def head(self) -> Head:
        """The last node."""
        return cast(Head, self.nodes[-1])

    @property
    def convolutions(self) -> tuple[Conv | Head, ...]:
        """All convolutions in execution order; the head is the last."""
        return tuple(node for node in self.nodes if isinstance(node, Conv | Head))

    @property
    def classes(self) -> int:
        """Number of class sums."""
        return len(self.head.bias)

    @property
    def input_shape(self) -> Shape:
        """(height, width, 3) of the uint8 image."""
        return Shape(*self.preprocessing.size, 3)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        maps = [self.tensors[node.name] for node in self.convolutions]
        return sum(out.height * out.width * node.weight.size for node, out in zip(self.convolutions, maps, strict=True))

    def logits(self, sums: NDArray[np.int32]) -> NDArray[np.float32]:
        """Host side of R6: int32 [N, classes] -> float32 [N, classes]."""
        return sums.astype(np.float32) * self.head.scale

    def digest(self) -> str:
        """SHA-256 (hex) over structure and all arrays: equal graphs have equal digests."""
        hasher = hashlib.sha256()
        header, arrays = self.to_parts()
        hasher.update(json.dumps(header, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            hasher.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return hasher.hexdigest()

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The graph as JSON values and named little-endian arrays (``node.field``): what a file stores.

        Without a grouped convolution there is no field ``groups``, so such graphs keep their digests.
        """
        without = set() if any(node.groups != 1 for node in self.convolutions) else {"groups"}
        nodes: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for node in self.nodes:
            record: dict[str, Any] = {"op": type(node).__name__}
            for key, value in vars(node).items():
                if isinstance(value, np.ndarray):
                    arrays[f"{node.name}.{key}"] = value
                elif key not in without:
                    record[key] = list(value) if isinstance(value, tuple) else value
            nodes.append(record)
        header = {
            "name": self.name,
            "nodes": nodes,
            "preprocessing": self.preprocessing.to_json(),
            "labels": list(self.labels),
        }
        return header, arrays


_check: Table[Node, Tensor] = Table("graph checks", INTEGER_OPERATORS)
"""Enforces the rules on one node and its input tensors; returns its output tensor (for the head: its accumulators)."""


@_check.implements(Conv)
def _check_conv(node: Conv, inputs: Sequence[Tensor]) -> Tensor:
    height, width = _check_convolution(node, inputs[0])
    _check_shift(node, (len(node.bias),))
    _check_output(node, node.zero_point, node.scale, len(node.bias))
    bounds = _bounds(node) + rules.rounding_term(node.shift.astype(np.int64)) + node.zero_point
    _check_reach(node, int(bounds.argmax()), int(bounds.max()), "R4")
    return Tensor(height, width, len(node.bias), node.zero_point, node.scale)


@_check.implements(Head)
def _check_head(node: Head, inputs: Sequence[Tensor]) -> Tensor:
    height, width = _check_convolution(node, inputs[0])
    _check_output(node, 0, node.scale, len(node.bias))
    bounds = _bounds(node)
    _check_reach(node, int(bounds.argmax()), int(bounds.max()) * height * width, "R6")  # may exceed 64 bits
    return Tensor(height, width, len(node.bias), 0, node.scale)


@_check.implements(MaxPool)
def _check_max_pool(node: MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    (source,) = inputs
    top, left, bottom, right = node.padding
    _require(min(node.kernel) >= 1 and min(node.stride) >= 1, node, "kernel and stride must be positive")
    _require(
        0 <= min(node.padding) and max(top, bottom) < node.kernel[0] and max(left, right) < node.kernel[1],
        node,
        "padding must be smaller than the kernel, or a window has no valid pixel (R5)",
    )
    height, width = window_map(source.shape, node.kernel, node.stride, node.padding, node.ceil_mode)
    _require(height >= 1 and width >= 1, node, "the input is smaller than the window")
    return Tensor(height, width, source.channels, source.zero_point, source.scale)


@_check.implements(Concat)
def _check_concat(node: Concat, inputs: Sequence[Tensor]) -> Tensor:
    source = _check_sizes(node, inputs)
    _require(len(inputs) >= 2, node, "a concatenation needs at least two inputs (R5)")
    _require(all(t.zero_point == source.zero_point for t in inputs), node, "zero points differ (R5)")
    scale = np.concatenate([t.scale for t in inputs])
    return Tensor(source.height, source.width, len(scale), source.zero_point, scale)


@_check.implements(Add)
def _check_add(node: Add, inputs: Sequence[Tensor]) -> Tensor:
    source = _check_sizes(node, inputs)
    _require(len(inputs) == 2 and inputs[1].channels == source.channels, node, "operands differ in channels (R5)")
    _check_shift(node, (2, source.channels))
    _check_output(node, node.zero_point, node.scale, source.channels)
    for operand, shift in zip(inputs, node.shift, strict=True):
        close = np.allclose(operand.scale * np.exp2(shift.astype(np.float32)), node.scale, rtol=1e-5, atol=0)
        _require(close, node, "operand scale * 2**shift differs from the output's scale (R5)")
    return Tensor(source.height, source.width, source.channels, node.zero_point, node.scale)


def _check_convolution(node: Conv | Head, source: Tensor) -> tuple[int, int]:
    """What holds for every convolution; (height, width) of its map."""
    _require(node.weight.ndim == 4, node, "weight must be [out, kernel_h, kernel_w, in / groups]")
    out, kernel_h, kernel_w, _ = node.weight.shape
    _require(node.groups >= 1, node, f"{node.groups} groups; there must be 1 or more")
    _require(
        source.channels % node.groups == 0 and out % node.groups == 0,
        node,
        f"{node.groups} groups do not divide its {source.channels} input and {out} output channels",
    )
    _check_array(node, "weight", node.weight, np.int8, (out, kernel_h, kernel_w, source.channels // node.groups))
    _check_array(node, "bias", node.bias, np.int32, (out,))
    _check_array(node, "pad_value", node.pad_value, np.uint8, (source.channels,))
    _require(min(node.weight.shape) >= 1, node, "an empty weight")
    limit = rules.WEIGHT_LIMIT
    low, high = int(node.weight.min()), int(node.weight.max())
    _require(-limit <= low and high <= limit, node, f"weights must lie in -{limit}..{limit} (R3)")
    _require(min(node.stride) >= 1 and min(node.padding) >= 0, node, "stride or padding out of range")
    if node.input != IMAGE:
        _require(bool((node.pad_value == source.zero_point).all()), node, "pad value must be the zero point")
    height, width = window_map(source.shape, (kernel_h, kernel_w), node.stride, node.padding)
    _require(height >= 1 and width >= 1, node, "the input is smaller than the kernel")
    return height, width


def _bounds(node: Conv | Head) -> NDArray[np.int64]:
    """Largest magnitude of every output channel's accumulator (R4): int64 [out]."""
    return rules.accumulator_reach(node.weight) + np.abs(node.bias.astype(np.int64))


def _check_reach(node: Node, channel: int, bound: int, rule: str) -> None:
    _require(bound < rules.INT32_LIMIT, node, f"int32 can overflow in channel {channel}: bound {bound} ({rule})")


def _check_sizes(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """All inputs have one height and width; the first of them."""
    alike = all(t.shape[:2] == inputs[0].shape[:2] for t in inputs)
    _require(alike, node, "the inputs differ in height or width (R5)")
    return inputs[0]


def _check_shift(node: Conv | Add, shape: tuple[int, ...]) -> None:
    _check_array(node, "shift", node.shift, np.uint8, shape)
    _require(int(node.shift.max()) <= rules.MAX_SHIFT, node, f"shift above {rules.MAX_SHIFT} (R3)")


def _check_output(node: Node, zero_point: int, scale: NDArray[np.float32], channels: int) -> None:
    known = " or ".join(map(str, rules.ZERO_POINTS))
    _require(zero_point in rules.ZERO_POINTS, node, f"zero point {zero_point}, must be {known} (R1)")
    _check_array(node, "scale", scale, np.float32, (channels,))
    _require(bool(np.isfinite(scale).all() and (scale > 0).all()), node, "scales must be positive (R1)")


def _check_array(node: Node, key: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    _require(array.dtype == dtype, node, f"{key} is {array.dtype}, must be {np.dtype(dtype)}")
    _require(array.shape == shape, node, f"{key} has shape {list(array.shape)}, must be {list(shape)}")


def _require(condition: bool, node: Node, text: str) -> None:
    if not condition:
        raise UnsupportedError(f"{node.name}: {text}")
