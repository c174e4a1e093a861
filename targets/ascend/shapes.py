"""Checks of a deploy model's nodes and of the shapes of its tensors, before anything is executed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.rules import Shape

__all__ = ["OPERATORS", "check_form", "check_text", "tensor_shapes"]

MOST_NODES = 10_000
MOST_VALUES = 1 << 25
"""Of a tensor, and of the patches of a convolution."""

MOST_CHANNELS_ADDED = 32
"""By a Pad: int8 is computed in blocks of so many."""

TYPES: Mapping[int, int] = {
    TensorProto.FLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
}
"""Types of constants -> bytes of a value."""

_INT, _INTS, _FLOAT, _STRING = AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.STRING


@dataclass(frozen=True)
class _Form:
    """What a node of an operator has.

    Attributes:
        inputs: how many; ``None``: one or more.
        attributes: name -> (type, how many values; 0 for a single one).
    """

    inputs: int | None
    attributes: Mapping[str, tuple[int, int]]


_WINDOW = {"kernel_shape": (_INTS, 2), "strides": (_INTS, 2), "pads": (_INTS, 4)}

OPERATORS: Mapping[str, _Form] = {
    "Add": _Form(2, {}),
    "AscendDequant": _Form(2, {"dtype": (_INT, 0)}),
    "AscendQuant": _Form(1, {"scale": (_FLOAT, 0), "offset": (_FLOAT, 0), "dst_type": (_STRING, 0)}),
    "Clip": _Form(3, {}),
    "Concat": _Form(None, {"axis": (_INT, 0)}),
    "Conv": _Form(3, {**_WINDOW, "dilations": (_INTS, 2), "group": (_INT, 0)}),
    "GlobalAveragePool": _Form(1, {}),
    "MaxPool": _Form(1, _WINDOW),
    "Mul": _Form(2, {}),
    "Pad": _Form(2, {"mode": (_STRING, 0)}),
    "Relu": _Form(1, {}),
    "Sub": _Form(2, {}),
}
"""What a deploy model may contain: all in ATC's list of ONNX operators."""


def check_text(model: ModelProto) -> None:
    """Raise SqueezeEdgeError unless all names are text: protobuf gives bytes for what is no UTF-8."""
    graph = model.graph
    names = [value.name for value in (*graph.input, *graph.output)] + [tensor.name for tensor in graph.initializer]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [text for attribute in node.attribute for text in (attribute.name, attribute.ref_attr_name)]
    for name in names:
        _require(isinstance(name, str), f"{name!r} is no text")


def check_form(model: ModelProto) -> None:
    """Check that a model is a list of known nodes in execution order, with constants that lie in the file.

    Raises:
        SqueezeEdgeError: it is not; nothing outside of the model has been read.
    """
    graph = model.graph
    _require(not (model.functions or model.training_info or graph.sparse_initializer), "functions or sparse constants")
    _require(len(graph.input) == 1 and 0 < len(graph.output) <= MOST_NODES, "it has not one input and an output")
    _require(0 < len(graph.node) <= MOST_NODES, f"{len(graph.node)} nodes")
    made = {graph.input[0].name}
    for tensor in graph.initializer:
        _check_constant(tensor)
        _require(tensor.name not in made, f"two tensors are called {tensor.name!r}")
        made.add(tensor.name)
    for node in graph.node:
        _check_node(node)
        for name in node.input:
            _require(name in made, f"{node.name}: {name!r} is not made before it is read")
        _require(node.output[0] not in made, f"two tensors are called {node.output[0]!r}")
        made.add(node.output[0])
    _require(all(output.name in made for output in graph.output), "its output is not made")


def _check_constant(tensor: TensorProto) -> None:
    where = f"constant {tensor.name!r}"
    _require(tensor.data_location == TensorProto.DEFAULT and not tensor.external_data, f"{where} lies in another file")
    _require(tensor.data_type in TYPES, f"{where} is of another type")
    _require(len(tensor.dims) <= 4 and min(tensor.dims, default=0) >= 0, f"{where} has another shape")
    size = math.prod(tensor.dims) * TYPES[tensor.data_type]
    _require(not tensor.HasField("segment") and len(tensor.raw_data) == size, f"{where} has not the size of its shape")


