"""What does not depend on the image is computed, within bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.graph.importers.onnx.constants import FOLDED, MAX_VALUES, Budget, array_of, constant, fold, label
from tests.graph.importers.onnx.files import end, imported, random, refused, start


def test_weights_that_are_computed(tmp_path: Path) -> None:
    writer, value = start()
    weight = writer.node("Identity", writer.weight("w", random(4, 5, 1, 1)))
    value = writer.node("Conv", value, weight, writer.node("Constant", value_floats=[1.0, 2.0, 3.0, 4.0]))
    half = writer.weight("half", random(2, 4, 1, 1).astype(np.float16))
    bias = writer.node("Mean", writer.weight("b", random(2)), writer.weight("c", random(2, seed=1)))
    value = writer.node("Conv", value, writer.node("Cast", half, to=TensorProto.FLOAT), bias)
    turned = writer.node("Transpose", writer.weight("turned", random(1, 1, 2, 3)), perm=[3, 2, 0, 1])
    value = writer.node("Conv", value, writer.node("Mul", turned, writer.weight("two", np.array([2], np.float32))))
    graph = imported(tmp_path, writer, end(writer, value))
    convs = [node for node in graph.nodes if isinstance(node, FloatConv)]
    np.testing.assert_array_equal(convs[1].bias, np.array([1, 2, 3, 4], np.float32))
    np.testing.assert_array_equal(convs[3].weight, 2 * random(1, 1, 2, 3).transpose(3, 2, 0, 1))


def test_quantized_weights(tmp_path: Path) -> None:
    writer, value = start()
    codes = writer.weight("codes", np.arange(-10, 10).astype(np.int8).reshape(4, 5, 1, 1))
    scale, zero = writer.weight("scale", np.abs(random(4))), writer.weight("zero", np.zeros(4, np.int8))
    value = writer.node("Conv", value, writer.node("DequantizeLinear", codes, scale, zero, axis=0))
    imported(tmp_path, writer, end(writer, value))


def test_pads_as_efficientnet_lite_computes_them(tmp_path: Path) -> None:
    writer, value = start()
    four = writer.node("Constant", value=onnx.numpy_helper.from_array(np.array([4], np.int64)))
    zeros = writer.node("ConstantOfShape", four, value=helper.make_tensor("v", TensorProto.INT64, [1], [0]))
    given = writer.node("Concat", writer.weight("four", np.array([0, 1, 0, 1], np.int64)), zeros, axis=0)
    rows = writer.node("Reshape", given, writer.weight("shape", np.array([-1, 2], np.int64)))
    backwards = [writer.weight(name, np.array([number], np.int64)) for name, number in (("s", -1), ("e", -(2**63) + 1))]
    axes, steps = writer.weight("axes", np.array([0], np.int64)), writer.weight("steps", np.array([-1], np.int64))
    columns = writer.node("Transpose", writer.node("Slice", rows, *backwards, axes, steps), perm=[1, 0])
    pads = writer.node("Reshape", columns, writer.weight("flat", np.array([-1], np.int64)))
    padded = writer.node("Pad", value, writer.node("Cast", pads, to=TensorProto.INT64))
    graph = imported(tmp_path, writer, end(writer, writer.node("Conv", padded, writer.weight("w", random(2, 5, 3, 3)))))
    assert isinstance(graph.nodes[1], FloatConv) and graph.nodes[1].padding == (0, 0, 1, 1)


def _shape_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("ConstantOfShape", [_shape_of(2**31, 2**31)]),
        ("Expand", [np.ones(1, np.float32), _shape_of(2**20, 2**20)]),
        ("Tile", [np.ones((2, 2), np.float32), _shape_of(2**20, 2**20)]),
        ("Range", [np.array(0), np.array(2**60), np.array(1)]),
        ("Pad", [np.ones((2, 2), np.float32), _shape_of(0, 2**30, 0, 2**30)]),
        ("Pad", [np.ones((2, 2), np.float32), _shape_of(2**30, 0), None, _shape_of(1)]),
        ("Gather", [np.ones((1, 2**14), np.float32), np.zeros(2**14, np.int64)]),
        ("Mul", [np.ones((2**14, 1), np.float32), np.ones((1, 2**14), np.float32)]),
        ("MatMul", [np.ones((2**14, 1), np.float32), np.ones((1, 2**14), np.float32)]),
    ],
)
def test_constants_that_are_too_large(operator: str, inputs: list[np.ndarray | None]) -> None:
    """Refused before memory is taken."""
    node = helper.make_node(
        operator, ["" if array is None else f"x{place}" for place, array in enumerate(inputs)], ["y"]
    )
    with pytest.raises(UnsupportedError, match=rf"y: {operator} makes constants of more than {MAX_VALUES} numbers"):
        fold(node, inputs, 17, Budget())


@pytest.mark.slow
def test_many_constants_share_one_budget(tmp_path: Path) -> None:
    writer, value = start()
    bias = writer.weight("w", np.zeros(2**16, np.float32))
    for _ in range(1100):
        bias = writer.node("Relu", bias)
    made = writer.node("Add", value, writer.node("ReduceMax", bias, keepdims=0))
    refused(tmp_path, writer, end(writer, made), "Relu makes constants of more than")


def test_nodes_that_cannot_be_computed() -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    with pytest.raises(UnsupportedError, match=r"y: Reshape of constants cannot be computed \(ValueError"):
        fold(node, [np.ones(3, np.float32), _shape_of(2, 2)], 17, Budget())
    with pytest.raises(UnsupportedError, match=r"y: Tile of constants cannot be computed"):
        fold(helper.make_node("Tile", ["x", "n"], ["y"]), [np.ones(3, np.float32), np.ones(99, np.int64)], 17, Budget())


def test_every_operator_has_a_bound_on_what_it_makes() -> None:
    assert all(callable(bound) for bound in FOLDED.values())
    assert "RandomNormal" not in FOLDED and "Loop" not in FOLDED


def test_constants_of_every_kind() -> None:
    assert constant(helper.make_node("Constant", [], ["c"], value_int=3)) == np.int64(3)
    assert constant(helper.make_node("Constant", [], ["c"], value_floats=[0.5])).dtype == np.float32
    with pytest.raises(UnsupportedError, match="c: a constant given as value_string is not supported"):
        constant(helper.make_node("Constant", [], ["c"], value_string="text"))


def test_damaged_values_and_labels() -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])
    tensor.dims[0] = 3
    with pytest.raises(CorruptFileError, match="a weight: 't' is damaged"):
        array_of(tensor, "a weight")
    assert label(helper.make_node("Relu", ["x"], ["y"])) == "y" and label(onnx.NodeProto(op_type="Relu")) == "Relu"


def test_shapes_of_tensors_are_constants(tmp_path: Path) -> None:
    """``x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])``."""
    writer, value = start(size=(5, 6), batch="N")
    shape = writer.node("Shape", value)
    first = writer.node("Slice", shape, *(writer.weight(f"n{n}", np.array([n], np.int64)) for n in (0, 1)))
    rest = writer.node(
        "ReduceProd", writer.node("Slice", shape, "n1", writer.weight("n4", np.array([4], np.int64))), axes=[0]
    )
    flat = writer.node("Reshape", value, writer.node("Concat", first, rest, axis=0))
    imported(tmp_path, writer, writer.node("Gemm", flat, writer.weight("fc", random(60, 4))))
