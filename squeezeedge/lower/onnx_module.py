"""Integer graph -> standard ONNX operators that compute the oracle's bits in any runtime.

Everything is int32 or uint8, so there is nothing to round: ``ConvInteger`` accumulates (R3), shifts are divisions
of numbers that a clip has made non-negative, pooling and concatenation move uint8. Weights are stored as uint8 with
zero point 128, because ONNX Runtime's kernels for uint8 x int8 saturate in 16 bits on processors without a
dot-product instruction. Grouped convolutions stay grouped: ``ConvInteger`` has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from squeezeedge._version import __version__
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import INTEGER_OPERATORS
from squeezeedge.graph.windows import floor_padding

__all__ = ["CLASS_SUMS", "OnnxBuilder", "conv_attributes", "pool_attributes", "to_onnx"]

OPSET = 13
CLASS_SUMS = "class_sums"
WEIGHT_ZERO = 128


class OnnxBuilder:
    """Collects nodes and constants. Names that it invents never collide with reserved ones.

    Args:
        name: of the graph.
        reserved: names that the caller will give to tensors.
    """

    def __init__(self, name: str, reserved: Iterable[str]) -> None:
        self._name = name
        self._taken = set(reserved)
        self._node_names: set[str] = set()
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def unique(self, name: str) -> str:
        """A tensor's name: the given one, or with a number behind it if it is taken."""
        return _free(name, self._taken)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store a constant; returns the name it got."""
        chosen = self.unique(name)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), chosen))
        return chosen

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        *,
        name: str | None = None,
        **attributes: Any,  # noqa: ANN401
    ) -> str:
        """Append a node with one output; returns that.

        Args:
            kind: operator type.
            inputs: tensor names.
            output: tensor name, as the caller reserved it or :meth:`unique` gave it.
            name: of the node; ``None``: the output's. If it is taken, a number is put behind it.
            attributes: of the operator.
        """
        label = _free(name or output, self._node_names)
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=label, **attributes))
        return output

    def step(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:  # noqa: ANN401
        """A node whose output is only an intermediate result: its name is made unique."""
        return self.node(kind, inputs, self.unique(name), **attributes)

    def model(
        self, image: ValueInfoProto, output: ValueInfoProto, opset: int, preprocessing: Preprocessing
    ) -> ModelProto:
        """The finished model, of the oldest IR version that has the opset; its metadata say what its input is."""
        opsets = [helper.make_opsetid("", opset)]
        graph = helper.make_graph(self._nodes, self._name, [image], [output], self._constants)
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="squeezeedge",
            producer_version=__version__,
        )
        helper.set_model_props(model, {"preprocessing": json.dumps(_of_pixels(preprocessing))})
        return model


def _of_pixels(preprocessing: Preprocessing) -> dict[str, Any]:
    """What :mod:`squeezeedge.calib.statement_files` reads, of a network whose input is the image's own pixels."""
    record = preprocessing.to_json()
    return {"channel_order": "rgb", **record, "resize": record["resize"] or 0, "mean": 0, "std": 1, "scale": 1}


def _free(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen


def conv_attributes(node: Conv | Head, *, padded: bool = True) -> dict[str, Any]:
    """Attributes of ONNX's convolutions.

    Args:
        node: the convolution.
        padded: whether the operator pads; else its input is padded already.
    """
    return {
        "kernel_shape": list(node.weight.shape[1:3]),
        "strides": list(node.stride),
        "pads": list(node.padding) if padded else [0, 0, 0, 0],
        "dilations": [1, 1],
        "group": node.groups,
    }


def pool_attributes(node: MaxPool, source: Tensor, out: Tensor) -> dict[str, Any]:
    """Attributes of ONNX's MaxPool in floor mode: ceil mode (R5) becomes padding behind the last row and column.

    Runtimes differ about windows that ceil mode begins in the padding; here no window does.
    """
    padding = floor_padding(source.shape, out.shape, node.kernel, node.stride, node.padding)
    return {
        "kernel_shape": list(node.kernel),
        "strides": list(node.stride),
        "pads": list(padding),
    }


def to_onnx(graph: IntegerGraph) -> ModelProto:
    """Write a graph with standard operators (opset 13).

    Args:
        graph: the integer graph.

    Returns:
        A checked model: input ``image`` uint8 [1, height, width, 3], output ``class_sums`` int32 [1, classes]. The
        output of a node has the node's name.
    """
    builder = OnnxBuilder(graph.name, graph.tensors)
    output = builder.unique(CLASS_SUMS)
    pixels = builder.step("Transpose", [IMAGE], "image.nchw", perm=[0, 3, 1, 2])
    values = {IMAGE: pixels}
    for node in graph.nodes:
        made = output if node is graph.head else node.name
        values[node.name] = _node(node, [values[name] for name in node.inputs], made, builder, graph.tensors)
    image = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [1, *graph.input_shape])
    sums = helper.make_tensor_value_info(output, TensorProto.INT32, [1, graph.classes])
    model = builder.model(image, sums, OPSET, graph.preprocessing)
    onnx.checker.check_model(model, full_check=True)
    return model


_node: Table[Node, str] = Table("ONNX", INTEGER_OPERATORS)
"""``_node(node, inputs, output, builder, tensors)``: write a node whose result is called ``output``; return that."""

Tensors = Mapping[str, Tensor]