def _check_node(node: NodeProto) -> None:
    form, kind = OPERATORS[node.op_type], f"{node.name}: {node.op_type}"
    _require(not node.domain and len(node.output) == 1 and bool(node.output[0]), f"{kind} has not one output")
    _require(
        len(node.input) == form.inputs or (form.inputs is None and len(node.input) > 0), f"{kind} has other inputs"
    )
    names = sorted(attribute.name for attribute in node.attribute)
    _require(names == sorted(form.attributes), f"{kind} has other attributes")
    for attribute in node.attribute:
        type_, count = form.attributes[attribute.name]
        fits = attribute.type == type_ and not attribute.ref_attr_name and len(attribute.ints) == count
        _require(fits, f"{kind} has another {attribute.name}")


Sizes = tuple[int, int, int]
"""(channels, height, width)"""

FLOAT, QUANTIZED, SUMS = "float", "quantized", "accumulated"


def tensor_shapes(model: ModelProto, image: Shape, constants: Mapping[str, NDArray[Any]]) -> dict[str, Shape]:
    """Shapes of the float tensors, from the image's on.

    Args:
        model: of which :func:`check_form` found nothing.
        image: shape of the input.
        constants: the model's.

    Raises:
        SqueezeEdgeError: a node does not take the tensors that it gets, or a tensor is larger than is emulated.
    """
    values = {model.graph.input[0].name: (FLOAT, (image.channels, image.height, image.width))}
    for node in model.graph.node:
        reader = _Reader(node, values, constants)
        kind, sizes = _SHAPES[node.op_type](reader)
        reader.require(min(sizes) > 0 and math.prod(sizes) <= MOST_VALUES, f"makes a tensor of {list(sizes)}")
        values[node.output[0]] = (kind, sizes)
    return {name: Shape(h, w, c) for name, (kind, (c, h, w)) in values.items() if kind == FLOAT}


