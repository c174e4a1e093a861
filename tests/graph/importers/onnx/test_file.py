"""ONNX files that are damaged, lie about themselves, or are of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.importers.onnx.file import MAX_NODES
from tests.graph.importers.onnx.files import same_as_runtime
from tests.graph.networks import OnnxWriter
from tests.networks.checkpoints.mutations import mutate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx_file")


def _model(opset: int = 17) -> onnx.ModelProto:
    writer = OnnxWriter([1, 3, 8, 8])
    weight = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    value = writer.node("Conv", "input", writer.weight("conv.weight", weight), name="conv")
    value = writer.node("MaxPool", writer.node("Relu", value), kernel_shape=[2, 2], strides=[2, 2])
    return writer.model(writer.node("Flatten", writer.node("GlobalAveragePool", value)), opset)


@pytest.fixture(scope="module")
def content() -> bytes:
    return _model().SerializeToString()


def _import(folder: Path, content: bytes) -> None:
    path = folder / "changed.onnx"
    path.write_bytes(content)
    from_onnx(path)


def test_truncation_at_any_byte(folder: Path, content: bytes) -> None:
    _import(folder, content)
    for size in range(0, len(content), 5):
        with pytest.raises(SqueezeEdgeError, match=r"changed\.onnx: "):
            _import(folder, content[:size])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_give_a_graph_or_one_error(folder: Path, content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        _import(folder, bytes(changed))
    except SqueezeEdgeError as error:
        assert "changed.onnx: " in str(error)


def test_changed_tensors_give_a_graph_or_one_error(folder: Path, content: bytes) -> None:
    """Their types, shapes, values and places, also in other files; the messages around them stay sound."""
    for seed in range(300):
        try:
            _import(folder, mutate("onnx", content, Random(seed)))
        except SqueezeEdgeError as error:
            assert "changed.onnx: " in str(error) and len(str(error)) < 1500


def test_a_name_that_is_not_text(folder: Path, content: bytes) -> None:
    with pytest.raises(CorruptFileError, match=r"changed\.onnx: damaged: the name .* is not UTF-8"):
        _import(folder, content.replace(b"maxpool_2", b"maxpool\xff2"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "truncated, empty or not an ONNX file"),
        (b"PK\x03\x04" * 100, "truncated, damaged or not an ONNX file"),
        (b"ir_version: 8\n", "truncated, damaged or not an ONNX file"),
    ],
)
def test_another_kind_of_file(folder: Path, content: bytes, match: str) -> None:
    with pytest.raises(CorruptFileError, match=rf"changed\.onnx: {match}"):
        _import(folder, content)


def test_no_file(folder: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"missing\.onnx: cannot be read"):
        from_onnx(folder / "missing.onnx")


def _no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _set_opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def _newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = onnx.IR_VERSION + 1


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 3, 8, 8]))


def _second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("relu_1", TensorProto.FLOAT, [1, 4, 6, 6]))


def _no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def _other_domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def _sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("conv.weight", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("places", TensorProto.INT64, [1], [0])
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3, 3, 3]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_no_opset, "opset 0"),
        (_set_opset(6), r"opset 6 .* supported here are opsets 7 to"),
        (_set_opset(9999), "opset 9999"),
        (_newer_ir, "IR version"),
        (_second_input, "the network has 2 inputs; export it with one image as input"),
        (_second_output, "the network has 2 outputs; export it with the logits alone"),
        (_no_output, "the network has 0 outputs"),
        (_other_domain, r"/relu_1 \(com\.example\.Relu\): an operator of .com\.example. is not known"),
        (_sparse, "sparse weights are not supported; export dense ones"),
    ],
)
def test_what_is_not_supported(folder: Path, change: Callable[[onnx.ModelProto], None], match: str) -> None:
    model = _model()
    change(model)
    with pytest.raises(UnsupportedError, match=rf"changed\.onnx: .*{match}"):
        _import(folder, model.SerializeToString())


def _function(name: str, *calls: str) -> onnx.FunctionProto:
    """A local function of one input that calls others in a row, or is a ReLU."""
    nodes = [
        helper.make_node(call, ["x" if place == 0 else f"t{place - 1}"], [f"t{place}"], domain="local")
        for place, call in enumerate(calls)
    ] or [helper.make_node("Relu", ["x"], ["t0"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["x"], [f"t{len(nodes) - 1}"], nodes, opsets)


def _with_functions(*functions: onnx.FunctionProto) -> bytes:
    """The model with its ReLU replaced by a call of the first."""
    model = _model()
    model.graph.node[1].op_type, model.graph.node[1].domain = functions[0].name, "local"
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model.SerializeToString()


def test_local_functions_stand_where_they_were_called(folder: Path, content: bytes) -> None:
    path = folder / "functions.onnx"
    path.write_bytes(_with_functions(_function("Twice", "Once", "Once"), _function("Once")))
    assert [type(node).__name__ for node in from_onnx(path).graph.nodes] == [
        *("FloatConv", "FloatRelu", "FloatRelu", "FloatMaxPool", "FloatGlobalAveragePool")
    ]


@pytest.mark.parametrize("slope", [None, -0.5])
def test_a_local_function_with_a_default(folder: Path, slope: float | None) -> None:
    """Where it is called without that attribute, its default holds, and not that of the operator inside."""
    leaky = helper.make_node("LeakyRelu", ["x"], ["t0"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    default = helper.make_attribute("slope", 0.25)
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Leaky", ["x"], ["t0"], [leaky], opsets, attribute_protos=[default])
    model = onnx.load_from_string(_with_functions(function))
    if slope is not None:
        model.graph.node[1].attribute.append(helper.make_attribute("slope", slope))
    path = folder / "functions.onnx"
    onnx.save(model, path)
    same_as_runtime(path, from_onnx(path))


def test_overloads_of_a_local_function(folder: Path) -> None:
    """Each counts for itself: the second one doubles."""
    doubling = [_function(f"F{place}", f"F{place + 1}", f"F{place + 1}") for place in range(40)]
    model = onnx.load_from_string(_with_functions(*doubling, _function("F40"), _function("F0")))
    model.functions[-1].overload = "small"
    model.ir_version = 10
    with pytest.raises(UnsupportedError, match=rf"more than {MAX_NODES} nodes"):
        _import(folder, model.SerializeToString())
    model.graph.node[1].overload = "small"
    _import(folder, model.SerializeToString())


def test_two_opsets(folder: Path) -> None:
    model = _model()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    with pytest.raises(UnsupportedError, match=r"it names several opsets \(11, 17\); export it with one"):
        _import(folder, model.SerializeToString())


def test_a_local_function_with_the_name_of_an_operator(folder: Path) -> None:
    model = onnx.load_from_string(_with_functions(_function("Once")))
    model.functions[0].domain, model.functions[0].name = "", "Relu"
    path = folder / "functions.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="a local function has the name of the operator Relu"):
        from_onnx(path)


def test_local_functions_that_call_themselves(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"changed\.onnx: the local function First calls itself"):
        _import(folder, _with_functions(_function("First", "Second"), _function("Second", "First")))


def test_local_functions_that_double(folder: Path) -> None:
    """Forty lines that would be a million million nodes."""
    doubling = [_function(f"F{place}", f"F{place + 1}", f"F{place + 1}") for place in range(40)]
    with pytest.raises(UnsupportedError, match=rf"more than {MAX_NODES} nodes; supported are small networks"):
        _import(folder, _with_functions(*doubling, _function("F40")))


def test_a_long_chain_of_local_functions(folder: Path) -> None:
    chain = [_function(f"F{place}", f"F{place + 1}") for place in range(2000)]
    with pytest.raises(UnsupportedError, match="call each other more than 100 deep"):
        _import(folder, _with_functions(*chain, _function("F2000")))


def test_more_nodes_than_a_network_has(folder: Path) -> None:
    model = _model()
    model.graph.node.extend([model.graph.node[1]] * MAX_NODES)
    with pytest.raises(
        UnsupportedError, match=rf"changed\.onnx: the network has \d+ nodes; supported are at most {MAX_NODES}"
    ):
        _import(folder, model.SerializeToString())


def test_a_circle_of_nodes(folder: Path) -> None:
    model = _model()
    model.graph.node[0].input[0] = model.graph.node[2].output[0]
    with pytest.raises(CorruptFileError, match=r"changed\.onnx: not valid ONNX, .* (sorted|topological)"):
        _import(folder, model.SerializeToString())


def _short_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def _huge_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def _empty_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 0
    model.graph.initializer[0].raw_data = b""


def _wrong_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[0].CopyFrom(helper.make_attribute("kernel_shape", "2x2"))


def _three_strides(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute[1].CopyFrom(helper.make_attribute("strides", [1, 1, 1]))


def _unsorted(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@pytest.mark.parametrize(
    "change", [_short_data, _huge_shape, _empty_shape, _wrong_attribute, _three_strides, _unsorted]
)
def test_what_is_not_valid(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = _model()
    change(model)
    with pytest.raises(SqueezeEdgeError, match=r"changed\.onnx: "):
        _import(folder, model.SerializeToString())


def _external(folder: Path, location: str, length: int = 432, offset: int = 0, dims: tuple[int, ...] = ()) -> bytes:
    """The model with its weight declared to lie in another file."""
    model = _model()
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(bytes(8) + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    if dims:
        tensor.dims[:] = dims
    return model.SerializeToString()


def test_external_data(folder: Path, content: bytes) -> None:
    path = folder / "external.onnx"
    path.write_bytes(_external(folder, "weights.bin", offset=8))
    inside = folder / "inside.onnx"
    inside.write_bytes(content)
    first, second = from_onnx(path).graph.nodes[0], from_onnx(inside).graph.nodes[0]
    np.testing.assert_array_equal(vars(first)["weight"], vars(second)["weight"])


@pytest.mark.parametrize(
    ("location", "arguments"),
    [
        ("missing.bin", {}),
        ("../onnx_outside.bin", {}),
        ("/etc/hostname", {}),
        ("", {}),
        ("x" * 5000, {}),
        ("a\0b", {}),
        ("link.bin", {}),
        ("circle.bin", {}),
        ("weights.bin", {"offset": 16}),
        ("weights.bin", {"offset": 10**12}),
        ("weights.bin", {"offset": -8}),
        ("weights.bin", {"length": 400}),
        ("weights.bin", {"length": 2**42, "dims": (2**20, 2**20)}),
        ("weights.bin", {"dims": (-4, 3, 3, 3)}),
    ],
)
def test_external_data_that_is_not_there(folder: Path, location: str, arguments: dict[str, Any]) -> None:
    outside = folder.parent / "onnx_outside.bin"
    outside.write_bytes(bytes(432))
    for name, target in (("link.bin", outside), ("circle.bin", folder / "circle.bin")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    with pytest.raises(CorruptFileError, match=r"changed\.onnx: values of 'conv\.weight': "):
        _import(folder, _external(folder, location, **arguments))


def test_values_that_are_given_twice(folder: Path) -> None:
    model = _model()
    model.graph.initializer[0].float_data.extend([1.0] * 108)
    with pytest.raises(CorruptFileError, match=r"values of 'conv\.weight': its values are given as float_data and raw"):
        _import(folder, model.SerializeToString())


def test_external_data_of_integers(folder: Path) -> None:
    """Their size is that of their type."""
    model = _model()
    shape = model.graph.initializer.add(name="shape", data_type=TensorProto.INT32, dims=[2])
    (folder / "shape.bin").write_bytes(bytes(8))
    shape.data_location = TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="shape.bin")
    shape.external_data.add(key="length", value="8")
    _import(folder, model.SerializeToString())
    shape.data_type = 99
    with pytest.raises(CorruptFileError, match="values of 'shape'"):
        _import(folder, model.SerializeToString())
