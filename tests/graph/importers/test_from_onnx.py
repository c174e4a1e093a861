"""ONNX import: equal to ONNX Runtime and to the torch importer; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatAveragePool, FloatConv, FloatGraph, FloatLinear, FloatRelu
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.networks.registry import NETWORKS, build
from squeezeedge.networks.squeezenet import SqueezeNet
from tests.graph.networks import OnnxWriter, ResNet18, resnet18_onnx, squeezenet_onnx

SIZE = (9, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def _random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def _save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


def _imported(folder: Path, writer: OnnxWriter, output: str, opset: int = 17, rank: int = 2) -> FloatGraph:
    """Import, and compare the logits with ONNX Runtime's."""
    path = _save(folder, writer.model(output, opset, rank))
    graph = from_onnx(path)
    images = _random(2, 3, *graph.input_size, seed=1)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"input": image[None]})[0].reshape(-1) for image in images]
    np.testing.assert_allclose(run_float(graph, images), np.stack(expected), rtol=1e-4, atol=1e-4)
    return graph


def _refused(folder: Path, writer: OnnxWriter, output: str, match: str, opset: int = 17, rank: int = 2) -> None:
    path = _save(folder, writer.model(output, opset, rank))
    with pytest.raises(UnsupportedError, match=rf"network\.onnx: .*{match}"):
        from_onnx(path)


def _start(channels: int = 5, size: tuple[int, int] = SIZE, batch: int | str = 1) -> tuple[OnnxWriter, str]:
    """A model with one convolution so far."""
    writer = OnnxWriter([batch, 3, *size])
    weight, bias = (
        writer.weight("first.weight", _random(channels, 3, 3, 3)),
        writer.weight("first.bias", _random(channels)),
    )
    return writer, writer.node("Conv", "input", weight, bias)


def _end(writer: OnnxWriter, value: str) -> str:
    return writer.node("Flatten", writer.node("GlobalAveragePool", value))


def _structure(graph: FloatGraph) -> list[tuple[object, ...]]:
    """Everything of a graph but arrays and the names that each format chooses by itself."""
    places = {"image": -1} | {node.name: place for place, node in enumerate(graph.nodes)}
    return [
        (
            type(node),
            [places[name] for name in node.inputs],
            [(key, value) for key, value in vars(node).items() if isinstance(value, tuple | bool) and key != "inputs"],
            graph.shapes[node.name],
        )
        for node in graph.nodes
    ]


def _arrays(graph: FloatGraph) -> list[NDArray[np.float32]]:
    return [value for node in graph.nodes for value in vars(node).values() if isinstance(value, np.ndarray)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in reversed(list(NETWORKS)) if not NETWORKS[name].embedded])
