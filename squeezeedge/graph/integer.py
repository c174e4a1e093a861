"""The integer graph: the contract between the quantizer and every target (rules R1-R7 of ARCHITECTURE.md).

One uint8 RGB image goes in, int32 class sums come out. Nodes are in execution order; every node but the last
makes one 8-bit NHWC tensor that has the node's name. All rules are enforced when a graph is built, so a graph
that exists is a valid one. The meaning of the nodes is in :mod:`squeezeedge.graph.oracle`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.rules import Shape, rounding_term

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
    "check",
    "require",
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

    @property
    def rounding(self) -> NDArray[np.int64]:
        """What R3 adds to every accumulator before it is shifted: int64 [out]."""
        return rounding_term(self.shift.astype(np.int64))


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

    @property
    def rounding(self) -> NDArray[np.int64]:
        """Nothing is shifted: zeros, int64 [classes]."""
        return np.zeros(len(self.bias), np.int64)


Node = Conv | MaxPool | Concat | Add | Head

INTEGER_OPERATORS: tuple[type[Node], ...] = (Conv, MaxPool, Concat, Add, Head)
"""The family of the tables of :mod:`squeezeedge.graph.dispatch` for integer graphs."""


check: Table[Node, Tensor] = Table("graph checks", INTEGER_OPERATORS)
"""``check(node, inputs)``: enforce the rules on a node and its input tensors (:mod:`squeezeedge.graph.checks`).

Returns its output tensor; of the head, that of its accumulators.
"""


def require(condition: bool, node: Node, text: str) -> None:
    """Raise UnsupportedError with the node's name unless the condition holds."""
    if not condition:
        raise UnsupportedError(f"{node.name}: {text}")


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
        heads = [node for node in self.nodes if isinstance(node, Head)]
        if not heads or heads[-1] is not self.nodes[-1]:
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
            if node in heads[:-1]:
                raise UnsupportedError(f"{node.name}: a head that is not the last node (R6)")
            require(bool(node.inputs), node, "has no input")
            tensors[node.name] = check(node, [tensors[name] for name in node.inputs])
        if self.labels and len(self.labels) != self.classes:
            raise UnsupportedError(f"graph {self.name}: {len(self.labels)} labels for {self.classes} classes")
        padded = [node for node in self.convolutions if node.input == IMAGE and any(node.padding)]
        for node in padded:
            require(bool((node.pad_value == padded[0].pad_value).all()), node, "another pad value of the image (R2)")
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
