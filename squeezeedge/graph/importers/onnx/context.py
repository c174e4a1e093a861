"""What the handlers of ONNX operators share: the values so far, and messages about what a node is fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.builder import float32
from squeezeedge.graph.float.graph import F32, FloatConv, FloatNode
from squeezeedge.graph.importers.onnx.constants import Budget, attributes, label
from squeezeedge.graph.importers.onnx.steps import Steps
from squeezeedge.graph.importers.onnx.values import Ids, Value

__all__ = ["Context", "Handler", "channels_of", "refused"]


MAX_SIDE = 1 << 16
"""Of kernels, strides and dilations."""


def refused(node: NodeProto, reason: str) -> UnsupportedError:
    """An error that names the node, its operator and the reason."""
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return UnsupportedError(f"{label(node)} ({kind}): {reason}")


class Context:
    """State of the walk over the nodes.

    Attributes:
        steps: the layers so far.
        opset: version of the operators.
        batch: number of images that the file is made for; 1 if that is open.
        values: tensors that depend on the image.
        constants: those that do not; what depends on the number of images is of one image.
        counting: of these that do depend on it, what they are in the file, which is made for several images.
        loosened: tensors of loose numbers, which are no map any more, and the node that made the first of these.
        notes: sentences about what was folded, dropped or assumed.
        budget: numbers that may still be computed.
        moves: elements of maps that may still be moved one by one.
        whole_numbers: names of tensors that hold whole numbers, as the pixels of an image.
    """

    def __init__(self, steps: Steps, opset: int, batch: int) -> None:
        self.steps = steps
        self.opset = opset
        self.batch = batch
        self.values: dict[str, Value] = {}
        self.constants: dict[str, NDArray[Any]] = {}
        self.counting: dict[str, NDArray[Any]] = {}
        self.loosened: dict[str, NodeProto] = {}
        self.notes: list[str] = []
        self.budget, self.moves = Budget(), Budget("moved tensors")
        self.whole_numbers: set[str] = set()

    def name(self, node: NodeProto, weight: int | None = None) -> str:
        """A layer's name: that of its weight ("features.3.squeeze" of "features.3.squeeze.weight"), else its own."""
        stem, dot, kind = node.input[weight].rpartition(".") if weight is not None else ("", "", "")
        return self.steps.unique(stem if dot and stem and kind == "weight" else label(node))

    def given(self, node: NodeProto, index: int) -> bool:
        """Whether an operand is there."""
        return len(node.input) > index and bool(node.input[index])

    def fed(self, node: NodeProto) -> str:
        """What a node reads, for messages."""
        texts = []
        for name in node.input:
            if name in self.values:
                texts.append(f"{name!r} {list(self.values[name].shape)}")
            elif name in self.constants:
                texts.append(f"the constant {name!r} {list(self.constants[name].shape)}")
        return " and ".join(texts[:4]) or "nothing"

    def value(self, node: NodeProto, index: int, *, padded: bool = False) -> Value:
        """An operand that depends on the image; with ``padded``, the caller looks at its padding."""
        operand = node.input[index] if len(node.input) > index else ""
        found = self.values.get(operand)
        if found is None:
            kind = "a constant" if operand in self.constants else "a second output, or missing"
            raise refused(node, f"reads {operand!r}, {kind}; a tensor that is computed from the image must be there")
        return found if padded else self.plain(found)

    def plain(self, value: Value) -> Value:
        """The value with its padding added: by a depthwise convolution that copies and pads."""
        if not any(value.padding):
            return value
        channels, size = value.channels, value.size
        if value.fill:  # zeros are what a convolution pads with
            channels = self.steps.append(self._copy(channels, -value.fill, (0, 0, 0, 0)), (channels,), size)
        padding = self._copy(channels, value.fill, value.padding)
        made = self.steps.append(padding, (channels,), size)
        top, left, bottom, right = value.padding
        padded = (size[0] + top + bottom, size[1] + left + right)
        spatial = value.spatial or (2, 3)
        return Value(made.reshape(value.ids.shape), padded, spatial)

    def _copy(self, channels: Ids, bias: float, padding: tuple[int, int, int, int]) -> FloatConv:
        weight, count = np.ones((len(channels), 1, 1, 1), np.float32), len(channels)
        name = self.steps.unique("pad")
        return FloatConv(name, ("",), weight, np.full(count, bias, np.float32), (1, 1), padding, groups=count)

    def outermost(self, node: NodeProto, kept: bool) -> None:
        """Check that a file for several images has them in the first axis, in front of all else, behind this node, too.

        So a graph of one image computes the same. A file for one image, or any number of them, may do as it likes.
        """
        if self.batch > 1 and not kept:
            raise refused(
                node,
                f"does not keep apart the {self.batch} images that the file is made for, of {self.fed(node)} each; "
                "export it for one image, or for any number of them",
            )

    def map(self, node: NodeProto, index: int = 0, *, padded: bool = False) -> Value:
        """An operand that must be [1, channels, height, width]."""
        value = self.value(node, index, padded=padded)
        if not value.is_map:
            raise refused(
                node,
                f"reads {list(value.shape)}, which is not [1, channels, height, width] of a map; supported: images in "
                "this layout (NCHW)",
            )
        return value

    def constant(self, node: NodeProto, index: int) -> NDArray[Any]:
        """An operand that does not depend on the image."""
        name = node.input[index] if len(node.input) > index else ""
        array = self.constants.get(name)
        if array is None:
            computed = f"computed from the image, {list(self.values[name].shape)}" if name in self.values else "missing"
            raise refused(node, f"its operand {name!r} is {computed}; it must be a constant")
        return array

    def integers(self, node: NodeProto, index: int) -> list[int]:
        """A short list of whole numbers, as shapes and axes are."""
        array = self.constant(node, index)
        if array.size > 64 or array.dtype.kind not in "iu":
            raise refused(node, f"operand {index} is {array.dtype} {list(array.shape)}; it must be a few whole numbers")
        return [int(number) for number in array.reshape(-1)]

    def axes(self, node: NodeProto, axes: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front, each once."""
        counted = [axis % rank for axis in axes if -rank <= axis < rank]
        if len(set(counted)) != len(axes):
            raise refused(
                node, f"axes {list(axes)[:16]} of {self.fed(node)}; supported: each once, in {-rank}..{rank - 1}"
            )
        return counted

    def number(self, node: NodeProto, index: int) -> float:
        """A constant operand that is one number."""
        array = self.weights(node, index)
        if array.size != 1:
            raise refused(node, f"{node.input[index]!r} has {array.size} values; it must be one number")
        return float(array.reshape(()))

    def weights(self, node: NodeProto, index: int) -> F32:
        """A constant operand as float32."""
        array = self.constant(node, index)
        if (array.dtype.kind != "f" and array.dtype.name != "bfloat16") or array.size == 0:
            raise refused(
                node, f"{node.input[index]!r} is {array.dtype} {list(array.shape)}; it must be floating point"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused with the layer's name
            return float32(array)

    def pair(self, node: NodeProto, name: str, default: tuple[int, int] | None = (1, 1)) -> tuple[int, int]:
        """An attribute of two whole numbers above 0, and not beyond any map, for height and width."""
        numbers = attributes(node).get(name, default)
        if numbers is None or len(numbers) != 2 or not 1 <= min(numbers) <= max(numbers) <= MAX_SIDE:
            found = "missing" if numbers is None else list(numbers)[:8]
            raise refused(node, f"{name} is {found}; supported: two in 1..{MAX_SIDE}, for height and width")
        return int(numbers[0]), int(numbers[1])

    def channelwise(self, value: Value, node: FloatNode, *, loose: bool = False) -> Value:
        """Add a layer that makes each channel of one, in any shape; its parameters are as ``channels_of`` has them."""
        channels, places = channels_of(value)
        made = self.steps.append(node, (channels,), value.size, loose=loose)
        return Value(made[places].reshape(value.ids.shape), value.size, value.spatial, value.pixels)


def channels_of(value: Value) -> tuple[Ids, Ids]:
    """The channels that a channel-wise layer reads, and the place of each of the value's numbers among them."""
    if value.pixels is None:
        return value.channels, np.arange(value.ids.size)
    channels, places = np.unique(value.ids, return_inverse=True)
    return channels, places.reshape(-1)


Handler = Callable[[Context, NodeProto], Value | None]
"""What a node's first output is; ``None`` where that has been written down already."""