class _Reader:
    """A node and what it reads."""

    def __init__(
        self, node: NodeProto, values: Mapping[str, tuple[str, Sizes]], constants: Mapping[str, NDArray[Any]]
    ) -> None:
        self._node, self._values, self._constants = node, values, constants
        self.attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def require(self, condition: bool, text: str) -> None:
        _require(condition, f"{self._node.name}: {self._node.op_type} {text}")

    def tensor(self, index: int, kind: str = FLOAT) -> Sizes:
        """Sizes of an input that is no constant."""
        found, sizes = self._values.get(self._node.input[index], ("constant", (0, 0, 0)))
        self.require(found == kind, f"reads a {found} tensor, not a {kind} one")
        return sizes

    def tensors(self) -> list[Sizes]:
        """Sizes of all inputs, which are float tensors."""
        return [self.tensor(index) for index in range(len(self._node.input))]

    def constant(self, index: int, dtype: type, *shape: int) -> NDArray[Any]:
        """An input that is a constant of this type and shape."""
        array = self._constants.get(self._node.input[index])
        fits = array is not None and array.dtype == dtype and array.shape == shape
        self.require(fits, f"has another constant {self._node.input[index]!r}")
        assert array is not None
        return array

    def length(self, index: int) -> int:
        """Values of an input that is a constant; 0 if it is none."""
        array = self._constants.get(self._node.input[index])
        return 0 if array is None else array.size

    def operand(self, index: int) -> Sizes:
        """Sizes of an input that is a float tensor, or one value for each channel or for all."""
        array = self._constants.get(self._node.input[index])
        if array is None:
            return self.tensor(index)
        fits = array.dtype == np.float16 and (array.shape in ((1,), (1, array.size, 1, 1)))
        self.require(fits, f"has another constant {self._node.input[index]!r}")
        return (array.size, 1, 1)

    def window(self, sizes: Sizes, kernel: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of windows in a tensor."""
        strides, pads = self.attributes["strides"], self.attributes["pads"]
        self.require(self.attributes["kernel_shape"] == list(kernel), "has another kernel_shape")
        self.require(min(*strides, *kernel) > 0 and min(pads) >= 0, "has other strides or pads")
        self.require(max(pads[0], pads[2]) < kernel[0] and max(pads[1], pads[3]) < kernel[1], "has large pads")
        rows, columns = sizes[1] + pads[0] + pads[2] - kernel[0], sizes[2] + pads[1] + pads[3] - kernel[1]
        self.require(rows >= 0 and columns >= 0, "has a kernel larger than its input")
        return rows // strides[0] + 1, columns // strides[1] + 1


def _quantize(reader: _Reader) -> tuple[str, Sizes]:
    return QUANTIZED, reader.tensor(0)


def _convolve(reader: _Reader) -> tuple[str, Sizes]:
    sizes = reader.tensor(0, QUANTIZED)
    kernel, out = reader.attributes["kernel_shape"], reader.length(2)
    groups = reader.attributes["group"]
    reader.require(groups > 0 and sizes[0] % groups == 0, "has another group")
    reader.constant(1, np.int8, out, sizes[0] // groups, *kernel)
    reader.constant(2, np.int32, out)
    rows, columns = reader.window(sizes, kernel)
    reader.require(sizes[0] * math.prod(kernel) * rows * columns <= MOST_VALUES, "has too many patches")
    return SUMS, (out, rows, columns)


def _dequantize(reader: _Reader) -> tuple[str, Sizes]:
    sizes = reader.tensor(0, SUMS)
    reader.constant(1, np.uint64, sizes[0])
    reader.require(reader.attributes["dtype"] in (0, 1), "makes neither float32 nor float16")
    return FLOAT, sizes


def _same(reader: _Reader) -> tuple[str, Sizes]:
    return FLOAT, reader.tensor(0)


def _clip(reader: _Reader) -> tuple[str, Sizes]:
    for index in (1, 2):
        reader.constant(index, np.float16, 1)
    return _same(reader)


def _broadcast(reader: _Reader) -> tuple[str, Sizes]:
    sizes, other = reader.tensor(0), reader.operand(1)
    reader.require(all(b in (a, 1) for a, b in zip(sizes, other, strict=True)), f"of {list(sizes)} and {list(other)}")
    return FLOAT, sizes


def _concatenate(reader: _Reader) -> tuple[str, Sizes]:
    sizes = reader.tensors()
    fits = reader.attributes["axis"] == 1 and len({size[1:] for size in sizes}) == 1
    reader.require(fits, "does not join the channels of equal maps")
    return FLOAT, (sum(size[0] for size in sizes), *sizes[0][1:])


def _average(reader: _Reader) -> tuple[str, Sizes]:
    return FLOAT, (reader.tensor(0)[0], 1, 1)


def _max_pool(reader: _Reader) -> tuple[str, Sizes]:
    sizes = reader.tensor(0)
    return FLOAT, (sizes[0], *reader.window(sizes, reader.attributes["kernel_shape"]))


def _pad(reader: _Reader) -> tuple[str, Sizes]:
    channels, height, width = reader.tensor(0)
    pads = reader.constant(1, np.int64, 8).tolist()
    fits = reader.attributes["mode"] == b"constant" and min(pads) >= 0 and pads[0] == pads[1] == pads[4] == 0
    fits = fits and pads[5] <= MOST_CHANNELS_ADDED and max(pads) <= max(MOST_CHANNELS_ADDED, height, width)
    reader.require(fits, "has other pads")
    return FLOAT, (channels + pads[5], height + pads[2] + pads[6], width + pads[3] + pads[7])


_SHAPES: Mapping[str, Callable[[_Reader], tuple[str, Sizes]]] = {
    "Add": _broadcast,
    "AscendDequant": _dequantize,
    "AscendQuant": _quantize,
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": _convolve,
    "GlobalAveragePool": _average,
    "MaxPool": _max_pool,
    "Mul": _broadcast,
    "Pad": _pad,
    "Relu": _same,
    "Sub": _broadcast,
}
"""Operator -> what it makes of what it reads."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise SqueezeEdgeError(f"deploy model: {text}")
