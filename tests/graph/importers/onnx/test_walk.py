"""Which nodes count, what is dropped behind the class scores, and which node blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.graph.importers.onnx.files import SIZE, end, imported, kinds, random, refused, same_as_runtime, start
from tests.graph.networks import OnnxWriter


def _tail(writer: OnnxWriter, value: str, *operators: str, **attributes: Any) -> str:  # noqa: ANN401
    for operator in operators:
        value = writer.node(operator, value, **(attributes if operator == operators[0] else {}))
    return value


@pytest.mark.parametrize(("opset", "rank", "axis"), [(11, 4, None), (11, 2, 1), (17, 2, -1), (17, 4, 1)])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_at_the_end(tmp_path: Path, opset: int, rank: int, axis: int | None, operator: str) -> None:
    writer, value = start()
    pooled = writer.node("GlobalAveragePool", value) if rank == 4 else end(writer, value)
    path = tmp_path / "network.onnx"
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    onnx.save(writer.model(_tail(writer, pooled, operator, "Identity", **attributes), opset, rank), path)
    found, image = from_onnx(path), random(1, 3, *SIZE)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"input": image})[0].reshape(-1)
    answer = np.exp(run_float(found.graph, image)[0].astype(np.float64))
    answer = answer / answer.sum()
    np.testing.assert_allclose(np.log(answer) if operator == "LogSoftmax" else answer, expected, rtol=1e-4, atol=1e-6)
    names = f"{writer.nodes[-2].name} ({operator}), {writer.nodes[-1].name} (Identity)"
    assert found.notes == (f"dropped behind the class scores: {names}; no class changes its rank",)


@pytest.mark.parametrize(
    ("operator", "attributes"), [("ArgMax", {"axis": 1}), ("Sigmoid", {}), ("Exp", {}), ("Tanh", {})]
)
def test_other_ends(tmp_path: Path, operator: str, attributes: dict[str, Any]) -> None:
    writer, value = start()
    path = tmp_path / "network.onnx"
    onnx.save(writer.model(_tail(writer, end(writer, value), operator, **attributes)), path)
    found = from_onnx(path)
    assert kinds(found.graph) == ["Conv", "GlobalAveragePool"] and f"({operator})" in found.notes[0]


@pytest.mark.parametrize("opset", [7, 13, 17, 21, 26])
def test_every_opset(tmp_path: Path, opset: int) -> None:
    """The newest is that of the installed ONNX; ONNX Runtime may know fewer."""
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"the installed ONNX ends before opset {opset}")
    writer, value = start()
    path = tmp_path / "network.onnx"
    vectors = [writer.weight(f"bn.{place}", random(5) ** 2 + 1) for place in range(4)]
    value = writer.node("Relu", writer.node("BatchNormalization", value, *vectors))
    onnx.save(writer.model(end(writer, writer.node("MaxPool", value, kernel_shape=[2, 2])), opset), path)
    found = from_onnx(path)
    if opset < 22:
        same_as_runtime(path, found)


def test_old_files_list_weights_as_inputs_and_open_batches_by_name(tmp_path: Path) -> None:
    writer, value = start(batch="batch_size")
    model = writer.model(end(writer, value), opset=7)
    model.ir_version = 3
    for name, array in writer.weights.items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    onnx.save(model, tmp_path / "old.onnx")
    assert from_onnx(tmp_path / "old.onnx").graph.shapes["first"] == (7, 10, 5)


def test_an_output_without_a_shape(tmp_path: Path) -> None:
    writer, value = start()
    model = writer.model(end(writer, value))
    model.graph.output[0].ClearField("type")
    (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
    assert from_onnx(tmp_path / "network.onnx").graph.shapes["first"] == (7, 10, 5)


def test_what_the_output_does_not_need_is_not_looked_at(tmp_path: Path) -> None:
    writer, value = start()
    writer.node("Sigmoid", value)
    assert len(imported(tmp_path, writer, end(writer, value)).nodes) == 2


def test_names_are_unique_and_printable(tmp_path: Path) -> None:
    writer, value = start()
    for name in ("image", "same", "same", "sa\nme", "same_1"):
        value = writer.node("Relu", value, name=name)
    onnx.save(writer.model(end(writer, value)), tmp_path / "network.onnx")  # ONNX Runtime refuses equal names
    graph = from_onnx(tmp_path / "network.onnx").graph
    assert [node.name for node in graph.nodes[1:-1]] == ["image_1", "same", "same_1", "sa_me", "same_1_1"]


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_with_a_constant_condition(tmp_path: Path, taken: bool) -> None:
    """As PyTorch writes ``squeeze`` of a dimension that it does not know."""
    writer, value = start()
    pooled = writer.node("GlobalAveragePool", value)
    branches: dict[str, Any] = {}
    for name, axes in (("then_branch", [2, 3]), ("else_branch", [3])):
        node = helper.make_node("Squeeze", [pooled, f"{name}_axes"], [f"{name}_out"])
        tensor = onnx.numpy_helper.from_array(np.array(axes, np.int64), f"{name}_axes")
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [output], [tensor])
    made = writer.node("If", writer.weight("condition", np.array(taken)), **branches)
    graph = imported(tmp_path, writer, writer.node("Flatten", made))
    assert kinds(graph) == ["Conv", "GlobalAveragePool"]


def test_branches_with_names_in_common(tmp_path: Path) -> None:
    """What the first makes, a constant, is not what the second makes."""
    writer, value = start()
    condition = writer.weight("condition", np.array(True))
    made = []
    two = onnx.numpy_helper.from_array(np.array(2, np.float32))
    for node in (helper.make_node("Constant", [], ["out"], value=two), helper.make_node("Neg", [value], ["out"])):
        graph = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
        made.append(writer.node("If", condition, then_branch=graph, else_branch=graph))
    imported(tmp_path, writer, end(writer, writer.node("Mul", *made)))


def _second_output(writer: OnnxWriter, value: str) -> str:
    writer.nodes.append(helper.make_node("MaxPool", [value], ["kept", "indices"], kernel_shape=[1, 1]))
    return writer.node("Concat", "kept", writer.node("Cast", "indices", to=TensorProto.FLOAT), axis=1)


def _gate(writer: OnnxWriter, value: str) -> str:
    """HardSwish in parts: the product is what blocks."""
    moved = writer.node("Add", value, writer.weight("three", np.array(3, np.float32)))
    zero, six = (writer.weight(f"n{number}", np.array(number, np.float32)) for number in (0, 6))
    return writer.node("Mul", value, writer.node("Div", writer.node("Clip", moved, zero, six), six))


@pytest.mark.parametrize(
    ("build_part", "match"),
    [
        (
            lambda w, v: w.node("Sigmoid", v),
            r"/sigmoid_1 \(Sigmoid\): is not supported, and reads 'conv_0' \[1, 5, 7, 10\]: products .* ReLU6",
        ),
        (
            lambda w, v: w.node("HardSwish", w.node("Sigmoid", w.node("Sigmoid", v))),
            r"/sigmoid_1 .* \(behind it are also 1 Sigmoid, 1 HardSwish\)",
        ),
        (
            lambda w, v: w.node(
                "InstanceNormalization", v, *(w.weight(f"in{n}", np.ones(5, np.float32)) for n in (0, 1))
            ),
            r"/instancenormalization_1 \(InstanceNormalization\): .*the constant 'in0' \[5\].* batch normalization",
        ),
        (lambda w, v: w.node("Softmax", v), r"/softmax_1 \(Softmax\): .* behind the class scores only"),
        (lambda w, v: w.node("Sin", v), r"/sin_1 \(Sin\): .* supported: convolution, batch normalization"),
        (_second_output, r"/cast_2 \(Cast\): reads 'indices', a second output"),
        (_gate, r"/mul_4 \(Mul\): multiplies 'conv_0' \[1, 5, 7, 10\] and 'div_3'"),
    ],
)
def test_the_first_node_that_blocks(tmp_path: Path, build_part: Callable[[OnnxWriter, str], str], match: str) -> None:
    writer, value = start()
    refused(tmp_path, writer, end(writer, build_part(writer, value)), match)


def test_softmax_over_something_else_than_the_classes(tmp_path: Path) -> None:
    writer, value = start()
    made = writer.node("Softmax", writer.node("GlobalAveragePool", value), axis=3)
    refused(tmp_path, writer, made, r"/softmax_2 \(Softmax\): over axis 3 of .* which are not the classes", rank=4)


def test_an_output_that_is_constant(tmp_path: Path) -> None:
    writer, _ = start()
    made = writer.node("Identity", writer.weight("c", random(1, 5)))
    refused(tmp_path, writer, made, "the output 'identity_1' is not computed from the image")


def test_the_result_must_be_a_vector(tmp_path: Path) -> None:
    writer, value = start()
    refused(tmp_path, writer, value, "first: the result must be one value a class, not 5x7x10", rank=4)


def test_another_domain(tmp_path: Path) -> None:
    writer, value = start()
    path = tmp_path / "network.onnx"
    model = writer.model(end(writer, writer.node("FusedConv", value, domain="com.example")))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(UnsupportedError, match=r"/fusedconv_1 \(com\.example\.FusedConv\): .* standard operators"):
        from_onnx(path)


def _then(writer: OnnxWriter, value: str, *nodes: tuple[str, dict[str, Any]]) -> str:
    """Operators behind each other; TopK takes one, and what reads it its places."""
    for operator, attributes in nodes:
        operands = []
        if operator in ("TopK", "Reshape"):
            numbers = np.array(attributes.pop("with"), np.int64)
            operands = [writer.weight(f"n{len(writer.weights)}", numbers)]
        value = writer.node(operator, value, *operands, **attributes)
        if operator == "TopK":
            writer.nodes[-1].output.append("places")
    return value


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([("TopK", {"with": [3], "largest": 0})], r"/topk_3 \(TopK\): is not supported"),
        (
            [("Softmax", {}), ("Reshape", {"with": [5, 1]}), ("Softmax", {"axis": 1})],
            r"/softmax_5 \(Softmax\): over axis 1 of 'reshape_4' \[5, 1\], which are not the classes",
        ),
        ([("Softmax", {}), ("ArgMax", {})], r"/argmax_4 \(ArgMax\): over axis 0 of 'softmax_3' \[1, 5\]"),
        ([("Softmax", {}), ("ArgMax", {"axis": 2})], r"/argmax_4 \(ArgMax\): over axis 2 of \[1, 5\]"),
        ([("ArgMax", {"axis": 1}), ("Softmax", {})], r"/softmax_4 \(Softmax\): reads what /argmax_3 picks"),
        ([("Log", {})], r"/log_3 \(Log\): reads 'flatten_2' \[1, 5\], which may be negative"),
        ([("Softmax", {}), ("Cast", {"to": TensorProto.INT32})], r"/cast_4 \(Cast\): a cast to INT32"),
        ([("Softmax", {}), ("HardSigmoid", {})], r"/softmax_3 \(Softmax\): .* behind the class scores only"),
        ([("Sigmoid", {}), ("Round", {})], r"/sigmoid_3 \(Sigmoid\): is not supported"),
    ],
)
def test_what_may_change_the_class_is_not_dropped(
    tmp_path: Path, nodes: list[tuple[str, dict[str, Any]]], match: str
) -> None:
    """Each operator behind the scores is looked at, not only the first."""
    writer, value = start()
    made = _then(writer, end(writer, value), *((name, dict(given)) for name, given in nodes))
    refused(tmp_path, writer, made, match, rank=len(nodes))


@pytest.mark.parametrize(
    "nodes",
    [
        [("Softmax", {}), ("Log", {})],
        [("Softmax", {}), ("Reshape", {"with": [5]}), ("ArgMax", {}), ("Cast", {"to": TensorProto.INT32})],
        [("Sigmoid", {}), ("TopK", {"with": [2]}), ("Identity", {})],
    ],
)
def test_several_that_are_dropped(tmp_path: Path, nodes: list[tuple[str, dict[str, Any]]]) -> None:
    writer, value = start()
    made = _then(writer, end(writer, value), *((name, dict(given)) for name, given in nodes))
    onnx.save(writer.model(made), tmp_path / "network.onnx")
    found = from_onnx(tmp_path / "network.onnx")
    assert kinds(found.graph) == ["Conv", "GlobalAveragePool"] and found.notes[0].count("(") == len(nodes)


def test_a_shape_of_what_is_dropped(tmp_path: Path) -> None:
    """``softmax(x).view(x.size(0), -1)``."""
    writer, value = start()
    scores = writer.node("Softmax", end(writer, value))
    first = writer.node("Slice", writer.node("Shape", scores), *(writer.weight(f"n{n}", np.array([n])) for n in (0, 1)))
    shape = writer.node("Concat", first, writer.weight("rest", np.array([-1])), axis=0)
    onnx.save(writer.model(writer.node("Reshape", scores, shape)), tmp_path / "network.onnx")
    found = from_onnx(tmp_path / "network.onnx")
    names = "/softmax_3 (Softmax), /reshape_7 (Reshape)"
    assert found.notes == (f"dropped behind the class scores: {names}; no class changes its rank",)
