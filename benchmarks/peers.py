"""Other toolkits' quantizers on the same float network and images."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from squeezeedge.graph.float.graph import (
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)

__all__ = ["QUANTIZERS", "Network", "Quantizer", "float_onnx", "quantize_nncf", "quantize_onnxruntime"]

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Normalized image float32 [1, 3, H, W] -> logits float32 [1, classes]."""


def float_onnx(graph: FloatGraph) -> onnx.ModelProto:
    """A float graph as ONNX, opset 13; windowed average pooling and batch normalization are refused."""
    nodes, initializers = [], []
    for node in graph.nodes:
        inputs, name = list(node.inputs), node.name
        constants: dict[str, NDArray[np.float32]] = {}
        if isinstance(node, FloatConv | FloatLinear):
            constants = {"weight": node.weight, "bias": node.bias}
        elif isinstance(node, FloatRelu) and math.isfinite(node.limit):
            constants = {"lowest": np.zeros((), np.float32), "highest": np.array(node.limit, np.float32)}
        for key, array in constants.items():
            initializers.append(
                numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), f"{name}.{key}")
            )
            inputs.append(f"{name}.{key}")
        if isinstance(node, FloatConv):
            nodes.append(
                helper.make_node("Conv", inputs, [name], strides=node.stride, pads=node.padding, group=node.groups)
            )
        elif isinstance(node, FloatMaxPool):
            attributes: dict[str, Any] = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding}
            nodes.append(helper.make_node("MaxPool", inputs, [name], ceil_mode=int(node.ceil_mode), **attributes))
        elif isinstance(node, FloatRelu):
            nodes.append(helper.make_node("Clip" if constants else "Relu", inputs, [name]))
        elif isinstance(node, FloatAdd):
            nodes.append(helper.make_node("Add", inputs, [name]))
        elif isinstance(node, FloatLinear):
            nodes.append(helper.make_node("Flatten", inputs[:1], [f"{name}.vector"]))
            nodes.append(helper.make_node("Gemm", [f"{name}.vector", *inputs[1:]], [name], transB=1))
        elif isinstance(node, FloatConcat):
            nodes.append(helper.make_node("Concat", inputs, [name], axis=1))
        elif isinstance(node, FloatGlobalAveragePool):
            nodes.append(helper.make_node("GlobalAveragePool", inputs, [name]))
        else:
            raise SystemExit(f"{name}: {type(node).__name__} is not one of the operators that are compared")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *graph.input_size])
    last = graph.nodes[-1].name
    map_shape = () if isinstance(graph.nodes[-1], FloatLinear) else (1, 1)
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, graph.shapes[last].channels, *map_shape])
    body = helper.make_graph(nodes, graph.name, [image], [output], initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(frozen=True)
class Quantizer:
    """A toolkit with settings.

    Attributes:
        packages: that it needs.
        make: (float model, normalized calibration images float32 [N, 3, H, W], threads) -> its network.
        settings: what was asked for, as JSON values, beside one scale per output channel of the weights.
        arithmetic: how its answers are computed exactly on any processor: without 8-bit dot products into 32 bits
            (VNNI), the toolkit by itself saturates sums of two products at 16 bits.
    """

    packages: tuple[str, ...]
    make: Callable[[onnx.ModelProto, NDArray[np.float32], int], Network]
    settings: Mapping[str, object]
    arithmetic: str


def quantize_onnxruntime(
    model: onnx.ModelProto, images: NDArray[np.float32], method: str = "MinMax"
) -> onnx.ModelProto:
    """ONNX Runtime's static quantization: per channel, u8s8.

    Args:
        model: the float network.
        images: to calibrate on, normalized, float32 [N, 3, H, W].
        method: of calibration: MinMax, Percentile (99.999, its default) or Entropy.
    """
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.set_range(0, len(images))

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.rest: Iterator[NDArray[np.float32]] = iter(images[start_index:end_index])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.rest, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("float.onnx", "prepared.onnx", "int8.onnx")]
        onnx.save(model, paths[0])
        quant_pre_process(paths[0], paths[1])
        with redirect_stdout(sys.stderr):  # where it tells what it does
            quantize_static(
                *(paths[1], paths[2], Reader()),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[method],
                # All tensors of so many images are kept at a time.
                extra_options={"CalibStridedMinMax": math.gcd(len(images), 8)},
            )
        return onnx.load(paths[2])


def quantize_nncf(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    preset: str | None = None,
    fast_bias_correction: bool = True,
) -> Any:  # noqa: ANN401  (openvino.Model)
    """NNCF's quantization of an OpenVINO model.

    Args:
        model: the float network.
        images: to calibrate on, normalized, float32 [N, 3, H, W].
        preset: ``mixed`` has asymmetric activations; ``None``: its default, ``performance``, for convolutions.
        fast_bias_correction: NNCF's default; without it, each layer's bias is computed anew on the images.
    """
    import nncf
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        converted = openvino.convert_model(path)  # NNCF finds no biases in what read_model gives
    return nncf.quantize(
        converted,
        nncf.Dataset([image[None] for image in images]),
        preset=None if preset is None else nncf.QuantizationPreset(preset),
        subset_size=len(images),
        fast_bias_correction=fast_bias_correction,
    )


def _exact(method: str) -> Quantizer:
    def make(model: onnx.ModelProto, images: NDArray[np.float32], threads: int) -> Network:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.x64quantprecision", "1")
        quantized = quantize_onnxruntime(model, images, method).SerializeToString()
        session = ort.InferenceSession(quantized, options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})[0].reshape(1, -1)

    arithmetic = "session.x64quantprecision=1: exact 32-bit sums of the same weights"
    return Quantizer(("onnxruntime",), make, {"calibration": method}, arithmetic)


def _nncf(preset: str, fast: bool) -> Quantizer:
    def make(model: onnx.ModelProto, images: NDArray[np.float32], threads: int) -> Network:
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "LP_TRANSFORMS_MODE": "NO"}
        quantized = quantize_nncf(model, images, preset, fast)
        request = openvino.Core().compile_model(quantized, "CPU", options).create_infer_request()

        def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
            request.set_input_tensor(openvino.Tensor(image))
            request.infer()
            return np.array(request.get_output_tensor().data).reshape(1, -1)

        return run

    return Quantizer(
        ("openvino", "nncf"),
        make,
        {"preset": preset, "bias correction": "fast" if fast else "accurate", "SmoothQuant": "off"},
        "LP_TRANSFORMS_MODE=NO: the quantized network in floating point",
    )


QUANTIZERS: dict[str, Quantizer] = {
    "onnxruntime minmax": _exact("MinMax"),
    "onnxruntime percentile": _exact("Percentile"),
    "onnxruntime entropy": _exact("Entropy"),
    "nncf": _nncf("performance", fast=True),
    "nncf mixed": _nncf("mixed", fast=True),
    "nncf mixed, accurate bias": _nncf("mixed", fast=False),
}
"""Name -> what is accurate: the settings that are documented for accuracy, beside the default ones."""