@_node.implements(Conv)
def _conv(node: Conv, inputs: Sequence[str], output: str, builder: OnnxBuilder, tensors: Tensors) -> str:
    acc = _accumulate(builder, node, inputs[0], tensors[node.input])
    return _requantize(builder, output, acc, node.shift, node.zero_point)


@_node.implements(MaxPool)
def _max_pool(node: MaxPool, inputs: Sequence[str], output: str, builder: OnnxBuilder, tensors: Tensors) -> str:
    return builder.node("MaxPool", inputs, output, **pool_attributes(node, tensors[node.input], tensors[node.name]))


@_node.implements(Concat)
def _concat(node: Concat, inputs: Sequence[str], output: str, builder: OnnxBuilder, tensors: Tensors) -> str:
    return builder.node("Concat", inputs, output, axis=1)


@_node.implements(Add)
def _add(node: Add, inputs: Sequence[str], output: str, builder: OnnxBuilder, tensors: Tensors) -> str:
    """Bypass addition (R5): each operand is shifted as a non-negative number, ``above`` too large."""
    above = max(rules.ZERO_POINTS)
    shifted = []
    for index, (source, value, shift) in enumerate(zip(node.inputs, inputs, node.shift, strict=True)):
        label = f"{node.name}.operand{index}"
        divisor = 1 << shift.astype(np.int32)
        rounding = rules.rounding_term(shift.astype(np.int32))
        lifted = above * divisor + rounding - tensors[source].zero_point
        offset = builder.constant(f"{label}.offset", _channels(lifted))
        wide = builder.step("Cast", [value], f"{label}.int32", to=TensorProto.INT32)
        moved = builder.step("Add", [wide, offset], f"{label}.moved")
        quotient = builder.constant(f"{label}.divisor", _channels(divisor))
        shifted.append(builder.step("Div", [moved, quotient], f"{label}.shifted"))
    total = builder.step("Add", shifted, f"{node.name}.sum")
    back = builder.constant(f"{node.name}.back", np.array(-2 * above, np.int32))
    total = builder.step("Add", [total, back], f"{node.name}.total")
    return _requantize(builder, output, total, np.zeros(1, np.uint8), node.zero_point)


@_node.implements(Head)
def _head(node: Head, inputs: Sequence[str], output: str, builder: OnnxBuilder, tensors: Tensors) -> str:
    acc = _accumulate(builder, node, inputs[0], tensors[node.input])
    if node.relu:
        zero = builder.constant(f"{node.name}.zero", np.zeros((), np.int32))
        acc = builder.step("Max", [acc, zero], f"{node.name}.relu")
    axes = builder.constant(f"{node.name}.axes", np.array([2, 3], np.int64))
    return builder.node("ReduceSum", [acc, axes], output, keepdims=0)


def _channels(values: NDArray[Any]) -> NDArray[Any]:
    """[C] -> [1, C, 1, 1]."""
    return values.reshape(1, -1, 1, 1)


def _accumulate(builder: OnnxBuilder, node: Conv | Head, value: str, source: Tensor) -> str:
    """Accumulators with the rounding term added (R3): int32 [1, out, height, width]."""
    name, at_edge = node.name, node.input == IMAGE and any(node.padding)
    if at_edge:
        value = _border(builder, node, value, source)
    weight = (node.weight.astype(np.int16) + WEIGHT_ZERO).astype(np.uint8).transpose(0, 3, 1, 2)
    operands = [
        value,
        builder.constant(f"{name}.weight", weight),
        builder.constant(f"{name}.input_zero", np.array(source.zero_point, np.uint8)),
        builder.constant(f"{name}.weight_zero", np.array(WEIGHT_ZERO, np.uint8)),
    ]
    products = builder.step("ConvInteger", operands, f"{name}.products", **conv_attributes(node, padded=not at_edge))
    bias = builder.constant(f"{name}.bias", _channels((node.bias + node.rounding).astype(np.int32)))
    return builder.step("Add", [products, bias], f"{name}.acc")


def _border(builder: OnnxBuilder, node: Conv | Head, value: str, source: Tensor) -> str:
    """The image with the mean pixel around it (R2): ONNX pads with one value for all channels."""
    top, left, bottom, right = node.padding
    width, padded_height = source.width, top + source.height + bottom
    for axis, before, after in ((2, (top, width), (bottom, width)), (3, (padded_height, left), (padded_height, right))):
        parts = [value]
        for shape, index in ((after, 1), (before, 0)):
            if min(shape):
                edge = np.broadcast_to(_channels(node.pad_value), (1, source.channels, *shape))
                parts.insert(index, builder.constant(f"{node.name}.edge", edge))
        if len(parts) > 1:
            value = builder.step("Concat", parts, f"{node.name}.padded", axis=axis)
    return value


def _requantize(builder: OnnxBuilder, name: str, acc: str, shift: NDArray[np.uint8], zero_point: int) -> str:
    """clip((acc >> k) + zero point, 0, Q_MAX) as uint8 (R3); the rounding term is in acc already.

    An accumulator is clipped to what the result needs and made non-negative, so that the division rounds down.
    """
    divisor = 1 << shift.astype(np.int32)
    zero = zero_point * divisor
    steps = (("Max", "low", -zero), ("Min", "high", (rules.Q_MAX + 1) * divisor - zero - 1), ("Add", "zero", zero))
    for kind, label, value in (*steps, ("Div", "divisor", divisor)):
        acc = builder.step(kind, [acc, builder.constant(f"{name}.{label}", _channels(value))], f"{name}.{kind.lower()}")
    return builder.node("Cast", [acc], name, to=TensorProto.UINT8)