def test_squeezenet_is_the_same_from_torch_and_onnx(folder: Path, name: str) -> None:
    network = build(name, 6)
    assert isinstance(network, SqueezeNet)
    writer = squeezenet_onnx(network, (63, 70))
    graph = _imported(folder, writer, writer.nodes[-1].output[0])
    other = from_torch(network, (63, 70), name)
    assert _structure(graph) == _structure(other)
    for ours, theirs in zip(_arrays(graph), _arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    layers = [node.name for node in graph.nodes if isinstance(node, FloatConv)]
    assert layers == [node.name for node in other.nodes if isinstance(node, FloatConv)]
    assert layers[:2] == ["features.0", "features.3.squeeze"]


@pytest.mark.slow
def test_resnet18(folder: Path) -> None:
    torch.manual_seed(0)
    network = ResNet18().eval()
    writer = resnet18_onnx(network, (50, 41))
    graph = _imported(folder, writer, writer.nodes[-1].output[0])
    other = from_torch(network, (50, 41), "resnet18")
    assert _structure(graph) == _structure(other)
    for ours, theirs in zip(_arrays(graph), _arrays(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert isinstance(graph.nodes[-1], FloatLinear) and graph.nodes[-1].name == "fc"


@st.composite
def _windows(draw: st.DrawFn) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    strides = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    pads = [draw(st.integers(0, kernel[axis] - 1)) for axis in (0, 1, 0, 1)]
    return {"kernel_shape": kernel, "strides": strides, "pads": pads}


@pytest.mark.slow
@given(_windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
@settings(max_examples=40, deadline=None)
def test_windows_of_convolutions(folder: Path, window: dict[str, Any], auto_pad: str) -> None:
    writer, value = _start()
    weight = writer.weight("w", _random(4, 5, *window["kernel_shape"]))
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
    _imported(folder, writer, _end(writer, writer.node("Conv", value, weight, auto_pad=auto_pad, **window)))


@given(_windows(), st.sampled_from([1, 2, 3, 6]), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_groups_of_convolutions(folder: Path, window: dict[str, Any], groups: int, factor: int) -> None:
    writer, value = _start(channels=6)
    weight = writer.weight("w", _random(groups * factor, 6 // groups, *window["kernel_shape"]))
    grouped = writer.node("Conv", value, weight, group=groups, **window)
    conv = _imported(folder, writer, _end(writer, grouped)).nodes[1]
    assert isinstance(conv, FloatConv) and conv.groups == groups


@given(_windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_of_max_pooling(folder: Path, window: dict[str, Any], auto_pad: str, ceil_mode: bool) -> None:
    writer, value = _start()
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
        ceil_mode = False
    (down, right), (height, width) = window["strides"], window["kernel_shape"]
    if auto_pad.startswith("SAME"):  # ONNX Runtime refuses larger strides
        assume(down <= height and right <= width)
    if ceil_mode:  # where a window would start outside, ONNX and torch differ: see below
        top, left, bottom, beside = window["pads"]
        assume(-(-(7 + top + bottom - height) // down) * down < 7 + top)
        assume(-(-(10 + left + beside - width) // right) * right < 10 + left)
    pooled = writer.node("MaxPool", value, auto_pad=auto_pad, ceil_mode=int(ceil_mode), **window)
    _imported(folder, writer, _end(writer, pooled))


@pytest.mark.slow
@given(_windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_of_average_pooling(folder: Path, window: dict[str, Any], auto_pad: str, counted: bool) -> None:
    """Equal to ONNX Runtime; refused where windows that count no padding have different numbers of pixels."""
    writer, value = _start()
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
    if auto_pad.startswith("SAME"):  # ONNX Runtime refuses larger strides
        assume(all(step <= side for step, side in zip(window["strides"], window["kernel_shape"], strict=True)))
    pooled = writer.node("AveragePool", value, auto_pad=auto_pad, count_include_pad=int(counted), **window)
    try:
        graph = _imported(folder, writer, _end(writer, pooled))
    except UnsupportedError as error:
        assert not counted and "/averagepool_1: average pooling that does not count padded pixels" in str(error)
    else:
        assert isinstance(graph.nodes[1], FloatAveragePool) and graph.nodes[1].name == "/averagepool_1"


def test_average_pooling_with_dilation(folder: Path) -> None:
    writer, value = _start()
    message = r"/averagepool_1: AveragePool with dilation \[1, 2\]"
    _refused(folder, writer, _end(writer, _dilated_average(writer, value)), message, opset=19)


@pytest.mark.slow
@pytest.mark.shared
def test_efficientnet_lite0(shared_file: Callable[[str], Path]) -> None:
    path = shared_file("weights/efficientnet_lite0.onnx")
    image = _random(1, 3, 224, 224)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    graph = from_onnx(path)
    np.testing.assert_allclose(run_float(graph, image), session.run(None, {"image": image})[0], rtol=0, atol=1e-4)
    assert sum(isinstance(node, FloatRelu) and node.limit == 6 for node in graph.nodes) == 33


@pytest.mark.shared
def test_a_file_with_average_pooling(shared_file: Callable[[str], Path]) -> None:
    path = shared_file("cases/onnx/body_avgpool2.onnx")
    images = _random(2, 3, 16, 16)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"input": image[None]})[0].reshape(-1) for image in images]
    np.testing.assert_allclose(run_float(from_onnx(path), images), np.stack(expected), rtol=0, atol=1e-5)


def test_a_window_that_starts_outside_is_not_taken_for_one_inside(folder: Path) -> None:
    writer, value = _start()
    pooled = writer.node("MaxPool", value, kernel_shape=[1, 1], strides=[1, 2], ceil_mode=1)
    message = r"/maxpool_1: MaxPool makes \[1, 5, 7, 6\] .* supported here is \[1, 5, 7, 5\]"
    _refused(folder, writer, _end(writer, pooled), message)


def _average(writer: OnnxWriter, value: str) -> str:
    return writer.node("Flatten", writer.node("AveragePool", value, kernel_shape=[7, 10]))


def _mean(writer: OnnxWriter, value: str) -> str:
    return writer.node("ReduceMean", value, axes=[-1, 2], keepdims=0)


def _mean_kept(writer: OnnxWriter, value: str) -> str:
    kept = writer.node("ReduceMean", value, axes=[2, 3])
    return writer.node("Squeeze", kept, writer.weight("axes", np.array([2, 3], np.int64)))


def _squeezes(writer: OnnxWriter, value: str) -> str:
    last = writer.node(
        "Squeeze", writer.node("GlobalAveragePool", value), writer.weight("last", np.array([3], np.int64))
    )
    return writer.node("Squeeze", last, writer.weight("next", np.array([-1], np.int64)))


def _reshape(writer: OnnxWriter, value: str) -> str:
    return writer.node(
        "Reshape", writer.node("GlobalAveragePool", value), writer.weight("shape", np.array([1, -1], np.int64))
    )


def _view(writer: OnnxWriter, value: str) -> str:
    """``x.view(x.size(0), -1)`` as older exporters write it."""
    pooled = writer.node("GlobalAveragePool", value)
    zero = writer.node("Constant", value=onnx.numpy_helper.from_array(np.array(0)))
    batch = writer.node("Gather", writer.node("Shape", pooled), zero, axis=0)
    first = writer.node("Unsqueeze", batch, writer.weight("axes", np.array([0], np.int64)))
    shape = writer.node("Concat", first, writer.node("Constant", value_ints=[-1]), axis=0)
    return writer.node("Reshape", pooled, shape)


@pytest.mark.parametrize("pool", [_end, _average, _mean, _mean_kept, _squeezes, _reshape, _view])
@pytest.mark.parametrize("batch", [1, "N"])
def test_ways_to_a_vector(folder: Path, pool: Callable[[OnnxWriter, str], str], batch: int | str) -> None:
    writer, value = _start(batch=batch)
    graph = _imported(folder, writer, pool(writer, value))
    assert [type(node).__name__ for node in graph.nodes] == ["FloatConv", "FloatGlobalAveragePool"]


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ([6], {"transB": 1}),
        ([1, 6], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ([1], {"transB": 0}),
        ([], {}),
        (None, {"transB": 1, "alpha": 3.0}),
    ],
)
def test_gemm(folder: Path, shape: list[int] | None, attributes: dict[str, Any]) -> None:
    writer, value = _start()
    weight = _random(6, 5) if attributes.get("transB") else _random(5, 6)
    inputs = [writer.weight("fc.weight", weight)]
    if shape is not None:
        inputs.append(writer.weight("fc.bias", np.array(_random(*shape))))
    graph = _imported(folder, writer, writer.node("Gemm", _end(writer, value), *inputs, **attributes))
    assert graph.nodes[-1].name == "fc"


@pytest.mark.parametrize("swapped", [False, True])
def test_matmul_and_add(folder: Path, swapped: bool) -> None:
    writer, value = _start()
    product = writer.node("MatMul", _end(writer, value), writer.weight("w", _random(5, 6)))
    operands = [product, writer.weight("b", _random(6))]
    graph = _imported(folder, writer, writer.node("Add", *(operands[::-1] if swapped else operands)))
    assert isinstance(graph.nodes[-1], FloatLinear)
    np.testing.assert_array_equal(graph.nodes[-1].bias, _random(6))


def test_what_disappears(folder: Path) -> None:
    writer, value = _start()
    value = writer.node("Identity", writer.node("Cast", value, to=TensorProto.FLOAT))
    ratio, training = writer.weight("ratio", np.array(0.5, np.float32)), writer.weight("training", np.array(False))
    graph = _imported(folder, writer, _end(writer, writer.node("Dropout", value, ratio, training)))
    assert [type(node).__name__ for node in graph.nodes] == ["FloatConv", "FloatGlobalAveragePool"]


def test_weights_behind_identity_constant_and_cast(folder: Path) -> None:
    writer, value = _start()
    weight = writer.node("Identity", writer.weight("w", _random(4, 5, 1, 1)))
    bias = writer.node("Constant", value_floats=[1.0, 2.0, 3.0, 4.0])
    value = writer.node("Conv", value, weight, bias)
    half = writer.weight("half", _random(2, 4, 1, 1).astype(np.float16))
    value = writer.node("Conv", value, writer.node("Cast", half, to=TensorProto.FLOAT))
    graph = _imported(folder, writer, _end(writer, value))
    assert isinstance(graph.nodes[1], FloatConv)
    np.testing.assert_array_equal(graph.nodes[1].bias, np.array([1, 2, 3, 4], np.float32))


@pytest.mark.parametrize(("opset", "rank", "axis"), [(11, 4, None), (11, 2, 1), (17, 2, -1), (17, 4, 1)])
def test_softmax_at_the_end_keeps_the_order_of_classes(folder: Path, opset: int, rank: int, axis: int | None) -> None:
    writer, value = _start()
    pooled = writer.node("GlobalAveragePool", value) if rank == 4 else _end(writer, value)
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    path = _save(folder, writer.model(writer.node("Softmax", pooled, **attributes), opset, rank))
    graph = from_onnx(path)
    images = _random(1, 3, *SIZE)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"input": images})[0].reshape(-1)
    logits = run_float(graph, images)[0].astype(np.float64)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), expected, rtol=1e-4, atol=1e-6)


def test_softmax_elsewhere(folder: Path) -> None:
    writer, value = _start()
    _refused(folder, writer, writer.node("Relu", writer.node("Softmax", _end(writer, value))), "softmax_.*very end")
    writer, value = _start()
    pooled = writer.node("GlobalAveragePool", value)
    _refused(folder, writer, writer.node("Softmax", pooled), "softmax_.*over the classes", rank=4)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floating_point_types_become_float32(folder: Path, kind: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    writer = OnnxWriter([1, 3, *SIZE], kind)
    weight, bias = _random(5, 3, 3, 3).astype(dtype), _random(5).astype(dtype)
    value = writer.node("Conv", "input", writer.weight("w", weight), writer.weight("b", bias))
    graph = from_onnx(_save(folder, writer.model(_end(writer, value), 22)))
    first = graph.nodes[0]
    assert isinstance(first, FloatConv) and first.weight.dtype == np.float32
    np.testing.assert_array_equal(first.weight, weight.astype(np.float32))


def test_old_files_list_weights_as_inputs_and_open_batches_by_name(folder: Path) -> None:
    writer, value = _start(batch="batch_size")
    model = writer.model(_end(writer, value), opset=7)
    model.ir_version = 3
    for name, array in writer.weights.items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    assert from_onnx(_save(folder, model)).shapes["first"] == (7, 10, 5)


def test_what_the_output_does_not_need_is_not_looked_at(folder: Path) -> None:
    writer, value = _start()
    writer.node("Sigmoid", value)
    graph = from_onnx(_save(folder, writer.model(_end(writer, value))))
    assert len(graph.nodes) == 2


def test_names_are_unique_and_printable(folder: Path) -> None:
    writer, value = _start()
    for name in ("image", "same", "same", "sa\nme", "same_1"):
        value = writer.node("Relu", value, name=name)
    graph = from_onnx(_save(folder, writer.model(_end(writer, value))))
    assert [node.name for node in graph.nodes[1:-1]] == ["image_1", "same", "same_1", "sa_me", "same_1_1"]


def _groups_that_do_not_divide(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("w", _random(4, 1, 3, 3)), group=5)


def _groups_of_other_channels(writer: OnnxWriter, value: str) -> str:
    both = writer.node("Concat", value, value, axis=1)
    return writer.node("Conv", both, writer.weight("w", _random(5, 1, 3, 3)), group=5)


def _dilated(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("w", _random(5, 5, 3, 3)), dilations=[2, 2])


def _dilated_pool(writer: OnnxWriter, value: str) -> str:
    return writer.node("MaxPool", value, kernel_shape=[2, 2], dilations=[2, 1])


def _average_in_ceil_mode(writer: OnnxWriter, value: str) -> str:
    return writer.node("AveragePool", value, kernel_shape=[2, 2], ceil_mode=1)


def _padded_average(writer: OnnxWriter, value: str) -> str:
    return writer.node("AveragePool", value, kernel_shape=[3, 10], pads=[1, 0, 0, 0])


def _dilated_average(writer: OnnxWriter, value: str) -> str:
    return writer.node("AveragePool", value, kernel_shape=[2, 2], dilations=[1, 2])


def _mean_of_rows(writer: OnnxWriter, value: str) -> str:
    return writer.node("ReduceMean", value, axes=[2])


def _concat_of_rows(writer: OnnxWriter, value: str) -> str:
    return writer.node("Concat", value, value, axis=2)


def _constant_sum(writer: OnnxWriter, value: str) -> str:
    return writer.node("Add", value, writer.weight("w", _random(5, 1, 1)))


def _broadcast_sum(writer: OnnxWriter, value: str) -> str:
    return writer.node("Add", value, writer.node("GlobalAveragePool", value))


def _second_output(writer: OnnxWriter, value: str) -> str:
    writer.nodes.append(helper.make_node("MaxPool", [value], ["kept", "indices"], kernel_shape=[1, 1]))
    return writer.node("Concat", "kept", writer.node("Cast", "indices", to=TensorProto.FLOAT), axis=1)


def _trained_dropout(writer: OnnxWriter, value: str) -> str:
    return writer.node(
        "Dropout", value, writer.weight("r", np.array(0.5, np.float32)), writer.weight("t", np.array(True))
    )


def _trained_norm(writer: OnnxWriter, value: str) -> str:
    """Up to opset 13 only the number of outputs tells."""
    vectors = [writer.weight(f"bn.{index}", np.ones(5, np.float32)) for index in range(4)]
    outputs = ["normalized", "mean", "var", "saved_mean", "saved_var"]
    writer.nodes.append(helper.make_node("BatchNormalization", [value, *vectors], outputs, name="bn"))
    return "normalized"


def _instance_norm(writer: OnnxWriter, value: str) -> str:
    vectors = [writer.weight(f"in.{index}", np.ones(5, np.float32)) for index in range(2)]
    return writer.node("InstanceNormalization", value, *vectors)


def _integers(writer: OnnxWriter, value: str) -> str:
    return writer.node("Cast", writer.node("Cast", value, to=TensorProto.INT32), to=TensorProto.FLOAT)


def _pooled_twice(writer: OnnxWriter, value: str) -> str:
    return writer.node("Relu", writer.node("GlobalAveragePool", value))


def _folded_map(writer: OnnxWriter, value: str) -> str:
    return writer.node("Reshape", value, writer.weight("shape", np.array([1, 10, 7, 5], np.int64)))


def _not_finite(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("nan.weight", np.full((2, 5, 1, 1), np.nan, np.float32)))


def _wrong_channels(writer: OnnxWriter, value: str) -> str:
    weight = writer.weight("w", _random(5, 5, 1, 1))
    return writer.node("Conv", writer.node("Concat", value, value, axis=1), weight)


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_normalization_in_training_mode_of_old_opsets(folder: Path, opset: int) -> None:
    writer, value = _start()
    match = "bn: BatchNormalization in training mode; export the network in evaluation mode"
    _refused(folder, writer, _end(writer, _trained_norm(writer, value)), match, opset)


@pytest.mark.shared
def test_a_file_in_training_mode(shared_file: Callable[[str], Path]) -> None:
    with pytest.raises(UnsupportedError, match="BatchNormalization in training mode"):
        from_onnx(shared_file("cases/onnx/bn_training_opset11.onnx"))


@pytest.mark.parametrize(
    ("build_part", "match"),
    [
        (lambda w, v: w.node("Sigmoid", v), r"/sigmoid_1 \(Sigmoid\); supported: convolution \(any groups"),
        (lambda w, v: w.node("Sigmoid", w.node("LeakyRelu", v)), r"/leakyrelu_1 \(LeakyRelu\), /sigmoid_2 \(Sig"),
        (_groups_that_do_not_divide, "/conv_1.* 5 groups do not divide its 5 input and 4 output channels"),
        (_groups_of_other_channels, r"/conv_2.*\[5, 1, 3, 3\].*"),
        (_dilated, r"/conv_1: .* dilation \[2, 2\]"),
        (_dilated_pool, r"/maxpool_1: MaxPool with dilation \[2, 1\]"),
        (_average_in_ceil_mode, "/averagepool_1: average pooling in ceil mode"),
        (_padded_average, "/averagepool_1: .* windows on a map of 7x10 pixels average 20 to 30 of them"),
        (_mean_of_rows, r"/reducemean_1: ReduceMean over axes \[2\]"),
        (_concat_of_rows, "/concat_1: Concat over axis 2"),
        (_constant_sum, "/add_1: Add of 'w', a constant"),
        (_broadcast_sum, "/add_2: adds 5x7x10 and 5x1x1"),
        (_second_output, "/cast_2: Cast of 'indices', a second output"),
        (_trained_dropout, "/dropout_1: Dropout in training mode"),
        (_instance_norm, r"/instancenormalization_1 \(InstanceNormalization\)"),
        (_integers, "/cast_1: a cast to INT32"),
        (_pooled_twice, "/globalaveragepool_1: a global average pooling must be the last node"),
        (_folded_map, "/reshape_1: Reshape of a map of 7x10 pixels"),
        (_not_finite, "nan: weight holds values that are not finite"),
        (_wrong_channels, r"/conv_2: weight is float32 \[5, 5, 1, 1\], must be float32 \[5, 10, 1, 1\]"),
    ],
)
def test_refused_by_node_and_reason(folder: Path, build_part: Callable[[OnnxWriter, str], str], match: str) -> None:
    writer, value = _start()
    _refused(folder, writer, _end(writer, build_part(writer, value)), match)


@pytest.mark.parametrize(
    ("shape", "kind", "match"),
    [
        (
            [1, 3, "height", "width"],
            TensorProto.FLOAT,
            r"\[1, 3, height, width\]; export the network with a fixed height",
        ),
        ([1, 3, None, 8], TensorProto.FLOAT, r"\[1, 3, \?, 8\]; export the network with a fixed height"),
        ([1, 8, 8, 3], TensorProto.FLOAT, "layout NHWC; export the network with layout NCHW"),
        ([4, 3, 8, 8], TensorProto.FLOAT, r"\[4, 3, 8, 8\]; it must be \[1, 3, height, width\]"),
        ([1, 1, 8, 8], TensorProto.FLOAT, "it must be"),
        ([3, 8, 8], TensorProto.FLOAT, "it must be"),
        ([1, 3, 8, 8], TensorProto.UINT8, "is UINT8; it must be the normalized image"),
        ([1, 3, 8, 8], 99, "is type 99; it must be"),
        ([1, 3, 10**6, 10**6], TensorProto.FLOAT, "an input of 1000000x1000000 pixels"),
    ],
)
def test_inputs_that_are_refused(folder: Path, shape: list[int | str | None], kind: int, match: str) -> None:
    writer = OnnxWriter(shape, kind)
    _refused(folder, writer, writer.node("GlobalAveragePool", "input"), match, rank=4)


def test_a_fully_connected_layer_on_a_map(folder: Path) -> None:
    writer, value = _start()
    vector = writer.node("Flatten", value)
    _refused(
        folder, writer, writer.node("Gemm", vector, writer.weight("w", _random(350, 4))), "/flatten_1: Flatten of a map"
    )


def test_the_result_must_be_a_vector(folder: Path) -> None:
    writer, value = _start()
    _refused(folder, writer, value, "first: the result must be one value a class, not 5x7x10", rank=4)
