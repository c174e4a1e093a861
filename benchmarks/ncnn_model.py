"""A float network as ncnn's int8 files.

The Python package of ncnn has its runtime alone, without the program that quantizes. The two files are therefore
written here, as that program writes them: convolutions and fully connected layers in int8, one scale per output channel
of the weights and one per tensor; where only convolutions read a convolution's result, it stays int8. Tensors' scales
are of the largest absolute values on the calibration images. Source: ncnn's wiki, "param and model file structure" and
"quantized int8 inference".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

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

__all__ = ["OUTPUT", "write_ncnn"]

OUTPUT = "logits"
"""The blob of the answer."""

_MAGIC = 7767517
_INT8 = np.uint32(0x000D4B38)
"""Marks weights as int8."""
_LARGEST = 127

_Line = tuple[str, str, tuple[str, ...], tuple[str, ...], Mapping[int, object]]
"""Kind, name, blobs that are read and made, settings by their number."""


def write_ncnn(graph: FloatGraph, largest: Mapping[str, float], param: Path, binary: Path) -> None:
    """Write a network.

    Args:
        graph: the float network.
        largest: tensor -> its largest absolute value on the calibration images.
        param: the text file of the layers.
        binary: the file of their weights.
    """
    layers = fused(graph)
    scale = {name: _LARGEST / max(value, 1e-30) for name, value in largest.items()}
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    height, width, channels = graph.shapes[IMAGE]
    lines: list[_Line] = [("Input", IMAGE, (), (IMAGE,), {0: width, 1: height, 2: channels})]
    weights: list[bytes] = []
    blobs: dict[str, list[str]] = {}

    def split(name: str) -> None:
        """Give every reader of a tensor a blob of its own: ncnn's blobs have one reader."""
        count = len(readers.get(name, ()))
        blobs[name] = [name] if count < 2 else [f"{name}/{i}" for i in range(count)]
        if count > 1:
            lines.append(("Split", f"split/{name}", (name,), tuple(blobs[name]), {}))

    split(IMAGE)
    for layer in layers:
        inputs, node = tuple(blobs[name].pop(0) for name in layer.inputs), layer.node
        out = OUTPUT if layer is layers[-1] else layer.name
        settings: Mapping[int, object] = {}
        if isinstance(node, FloatConv | FloatLinear):
            stays = bool(readers.get(layer.name)) and all(
                isinstance(reader.node, FloatConv) for reader in readers[layer.name]
            )
            kind, settings = _multiplies(node, layer.limit, stays and isinstance(node, FloatConv))
            weights += _weights(node, scale[layer.inputs[0]], scale[layer.name] if stays else None)
        elif isinstance(node, FloatMaxPool):
            top, left, bottom, right = node.padding
            kind, (kh, kw), (sh, sw) = "Pooling", node.kernel, node.stride
            settings = {0: 0, 1: kw, 11: kh, 2: sw, 12: sh, 5: int(not node.ceil_mode)}
            settings = {**settings, 3: left, 13: top, 14: right, 15: bottom}
        elif isinstance(node, FloatGlobalAveragePool):
            kind, settings = "Pooling", {0: 1, 4: 1}
        elif isinstance(node, FloatConcat):
            kind, settings = "Concat", {0: 0}
        elif isinstance(node, FloatAdd):
            kind, settings = "BinaryOp", {0: 0}
        else:
            raise SystemExit(f"{layer.name}: {type(node).__name__} is not one of the operators that are compared")
        if layer.limit is not None and not isinstance(node, FloatConv | FloatLinear):
            raise SystemExit(f"{layer.name}: a ReLU after a {type(node).__name__} is not written")
        lines.append((kind, layer.name, inputs, (out,), settings))
        if out != OUTPUT:
            split(layer.name)
    text = [str(_MAGIC), f"{len(lines)} {sum(len(outputs) for *_, outputs, _ in lines)}"]
    for kind, name, inputs, outputs, settings in lines:
        values = (f"{key}={value}" for key, value in settings.items())
        text.append(" ".join((kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *values)))
    param.write_text("\n".join(text) + "\n", encoding="utf-8")
    binary.write_bytes(b"".join(weights))


def _multiplies(
    node: FloatConv | FloatLinear, limit: float | None, int8_result: bool
) -> tuple[str, Mapping[int, object]]:
    """The kind of layer and its settings."""
    activation: dict[int, object] = {}
    if limit is not None:
        activation = {9: 1} if math.isinf(limit) else {9: 3, -23310: f"2,0.0,{limit:.6f}"}
    if isinstance(node, FloatLinear):
        return "InnerProduct", {0: len(node.bias), 1: 1, 2: node.weight.size, 8: 2, **activation}
    (top, left, bottom, right), (sh, sw) = node.padding, node.stride
    count, _, kh, kw = node.weight.shape
    settings: dict[int, object] = {0: count, 1: kw, 11: kh, 3: sw, 13: sh, 4: left, 14: top, 15: right, 16: bottom}
    settings |= {5: 1, 6: node.weight.size, 8: (1 if node.groups > 1 else 2) + 100 * int8_result, **activation}
    if node.groups == 1:
        return "Convolution", settings
    return "ConvolutionDepthWise", settings | {7: node.groups}


def _weights(node: FloatConv | FloatLinear, source: float, result: float | None) -> list[bytes]:
    """Weights, bias and scales, as the layer reads them; one scale per group where there are groups."""
    groups = node.groups if isinstance(node, FloatConv) and node.groups > 1 else len(node.bias)
    rows = node.weight.reshape(groups, -1)
    scales = _LARGEST / np.maximum(np.abs(rows).max(1), 1e-30)
    quantized = np.rint(rows * scales[:, None]).astype(np.int8).tobytes()
    parts: list[NDArray[np.float32]] = [node.bias, scales.astype(np.float32), np.array([source], np.float32)]
    if result is not None:
        parts.append(np.array([result], np.float32))
    padded = quantized + bytes(-len(quantized) % 4)
    return [_INT8.tobytes(), padded, *(part.astype(np.float32).tobytes() for part in parts)]
