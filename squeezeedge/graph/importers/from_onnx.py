"""ONNX file -> float graph. Operators: https://onnx.ai/onnx/operators/, opset 7 and later.

Dropout, identity, flatten and casts between floating-point types disappear. A softmax that makes the output
disappears, too: it changes no class's rank, and class sums and logits are judged before it. A layer has its weight's
name ("features.3.squeeze" from "features.3.squeeze.weight"), any other node its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.float.builder import (
    SUPPORTED,
    FloatGraphBuilder,
    average_pool,
    float32,
    folded_batch_norm,
    padded_same,
)
from squeezeedge.graph.float.graph import (
    F32,
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.importers.onnx_file import FLOATS, image_input, label, live_nodes, load_onnx, opset, type_name

__all__ = ["from_onnx"]

MAX_FOLDED = 2**20
"""Values of a constant that is made of nothing but its shape."""


def from_onnx(path: Path) -> FloatGraph:
    """Import an ONNX file.

    Its input is the normalized RGB image, floating point [1, 3, height, width]; an open batch size counts as 1.
    Weights of other floating-point types become float32.

    Args:
        path: the file; external data must lie in its folder or below.

    Returns:
        The graph, named as the file.

    Raises:
        CorruptFileError: the file is truncated, damaged or no valid ONNX.
        UnsupportedError: it uses something outside of what is supported; the text names the node.
    """
    try:
        return _Importer(load_onnx(path, _HANDLERS)).graph(path.stem)
    except (CorruptFileError, UnsupportedError) as error:
        raise type(error)(f"{path}: {error}") from error.__cause__


class _Importer:
    """One walk over the nodes that the output depends on."""

    def __init__(self, model: ModelProto) -> None:
        image = image_input(model.graph)
        dims = image.type.tensor_type.shape.dim
        self.proto = model.graph
        self.opset = opset(model)
        self.builder = FloatGraphBuilder((dims[2].dim_value, dims[3].dim_value))
        self.values = {image.name: IMAGE}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.padded: dict[str, tuple[int, int, int, int]] = {}
        self.inferred = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*model.graph.value_info, *model.graph.output)
        }

    def graph(self, name: str) -> FloatGraph:
        for node in live_nodes(self.proto):
            if node.op_type != "Constant" and all(not name or name in self.constants for name in node.input):
                self._fold(node)
                continue
            made = _HANDLERS[node.op_type](self, node)
            if made is not None:
                if node.op_type != "Pad":
                    self._check_shape(node, made)
                self.values[node.output[0]] = made
        output = self.proto.output[0].name
        if output not in self.values:
            raise UnsupportedError(f"the output {output!r} is not computed from the image")
        return self.builder.build(name, self.values[output])

    def _check_shape(self, node: NodeProto, made: str) -> None:
        """A node must make what ONNX's shape inference says; a vector may lack height and width."""
        height, width, channels = self.builder.shapes[made]
        shape, expected = (1, channels, height, width), self.inferred.get(node.output[0], ())
        given = (*expected, 1, 1)[:4]
        known = tuple(have if said == 0 else said for said, have in zip(given, shape, strict=False))
        if len(expected) < 2 or known != shape:
            raise UnsupportedError(
                f"{label(node)}: {node.op_type} makes {list(expected)} (0: not fixed), supported here is {list(shape)}"
            )

    def _name(self, node: NodeProto, weight: int | None = None) -> str:
        stem, dot, kind = node.input[weight].rpartition(".") if weight is not None else ("", "", "")
        return self.builder.unique(stem if dot and stem and kind == "weight" else label(node))

    def _tensor(self, node: NodeProto, index: int) -> str:
        """Name of an operand that depends on the image."""
        operand = node.input[index]
        if any(self.padded.get(operand, ())) and node.op_type != "Conv":
            raise UnsupportedError(f"{label(node)}: {node.op_type} of a padded map; supported: convolution")
        if operand not in self.values:
            kind = "a constant" if operand in self.constants else "a second output or a shape"
            raise UnsupportedError(
                f"{label(node)}: {node.op_type} of {operand!r}, {kind}, is not supported; supported: {SUPPORTED}"
            )
        return self.values[operand]

    def _constant(self, node: NodeProto, index: int) -> NDArray[Any]:
        """An operand that does not depend on the image."""
        tensor = self.constants.get(node.input[index])
        if tensor is None:
            raise UnsupportedError(f"{label(node)}: {node.input[index]!r} is computed; it must be a constant")
        try:
            return numpy_helper.to_array(tensor)
        except (TypeError, ValueError) as error:
            raise CorruptFileError(f"{label(node)}: {node.input[index]!r} is damaged: {error}") from error

    def _weights(self, node: NodeProto, index: int) -> F32:
        array = self._constant(node, index)
        tensor = self.constants[node.input[index]]
        if tensor.data_type not in FLOATS or array.size == 0:
            found = f"{type_name(tensor.data_type)} {list(array.shape)}"
            raise UnsupportedError(f"{label(node)}: {tensor.name!r} is {found}; it must be floating point")
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused with the layer's name
            return float32(array)

    def _fold(self, node: NodeProto) -> None:
        """Compute a node of which every input is a constant."""
        names = [name for name in dict.fromkeys(node.input) if name]
        arrays = {name: numpy_helper.to_array(self.constants[name]) for name in names}
        if node.op_type == "ConstantOfShape" and math.prod(map(int, arrays[names[0]])) > MAX_FOLDED:
            raise UnsupportedError(f"{label(node)}: a constant of more than {MAX_FOLDED} values")
        try:
            made = ReferenceEvaluator(node, opsets={"": self.opset}).run(None, arrays)
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
            raise UnsupportedError(f"{label(node)}: {node.op_type} of constants is not possible: {error}") from error
        for name, array in zip(node.output, made, strict=True):
            self.constants[name] = numpy_helper.from_array(np.asarray(array), name)

    def _known(self, node: NodeProto) -> None:
        (attribute,) = node.attribute
        value = onnx.helper.get_attribute_value(attribute)
        if not isinstance(value, TensorProto):
            if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
                raise UnsupportedError(f"{label(node)}: a constant given as {attribute.name} is not supported")
            value = numpy_helper.from_array(np.array(value, np.int64 if "int" in attribute.name else np.float32))
        self.constants[node.output[0]] = value

    def _same(self, node: NodeProto) -> str | None:
        if node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return None
        return self._tensor(node, 0)

    def _cast(self, node: NodeProto) -> str | None:
        kind = _attributes(node)["to"]
        if kind not in FLOATS:
            raise UnsupportedError(f"{label(node)}: a cast to {type_name(kind)} is not supported")
        return self._same(node)

    def _dropout(self, node: NodeProto) -> str | None:
        if len(node.input) > 2 and node.input[2] and self._constant(node, 2).any():
            raise UnsupportedError(f"{label(node)}: Dropout in training mode; export the network in evaluation mode")
        return self._same(node)

    def _convolution(self, node: NodeProto) -> str:
        source, weight = self._tensor(node, 0), self._weights(node, 1)
        around = self.padded.get(node.input[0], (0, 0, 0, 0))
        given = _attributes(node)
        if weight.ndim != 4 or any(step != 1 for step in given.get("dilations", ())):
            raise UnsupportedError(
                f"{label(node)}: convolution with dilation {given.get('dilations', 1)} and a {weight.ndim}-dimensional "
                "weight; supported: two-dimensional, no dilation"
            )
        bias = np.zeros(len(weight), np.float32) if len(node.input) < 3 or not node.input[2] else self._weights(node, 2)
        height, width = given.get("strides", (1, 1))
        padding = self._padding(node, source, (weight.shape[2], weight.shape[3]))
        top, left, bottom, right = (own + other for own, other in zip(padding, around, strict=True))
        padding = (top, left, bottom, right)
        name, groups = self._name(node, 1), given.get("group", 1)
        return self.builder.append(FloatConv(name, (source,), weight, bias, (height, width), padding, groups=groups))

    def _padding(self, node: NodeProto, source: str, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
        given = _attributes(node)
        automatic = given.get("auto_pad", b"NOTSET").decode()
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            size = self.builder.shapes[source][:2]
            return padded_same(size, kernel, given.get("strides", (1, 1)), automatic == "SAME_LOWER")
        if automatic == "VALID":
            return 0, 0, 0, 0
        top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
        return top, left, bottom, right

    def _batch_norm(self, node: NodeProto) -> str:
        source = self._tensor(node, 0)
        given = _attributes(node)
        # up to opset 13 the outputs tell: only in training mode there are more than one
        if given.get("training_mode", 0) or any(node.output[1:]):
            raise UnsupportedError(
                f"{label(node)}: BatchNormalization in training mode; export the network in evaluation mode "
                "(model.eval() in PyTorch)"
            )
        if not given.get("spatial", 1):
            raise UnsupportedError(f"{label(node)}: BatchNormalization that is not per channel")
        gamma, beta, mean, variance = (self._weights(node, index) for index in range(1, 5))
        name = self._name(node, 1)
        epsilon = given.get("epsilon", 1e-5)
        return self.builder.append(folded_batch_norm(name, source, gamma, beta, mean, variance, epsilon))

    def _clip(self, node: NodeProto) -> str:
        """ReLU with a limit."""
        source, given = self._tensor(node, 0), _attributes(node)
        bounds = [given.get("min", -math.inf), given.get("max", math.inf)]
        for index in (1, 2):
            if len(node.input) > index and node.input[index]:
                bounds[index - 1] = float(self._weights(node, index).reshape(()))
        if bounds[0] != 0 or not bounds[1] > 0:
            raise UnsupportedError(f"{label(node)}: Clip to {bounds}; supported: from 0 to a positive limit")
        return self.builder.append(FloatRelu(self._name(node), (source,), bounds[1]))

    def _pad(self, node: NodeProto) -> str:
        """Zeros around a map; what reads it pads by itself."""
        source, given = self._tensor(node, 0), _attributes(node)
        pads = given["pads"] if "pads" in given else self._constant(node, 1).tolist()
        value = given.get("value", 0.0)
        if len(node.input) > 2 and node.input[2]:
            value = float(self._constant(node, 2).reshape(()))
        top, left, bottom, right = pads[2], pads[3], pads[6], pads[7]
        if given.get("mode", b"constant") != b"constant" or value or any((*pads[:2], *pads[4:6])) or min(pads) < 0:
            raise UnsupportedError(f"{label(node)}: Pad by {pads}; supported: zeros around height and width")
        self.padded[node.output[0]] = (top, left, bottom, right)
        return source

    def _relu(self, node: NodeProto) -> str:
        return self.builder.append(FloatRelu(self._name(node), (self._tensor(node, 0),)))

    def _max_pool(self, node: NodeProto) -> str:
        source = self._tensor(node, 0)
        given = _attributes(node)
        if any(step != 1 for step in given.get("dilations", ())):
            raise UnsupportedError(f"{label(node)}: MaxPool with dilation {given['dilations']}; supported: no dilation")
        (kernel_h, kernel_w), (down, right) = given["kernel_shape"], given.get("strides", (1, 1))
        padding = self._padding(node, source, (kernel_h, kernel_w))
        ceil_mode = bool(given.get("ceil_mode", 0))
        pool = FloatMaxPool(self._name(node), (source,), (kernel_h, kernel_w), (down, right), padding, ceil_mode)
        return self.builder.append(pool)

    def _concat(self, node: NodeProto) -> str:
        sources = tuple(self._tensor(node, index) for index in range(len(node.input)))
        axis = _attributes(node)["axis"]
        if axis not in (1, -3):
            raise UnsupportedError(f"{label(node)}: Concat over axis {axis}; supported: 1, the channels")
        return sources[0] if len(sources) == 1 else self.builder.append(FloatConcat(self._name(node), sources))

    def _add(self, node: NodeProto) -> str:
        """Of two tensors; or of a bias behind the MatMul at the end."""
        for index in (0, 1):
            last = self.builder.nodes[-1] if self.builder.nodes else None
            if node.input[index] in self.constants and isinstance(last, FloatLinear):
                if self._tensor(node, 1 - index) == last.name:
                    bias = last.bias + _vector(node, self._weights(node, index), len(last.bias))
                    self.builder.nodes[-1] = replace(last, bias=bias)
                    return last.name
        return self.builder.append(FloatAdd(self._name(node), (self._tensor(node, 0), self._tensor(node, 1))))

    def _global_average(self, node: NodeProto) -> str:
        return self.builder.append(FloatGlobalAveragePool(self._name(node), (self._tensor(node, 0),)))

    def _average(self, node: NodeProto) -> str:
        source = self._tensor(node, 0)
        given = _attributes(node)
        if any(step != 1 for step in given.get("dilations", ())):
            raise UnsupportedError(
                f"{label(node)}: AveragePool with dilation {given['dilations']}; supported: no dilation"
            )
        (kernel_h, kernel_w), (down, right) = given["kernel_shape"], given.get("strides", (1, 1))
        pool = average_pool(
            self._name(node),
            source,
            self.builder.shapes[source],
            (kernel_h, kernel_w),
            (down, right),
            self._padding(node, source, (kernel_h, kernel_w)),
            count_include_pad=bool(given.get("count_include_pad", 0)),
            ceil_mode=bool(given.get("ceil_mode", 0)),
        )
        return self.builder.append(pool)

    def _mean(self, node: NodeProto) -> str:
        has_input = len(node.input) > 1 and node.input[1]
        axes = self._constant(node, 1).tolist() if has_input else _attributes(node).get("axes", [])
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise UnsupportedError(f"{label(node)}: ReduceMean over axes {axes}; supported: height and width (2, 3)")
        return self._global_average(node)

    def _gemm(self, node: NodeProto) -> str:
        source, weight = self._tensor(node, 0), self._weights(node, 1)
        given = _attributes(node)
        if given.get("transA", 0):
            raise UnsupportedError(f"{label(node)}: Gemm with transA is not supported")
        weight = float32((weight if given.get("transB", 0) else weight.T) * np.float32(given.get("alpha", 1.0)))
        bias = np.zeros(len(weight), np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = _vector(node, self._weights(node, 2), len(weight)) * np.float32(given.get("beta", 1.0))
        return self.builder.append(FloatLinear(self._name(node, 1), (source,), weight, bias))

    def _matmul(self, node: NodeProto) -> str:
        source, weight = self._tensor(node, 0), self._weights(node, 1)
        if weight.ndim != 2:
            raise UnsupportedError(f"{label(node)}: MatMul with a {weight.ndim}-dimensional weight; supported: 2")
        bias = np.zeros(weight.shape[1], np.float32)
        return self.builder.append(FloatLinear(self._name(node, 1), (source,), float32(weight.T), bias))

    def _reshaped(self, node: NodeProto) -> str:
        """Flatten and its relatives: the values stay; the shape is checked against the inferred one afterwards."""
        source = self._tensor(node, 0)
        height, width, _ = self.builder.shapes[source]
        if (height, width) != (1, 1):
            raise UnsupportedError(
                f"{label(node)}: {node.op_type} of a map of {height}x{width} pixels; supported: behind a global "
                "average pooling"
            )
        return source

    def _softmax(self, node: NodeProto) -> str:
        source = self._tensor(node, 0)
        rank = len(self.inferred.get(node.input[0], (0,) * 4))
        axis = _attributes(node).get("axis", 1 if self.opset < 13 else -1)
        if node.output[0] != self.proto.output[0].name or axis % rank != 1:
            raise UnsupportedError(f"{label(node)}: Softmax is only supported over the classes, at the very end")
        return source


Handler = Callable[[_Importer, NodeProto], str | None]

_HANDLERS: dict[str, Handler] = {
    "Add": _Importer._add,
    "AveragePool": _Importer._average,
    "BatchNormalization": _Importer._batch_norm,
    "Cast": _Importer._cast,
    "Clip": _Importer._clip,
    "Concat": _Importer._concat,
    "ConstantOfShape": _Importer._known,
    "Constant": _Importer._known,
    "Conv": _Importer._convolution,
    "Dropout": _Importer._dropout,
    "Flatten": _Importer._reshaped,
    "Gemm": _Importer._gemm,
    "GlobalAveragePool": _Importer._global_average,
    "Identity": _Importer._same,
    "MatMul": _Importer._matmul,
    "MaxPool": _Importer._max_pool,
    "ReduceMean": _Importer._mean,
    "Pad": _Importer._pad,
    "Relu": _Importer._relu,
    "Reshape": _Importer._reshaped,
    "Softmax": _Importer._softmax,
    "Slice": _Importer._known,
    "Squeeze": _Importer._reshaped,
    "Transpose": _Importer._known,
}
"""Each returns the tensor that the node's first output is, or nothing if that is a constant."""


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _vector(node: NodeProto, bias: F32, size: int) -> F32:
    """A bias that may be written as [size], [1, size], [1] or a scalar."""
    try:
        return float32(np.broadcast_to(bias, (1, size))[0])
    except ValueError:
        shape = list(bias.shape)
        raise UnsupportedError(f"{label(node)}: a bias of shape {shape} for {size} classes is not supported") from None
