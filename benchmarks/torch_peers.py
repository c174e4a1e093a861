"""A toolkit that quantizes a torch module, Brevitas, on the same float network as those of :mod:`benchmarks.peers`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from benchmarks.peers import Network, Quantizer

__all__ = ["TORCH_QUANTIZERS", "brevitas", "torch_module"]

BATCH = 8


def torch_module(model: onnx.ModelProto) -> fx.GraphModule:
    """What :func:`benchmarks.peers.float_onnx` makes, as a traced torch module of layers."""
    graph, root = fx.Graph(), nn.Module()
    arrays = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    values = {"image": graph.placeholder("image")}
    for index, node in enumerate(model.graph.node):
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        constants = [arrays[name] for name in node.input if name in arrays]
        inputs = [values[name] for name in node.input if name not in arrays]
        if node.op_type == "Add":
            values[node.output[0]] = graph.call_function(torch.add, tuple(inputs))
        elif node.op_type == "Concat":
            values[node.output[0]] = graph.call_function(torch.cat, (inputs, given["axis"]))
        else:
            root.add_module(f"layer{index}", _layer(node.op_type, given, constants))
            values[node.output[0]] = graph.call_module(f"layer{index}", tuple(inputs))
    graph.output(values[model.graph.output[0].name])
    return fx.GraphModule(root, graph).eval()


def _layer(kind: str, given: dict[str, Any], constants: list[Tensor]) -> nn.Module:
    if kind in ("Conv", "MaxPool") and given["pads"][:2] != given["pads"][2:]:
        raise SystemExit("padding that differs from side to side is not compared")
    if kind == "Conv":
        weight, bias = constants
        out, fan_in = weight.shape[:2]
        groups, padding = given["group"], given["pads"][:2]
        layer: nn.Module = nn.Conv2d(
            fan_in * groups, out, (weight.shape[2], weight.shape[3]), given["strides"], padding, groups=groups
        )
        layer.load_state_dict({"weight": weight, "bias": bias})
    elif kind == "Gemm":
        layer = nn.Linear(constants[0].shape[1], constants[0].shape[0])
        layer.load_state_dict({"weight": constants[0], "bias": constants[1]})
    elif kind == "MaxPool":
        ceil = bool(given["ceil_mode"])
        layer = nn.MaxPool2d(given["kernel_shape"], given["strides"], given["pads"][:2], ceil_mode=ceil)
    elif kind == "Clip":
        layer = nn.Hardtanh(float(constants[0]), float(constants[1]))
    else:
        simple: dict[str, nn.Module] = {
            "Relu": nn.ReLU(),
            "Flatten": nn.Flatten(),
            "GlobalAveragePool": nn.AdaptiveAvgPool2d(1),
        }
        layer = simple[kind]
    return layer


def brevitas(model: onnx.ModelProto, images: NDArray[np.float32], threads: int) -> Network:
    """Brevitas as its post-training example has it: equalized, calibrated at a percentile, GPTQ, biases corrected.

    Args:
        model: the float network.
        images: to calibrate on, normalized, float32 [N, 3, H, W].
        threads: those of torch are used instead.
    """
    from brevitas.graph.quantize import preprocess_for_quantize
    from brevitas_examples.imagenet_classification.ptq.ptq_common import (
        apply_bias_correction,
        apply_gptq,
        calibrate,
        quantize_model,
    )

    loader = [(part, None) for part in torch.split(torch.from_numpy(images), BATCH)]
    module = preprocess_for_quantize(torch_module(model), equalize_iters=20, equalize_merge_bias=True)
    quantized = quantize_model(
        module,
        backend="fx",
        weight_bit_width=8,
        act_bit_width=8,
        bias_bit_width=32,
        weight_quant_granularity="per_channel",
        act_quant_percentile=99.999,
        act_quant_type="asym",
        scale_factor_type="float_scale",
        quant_format="int",
        weight_narrow_range=True,
        weight_param_method="mse",
    )
    calibrate(loader, quantized)
    with torch.no_grad():
        quantized(loader[0][0])  # weights' scales are set by the first images
    apply_gptq(loader, quantized, act_order=True, use_quant_activations=True)
    apply_bias_correction(loader, quantized)
    quantized.eval()

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits = quantized(torch.from_numpy(image))
        return np.array(getattr(logits, "value", logits), np.float32).reshape(1, -1)

    return run


TORCH_QUANTIZERS: dict[str, Quantizer] = {
    "brevitas": Quantizer(
        ("brevitas",),
        brevitas,
        {"calibration": "percentile 99.999", "equalization": 20, "GPTQ": "act order", "bias correction": "on"},
        "the quantized network in floating point, each layer's scale a float",
    )
}
"""Name -> what is accurate, as :data:`benchmarks.peers.QUANTIZERS`."""
