"""A float network as an int8 .tflite file.

The layers are written by the schema that the package ai-edge-litert has. The calibrator and the quantizer are also of
that package, the classic ones of TensorFlow Lite: int8 throughout, one scale per output channel of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.float_network import Layer, fused
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
)
from squeezeedge.graph.rules import Shape

__all__ = ["float_tflite", "int8_tflite"]


def int8_tflite(graph: FloatGraph, images: NDArray[np.float32]) -> bytes:
    """The quantized network; its input and output are float32.

    Args:
        graph: the float network.
        images: to calibrate on, normalized, float32 [N, 3, H, W].
    """
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as calibration

    content = float_tflite(graph)  # the wrapper reads it until the end
    wrapper = calibration.CalibrationWrapper(content, [], [])
    wrapper.Prepare()
    for image in np.ascontiguousarray(images.transpose(0, 2, 3, 1)):
        wrapper.FeedTensor([image[None]])
    float32, int8, int32 = (np.dtype(kind).num for kind in (np.float32, np.int8, np.int32))
    quantized: bytes = wrapper.QuantizeModel(float32, float32, False, int8, int32, False, False)
    return quantized


def float_tflite(graph: FloatGraph) -> bytes:
    """The float network, NHWC, batch 1.

    Raises:
        SystemExit: an operator or padding that is not written.
    """
    import flatbuffers

    writer = _Writer(graph)
    for layer in fused(graph):
        writer.add(layer)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(writer.model().Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Writer:
    """Collects tensors, buffers and operators."""

    def __init__(self, graph: FloatGraph) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.graph = graph
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # the empty one
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.places: dict[str, int] = {}
        height, width, channels = graph.shapes[IMAGE]
        self.places[IMAGE] = self.tensor(IMAGE, (1, height, width, channels))

    def tensor(self, name: str, shape: Sequence[int], content: NDArray[np.float32] | None = None) -> int:
        """Add a tensor, float32; with content it is a constant."""
        tensor, buffer = self.schema.TensorT(), 0
        if content is not None:
            held = self.schema.BufferT()
            held.data = np.frombuffer(np.ascontiguousarray(content, np.float32).tobytes(), np.uint8)
            buffer = len(self.buffers)
            self.buffers.append(held)
        tensor.name, tensor.shape, tensor.buffer = name.encode(), list(shape), buffer
        tensor.type = self.schema.TensorType.FLOAT32
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add(self, layer: Layer) -> None:
        """Add an operator."""
        node, kinds = layer.node, self.schema.BuiltinOperator
        inputs = [self.places[name] for name in layer.inputs]
        shape = self.graph.shapes[layer.name]
        source = self.graph.shapes[layer.inputs[0]]
        dimensions: tuple[int, ...] = (1, shape.height, shape.width, shape.channels)
        if isinstance(node, FloatConv):
            kind, settings, weight = self.convolution(layer.name, node, source, shape)
            inputs += [self.tensor(f"{layer.name}/weight", weight.shape, weight)]
            inputs += [self.tensor(f"{layer.name}/bias", node.bias.shape, node.bias)]
        elif isinstance(node, FloatLinear):
            kind, settings, dimensions = kinds.FULLY_CONNECTED, self.schema.FullyConnectedOptionsT(), (1, shape[-1])
            inputs += [self.tensor(f"{layer.name}/weight", node.weight.shape, node.weight)]
            inputs += [self.tensor(f"{layer.name}/bias", node.bias.shape, node.bias)]
        elif isinstance(node, FloatMaxPool):
            padding = _padding(layer.name, source, shape, node.kernel, node.stride, node.padding, node.ceil_mode)
            kind, settings = kinds.MAX_POOL_2D, self.pooling(padding, node.kernel, node.stride)
        elif isinstance(node, FloatGlobalAveragePool):
            window = (source.height, source.width)
            kind, settings = kinds.AVERAGE_POOL_2D, self.pooling("VALID", window, window)
        elif isinstance(node, FloatConcat):
            kind, settings = kinds.CONCATENATION, self.schema.ConcatenationOptionsT()
            settings.axis = 3
        elif isinstance(node, FloatAdd):
            kind, settings = kinds.ADD, self.schema.AddOptionsT()
        else:
            raise SystemExit(f"{layer.name}: {type(node).__name__} is not one of the operators that are compared")
        settings.fusedActivationFunction = self.activation(layer)
        self.places[layer.name] = self.tensor(layer.name, dimensions)
        operator = self.schema.OperatorT()
        if kind not in self.codes:
            self.codes.append(kind)
        operator.opcodeIndex = self.codes.index(kind)
        operator.inputs, operator.outputs = inputs, [self.places[layer.name]]
        operator.builtinOptions = settings
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(settings).__name__.removesuffix("T"))
        self.operators.append(operator)

    def convolution(
        self, name: str, node: FloatConv, source: Shape, shape: Shape
    ) -> tuple[int, Any, NDArray[np.float32]]:
        """(kind, settings, weights as the kind has them) of a dense or depthwise convolution."""
        kernel = node.weight.shape[2:]
        padding = _padding(name, source, shape, kernel, node.stride, node.padding)
        if node.groups == 1:
            kind, settings = self.schema.BuiltinOperator.CONV_2D, self.schema.Conv2DOptionsT()
            weight = node.weight.transpose(0, 2, 3, 1)
        elif node.groups == source.channels:
            kind, settings = self.schema.BuiltinOperator.DEPTHWISE_CONV_2D, self.schema.DepthwiseConv2DOptionsT()
            settings.depthMultiplier = shape.channels // source.channels
            weight = node.weight.transpose(1, 2, 3, 0)
        else:
            raise SystemExit(f"{name}: a convolution of {node.groups} groups is not written")
        settings.padding = getattr(self.schema.Padding, padding)
        settings.strideH, settings.strideW = node.stride
        settings.dilationHFactor = settings.dilationWFactor = 1
        return kind, settings, weight

    def pooling(self, padding: str, kernel: tuple[int, int], stride: tuple[int, int]) -> Any:  # noqa: ANN401  (schema)
        """Settings of a pooling."""
        settings = self.schema.Pool2DOptionsT()
        settings.padding = getattr(self.schema.Padding, padding)
        settings.filterHeight, settings.filterWidth = kernel
        settings.strideH, settings.strideW = stride
        return settings

    def activation(self, layer: Layer) -> int:
        """The activation function within an operator."""
        kinds = self.schema.ActivationFunctionType
        known = {None: kinds.NONE, math.inf: kinds.RELU, 6.0: kinds.RELU6}
        if layer.limit not in known:
            raise SystemExit(f"{layer.name}: a ReLU up to {layer.limit} is not written")
        return int(known[layer.limit])

    def model(self) -> Any:  # noqa: ANN401  (schema)
        """The model of all that was added."""
        part = self.schema.SubGraphT()
        part.tensors, part.operators, part.name = self.tensors, self.operators, b"main"
        part.inputs, part.outputs = [self.places[IMAGE]], self.operators[-1].outputs
        model = self.schema.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = 3, b"", [part], self.buffers
        model.operatorCodes = []
        for kind in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, kind, 1
            model.operatorCodes.append(code)
        return model


def _padding(
    name: str,
    source: Shape,
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: tuple[int, int, int, int],
    ceil_mode: bool = False,
) -> str:
    """VALID or SAME, where one of them is this padding; the windows of ceil mode may go beyond the bottom and right."""
    found = {"VALID", "SAME"}
    for side in (0, 1):
        inputs, outputs, step = source[side], shape[side], stride[side]
        first, last = padding[side], padding[2 + side]
        total = max((outputs - 1) * step + kernel[side] - inputs, 0)
        if ceil_mode:
            last = max(total - first, last)
        if first or last:
            found.discard("VALID")
        if outputs != -(-inputs // step) or (first, last) != (total // 2, total - total // 2):
            found.discard("SAME")
    if not found:
        raise SystemExit(f"{name}: its padding is neither SAME nor VALID, the ones that are written")
    return max(found)
