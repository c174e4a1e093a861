"""What the structure check finds in a deploy model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.targets.ascend.deploy import deploy_model, pack_scale
from squeezeedge.targets.ascend.structure import check_structure
from tests.graphs import squeezenet_graph

Change = Callable[[ModelProto], object]


def first(model: ModelProto, kind: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def with_constant(model: ModelProto, name: str, value: NDArray[np.generic]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))


def set_attribute(node: NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def unquantized(model: ModelProto) -> None:
    """The first convolution reads the image."""
    first(model, "Conv").input[0] = "image"


def elsewhere(model: ModelProto) -> None:
    """A constant that onnx would read from a file of the working directory."""
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: setattr(first(m, "Relu"), "op_type", "Softsign"), "may not take: Softsign"),
        (lambda m: setattr(first(m, "Relu"), "name", "conv1"), "'conv1' is used twice"),
        (lambda m: setattr(m.opset_import[0], "version", 13), "must use opset 11"),
        (lambda m: setattr(first(m, "AscendQuant"), "op_type", "Relu"), "conv1.quant: Relu has other attributes"),
        (lambda m: setattr(first(m, "AscendDequant"), "op_type", "Relu"), "conv1.dequant: Relu has other inputs"),
        (lambda m: unquantized(m), "conv1: its input is not quantized"),
        (lambda m: first(m, "AscendDequant").input.__setitem__(0, "image"), "conv1: its output is not dequantized"),
        (lambda m: set_attribute(first(m, "AscendQuant"), "scale", 0.5), "not those of q units"),
        (lambda m: set_attribute(first(m, "AscendQuant"), "offset", -127.0), "not those of q units"),
        (lambda m: set_attribute(first(m, "AscendQuant"), "dst_type", "INT4"), "does not make int8"),
        (lambda m: set_attribute(first(m, "AscendQuant"), "round_mode", "Floor"), "AscendQuant has other"),
        (lambda m: set_attribute(first(m, "AscendDequant"), "relu_flag", 1), "AscendDequant has other"),
        (lambda m: set_attribute(first(m, "Conv"), "group", 3), "groups or dilations"),
        (lambda m: with_constant(m, "conv1.bias", np.zeros(64, np.int64)), "not int8 with an int32 bias"),
        (lambda m: with_constant(m, "conv1.dequant.param", np.zeros(3, np.uint64)), "does not fit"),
        (lambda m: with_constant(m, "conv1.dequant.param", pack_scale(np.full(64, 0.3, np.float32))), "q units"),
        (lambda m: set_attribute(first(m, "MaxPool"), "pads", "none"), "deploy model: .*pads"),
        (lambda m: set_attribute(first(m, "MaxPool"), "pads", [0, 0]), "MaxPool has another pads"),
        (lambda m: set_attribute(first(m, "MaxPool"), "ceil_mode", 1), "MaxPool has other attributes"),
        (lambda m: first(m, "Conv").input.pop(), "conv1: Conv has other inputs"),
        (lambda m: first(m, "Conv").input.__setitem__(1, "image"), "weight, bias or scale is no constant"),
        (lambda m: first(m, "Conv").input.__setitem__(1, "later"), "'later' is not made before it is read"),
        (lambda m: first(m, "Conv").output.append("more"), "conv1: Conv has not one output"),
        (lambda m: first(m, "MaxPool").output.__setitem__(0, "image"), "two tensors are called 'image'"),
        (lambda m: with_constant(m, "conv1.weight", np.zeros((64, 3), np.int8)), "does not fit the weight"),
        (lambda m: with_constant(m, "conv1.weight", np.zeros((64, 3, 3, 3), np.uint8)), "constant 'conv1.weight'"),
        (lambda m: with_constant(m, "conv1.dequant.param", pack_scale(np.full(64, np.nan, np.float32))), "q units"),
        (lambda m: with_constant(m, "conv1.dequant.param", pack_scale(np.zeros(64, np.float32))), "q units"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 60), "has not the size of its shape"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -64), "constant 'conv1.weight'"),
        (lambda m: elsewhere(m), "constant 'conv1.weight' lies in another file"),
        (lambda m: m.graph.output[0].__setattr__("name", "nothing"), "its output is not made"),
        (lambda m: m.graph.input.add(), "not one input and an output"),
        (lambda m: m.graph.ClearField("node"), "0 nodes"),
        (lambda m: m.functions.add(), "functions"),
    ],
)
def test_the_structure_check(change: Change, text: str) -> None:
    model = deploy_model(squeezenet_graph("squeezenet1_1", 48, 5), "fused")
    check_structure(model)
    change(model)
    with pytest.raises(SqueezeEdgeError, match=text):
        check_structure(model)
