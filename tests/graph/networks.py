"""Float networks for the importers' tests: ONNX models written node by node, and torch modules beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from squeezeedge.networks.squeezenet import Fire, SqueezeNet

__all__ = ["OnnxWriter", "ResNet18", "resnet18_onnx", "squeezenet_onnx"]


class OnnxWriter:
    """Collects nodes and weights of an ONNX model with one image as input."""

    def __init__(self, shape: Sequence[int | str | None], elem_type: int = TensorProto.FLOAT) -> None:
        self.image = helper.make_tensor_value_info("input", elem_type, shape)
        self.elem_type = elem_type
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def weight(self, name: str, value: NDArray[Any] | Sequence[int]) -> str:
        self.weights[name] = np.asarray(value)
        return name

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; returns the name of its first output."""
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name or f"/{output}", **attributes))
        return output

    def conv(self, source: str, name: str, layer: nn.Conv2d, **attributes: Any) -> str:  # noqa: ANN401
        """A convolution with a torch layer's parameters; ``attributes`` replace stride and pads."""
        inputs = [source, self.weight(f"{name}.weight", layer.weight.detach().numpy())]
        if layer.bias is not None:
            inputs.append(self.weight(f"{name}.bias", layer.bias.detach().numpy()))
        pads = [*layer.padding, *layer.padding]
        given: dict[str, Any] = {"strides": layer.stride, "pads": pads} | attributes
        return self.node("Conv", *inputs, **given)

    def batch_norm(self, source: str, name: str, layer: nn.BatchNorm2d) -> str:
        state = {key: value.numpy() for key, value in layer.state_dict().items()}
        keys = ("weight", "bias", "running_mean", "running_var")
        inputs = [self.weight(f"{name}.{key}", state[key]) for key in keys]
        return self.node("BatchNormalization", source, *inputs, epsilon=layer.eps)

    def model(self, output: str, opset: int = 17, rank: int = 2) -> onnx.ModelProto:
        """The whole model; ``rank``: number of dimensions of the output."""
        graph = helper.make_graph(
            self.nodes,
            "network",
            [self.image],
            [helper.make_tensor_value_info(output, self.elem_type, [None] * rank)],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def squeezenet_onnx(network: SqueezeNet, size: tuple[int, int], batch: int | str = 1) -> OnnxWriter:
    """SqueezeNet as exporters write it; ends in a flattened vector named by the last node's output."""
    writer = OnnxWriter([batch, 3, *size])
    value = "input"
    for place, layer in enumerate(network.features):
        name = f"features.{place}"
        if isinstance(layer, nn.Conv2d):
            value = writer.conv(value, name, layer)
        elif isinstance(layer, nn.ReLU):
            value = writer.node("Relu", value)
        elif isinstance(layer, nn.MaxPool2d):
            ceil_mode = int(layer.ceil_mode)
            value = writer.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=ceil_mode)
        else:
            assert isinstance(layer, Fire)
            value = _fire(writer, value, name, layer)
    value = writer.node("Dropout", value)
    last = network.classifier[1]
    assert isinstance(last, nn.Conv2d)
    value = writer.node("Relu", writer.conv(value, "classifier.1", last))
    writer.node("Flatten", writer.node("GlobalAveragePool", value))
    return writer


def _fire(writer: OnnxWriter, source: str, name: str, layer: Fire) -> str:
    squeezed = writer.node("Relu", writer.conv(source, f"{name}.squeeze", layer.squeeze))
    expanded = [
        writer.node("Relu", writer.conv(squeezed, f"{name}.{key}", getattr(layer, key)))
        for key in ("expand1x1", "expand3x3")
    ]
    value = writer.node("Concat", *expanded, axis=1)
    if layer.bypass is None:
        return value
    if isinstance(layer.bypass, nn.Conv2d):
        source = writer.conv(source, f"{name}.bypass", layer.bypass)
    return writer.node("Add", value, source)


class _Block(nn.Module):
    """Basic block of He et al., "Deep residual learning for image recognition", 2016."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        result: torch.Tensor = self.relu(out)
        return result


class ResNet18(nn.Module):
    """ResNet-18 with ``width`` channels in front, random weights and running statistics."""

    def __init__(self, width: int = 8, classes: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(_Block(width, width, 1), _Block(width, width, 1))
        self.layer2 = nn.Sequential(_Block(width, 2 * width, 2), _Block(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(_Block(2 * width, 4 * width, 2), _Block(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(_Block(4 * width, 8 * width, 2), _Block(8 * width, 8 * width, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
                nn.init.normal_(layer.running_mean, 0, 0.2)
                nn.init.uniform_(layer.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def resnet18_onnx(network: ResNet18, size: tuple[int, int]) -> OnnxWriter:
    """ResNet-18 with separate batch normalization and a Gemm at the end."""
    writer = OnnxWriter([1, 3, *size])
    value = writer.node("Relu", writer.batch_norm(writer.conv("input", "conv1", network.conv1), "bn1", network.bn1))
    value = writer.node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage in range(1, 5):
        for place, block in enumerate(getattr(network, f"layer{stage}")):
            value = _residual(writer, value, f"layer{stage}.{place}", block)
    vector = writer.node("Flatten", writer.node("GlobalAveragePool", value))
    parameters: Mapping[str, torch.Tensor] = network.fc.state_dict()
    weight = writer.weight("fc.weight", parameters["weight"].numpy())
    writer.node("Gemm", vector, weight, writer.weight("fc.bias", parameters["bias"].numpy()), transB=1)
    return writer


def _residual(writer: OnnxWriter, source: str, name: str, block: _Block) -> str:
    def pair(value: str, key: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, keys: tuple[str, str]) -> str:
        return writer.batch_norm(writer.conv(value, f"{key}.{keys[0]}", conv), f"{key}.{keys[1]}", norm)

    value = writer.node("Relu", pair(source, name, block.conv1, block.bn1, ("conv1", "bn1")))
    value = pair(value, name, block.conv2, block.bn2, ("conv2", "bn2"))
    if block.downsample is not None:
        conv, norm = block.downsample
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        source = pair(source, f"{name}.downsample", conv, norm, ("0", "1"))
    return writer.node("Relu", writer.node("Add", value, source))
