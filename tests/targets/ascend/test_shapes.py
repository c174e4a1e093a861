"""Shapes of a deploy model's tensors, and the nodes that do not fit theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.ascend.deploy import deploy_model
from squeezeedge.targets.ascend.options import ROUNDINGS
from squeezeedge.targets.ascend.shapes import tensor_shapes
from squeezeedge.targets.ascend.structure import check_structure, constants
from tests.graphs import TOPOLOGIES, GraphBuilder, squeezenet_graph


def small() -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(0), (9, 11))
    value = builder.pool(builder.conv(IMAGE, 6, (3, 3), (2, 2), (1, 1, 1, 1), name="conv1"), name="pool1")
    branch = builder.conv(value, 6, zero_point=128, name="branch")
    value = builder.concat([builder.add(value, branch, name="add"), builder.conv(value, 5, name="other")])
    return builder.finish(value, 4)


def shapes(model: ModelProto, image: Shape) -> dict[str, Shape]:
    check_structure(model)
    return tensor_shapes(model, image, constants(model))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", TOPOLOGIES[:-1])
def test_the_tensors_are_those_of_the_graph(name: str, rounding: str) -> None:
    graph = squeezenet_graph(name, 48, 10)
    found = shapes(deploy_model(graph, rounding), Shape(*graph.input_shape))
    for node in graph.nodes[:-1]:
        expected = graph.tensors[node.name].shape
        assert found[node.name][:2] == expected[:2] and found[node.name].channels >= expected.channels
    assert found["class_means"] == (1, 1, 20)


def node(model: ModelProto, kind: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def attribute(node: NodeProto, name: str, value: object) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def constant(model: ModelProto, name: str, value: NDArray[np.generic]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))


def doubled(model: ModelProto) -> None:
    """Concatenations of concatenations before the output."""
    last = model.graph.node[-1]
    for i in range(30):
        model.graph.node.append(onnx.helper.make_node("Concat", [last.output[0]] * 2, [f"x{i}"], f"x{i}", axis=1))
        last = model.graph.node[-1]


CASES: list[tuple[Callable[[ModelProto], object], str]] = [
    (lambda m: attribute(node(m, "MaxPool"), "strides", [0, 1]), "other strides or pads"),
    (lambda m: attribute(node(m, "MaxPool"), "pads", [-1, 0, 0, 0]), "other strides or pads"),
    (lambda m: attribute(node(m, "MaxPool"), "pads", [1 << 40, 0, 0, 0]), "large pads"),
    (lambda m: attribute(node(m, "MaxPool"), "kernel_shape", [1 << 40, 1]), "a kernel larger than its input"),
    (lambda m: attribute(node(m, "Conv"), "pads", [5, 0, 0, 0]), "large pads"),
    (lambda m: attribute(node(m, "Conv"), "group", 5), "has another group"),
    (lambda m: attribute(node(m, "Conv"), "group", 2), "has another constant"),
    (lambda m: attribute(node(m, "Concat"), "axis", 2), "does not join"),
    (lambda m: attribute(node(m, "Pad"), "mode", "edge"), "other pads"),
    (lambda m: constant(m, node(m, "Pad").input[1], np.array([0, 0, 1 << 40, 0, 0, 0, 0, 0])), "other pads"),
    (lambda m: constant(m, node(m, "Pad").input[1], np.array([1, 0, 0, 0, 0, 0, 0, 0])), "other pads"),
    (lambda m: constant(m, node(m, "Clip").input[1], np.zeros(2, np.float16)), "another constant"),
    (lambda m: constant(m, node(m, "Mul").input[1], np.zeros((1, 7, 1, 1), np.float16)), r"of \[.*\] and \[7, 1, 1\]"),
    (lambda m: node(m, "Concat").input.__setitem__(0, IMAGE), "does not join"),
    (lambda m: node(m, "Relu").input.__setitem__(0, node(m, "AscendQuant").output[0]), "reads a quantized tensor"),
    (lambda m: node(m, "Relu").input.__setitem__(0, "conv1.weight"), "reads a constant tensor"),
    (lambda m: attribute(node(m, "AscendDequant"), "dtype", 7), "neither float32 nor float16"),
    (doubled, "makes a tensor of"),
]


@pytest.mark.parametrize(("change", "text"), CASES)
def test_what_does_not_fit(change: Callable[[ModelProto], object], text: str) -> None:
    model = deploy_model(small(), "exact")
    assert shapes(model, Shape(9, 11, 3))["conv1"][:2] == (5, 6)
    change(model)
    with pytest.raises(SqueezeEdgeError, match=text):
        tensor_shapes(model, Shape(9, 11, 3), constants(model))


def test_another_image() -> None:
    with pytest.raises(SqueezeEdgeError, match=r"another constant 'conv1.weight'|kernel larger|pads"):
        shapes(deploy_model(small(), "exact"), Shape(1, 1, 3))
