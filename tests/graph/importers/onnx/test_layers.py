"""Layers with windows or weights: equal to ONNX Runtime, or refused by name and reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatAveragePool, FloatConv, FloatLinear, FloatMaxPool
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.graph.importers.onnx.files import end, imported, kinds, random, refused, start
from tests.graph.networks import OnnxWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


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
    writer, value = start()
    weight = writer.weight("w", random(4, 5, *window["kernel_shape"]))
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
    imported(folder, writer, end(writer, writer.node("Conv", value, weight, auto_pad=auto_pad, **window)))


@given(_windows(), st.sampled_from([1, 2, 3, 6]), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_groups_of_convolutions(folder: Path, window: dict[str, Any], groups: int, factor: int) -> None:
    writer, value = start(channels=6)
    weight = writer.weight("w", random(groups * factor, 6 // groups, *window["kernel_shape"]))
    grouped = writer.node("Conv", value, weight, group=groups, **window)
    conv = imported(folder, writer, end(writer, grouped)).nodes[1]
    assert isinstance(conv, FloatConv) and conv.groups == groups


def test_dilation_is_a_larger_kernel(folder: Path) -> None:
    writer, value = start()
    weight = writer.weight("w", random(4, 5, 3, 2))
    graph = imported(
        folder, writer, end(writer, writer.node("Conv", value, weight, dilations=[2, 3], pads=[1, 0, 1, 2]))
    )
    assert isinstance(graph.nodes[1], FloatConv) and graph.nodes[1].weight.shape == (4, 5, 5, 4)


@given(_windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_of_max_pooling(folder: Path, window: dict[str, Any], auto_pad: str, ceil_mode: bool) -> None:
    writer, value = start()
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
        ceil_mode = False
    (down, right), (height, width) = window["strides"], window["kernel_shape"]
    if auto_pad.startswith("SAME"):  # ONNX Runtime refuses larger strides
        assume(down <= height and right <= width)
    pooled = writer.node("MaxPool", value, auto_pad=auto_pad, ceil_mode=int(ceil_mode), **window)
    imported(folder, writer, end(writer, pooled))


@pytest.mark.slow
@given(_windows(), st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_of_average_pooling(folder: Path, window: dict[str, Any], auto_pad: str, counted: bool) -> None:
    """Equal to ONNX Runtime; refused where windows that count no padding have different numbers of pixels."""
    writer, value = start()
    if auto_pad != "NOTSET":
        window = {key: value for key, value in window.items() if key != "pads"}
    if auto_pad.startswith("SAME"):  # ONNX Runtime refuses larger strides
        assume(all(step <= side for step, side in zip(window["strides"], window["kernel_shape"], strict=True)))
    pooled = writer.node("AveragePool", value, auto_pad=auto_pad, count_include_pad=int(counted), **window)
    try:
        graph = imported(folder, writer, end(writer, pooled))
    except UnsupportedError as error:
        assert not counted and "/averagepool_1 (AveragePool): average pooling that does not count padded" in str(error)
    else:
        assert isinstance(graph.nodes[1], FloatAveragePool) and graph.nodes[1].name == "/averagepool_1"


def test_average_pooling_in_ceil_mode_where_it_changes_nothing(folder: Path) -> None:
    writer, value = start(size=(10, 12))
    imported(
        folder, writer, end(writer, writer.node("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1))
    )


@pytest.mark.parametrize(
    ("before", "reader", "expected"),
    [
        ("Relu", "Conv", ["Conv", "Relu", "Conv"]),
        ("Relu", "MaxPool", ["Conv", "Relu", "MaxPool"]),
        ("Neg", "MaxPool", ["Conv", "Conv", "MaxPool"]),
        ("Relu", "AveragePool", ["Conv", "Relu", "AveragePool"]),
        ("Relu", "Relu", ["Conv", "Relu", "Conv", "Relu"]),
    ],
)
def test_what_reads_a_padded_map(folder: Path, before: str, reader: str, expected: list[str]) -> None:
    """It pads by itself if it can; else a convolution that copies does."""
    writer, value = start()
    value = writer.node(before, value)
    value = writer.node("Pad", value, writer.weight("pads", np.array([0, 0, 1, 0, 0, 0, 2, 1], np.int64)))
    if reader == "Conv":
        value = writer.node("Conv", value, writer.weight("w", random(4, 5, 3, 3)), pads=[1, 0, 0, 0])
    elif reader == "Relu":
        value = writer.node("Relu", value)
    else:
        value = writer.node(reader, value, kernel_shape=[3, 3])
    assert kinds(imported(folder, writer, end(writer, value)))[:-1] == expected


@pytest.mark.parametrize(("fill", "opset"), [(0.5, 17), (-3.0, 9), (0.0, 9), (-np.inf, 17)])
def test_values_of_pads(folder: Path, fill: float, opset: int) -> None:
    writer, value = start()
    pads = [0, 0, 1, 1, 0, 0, 1, 0]
    if opset < 11:
        value = writer.node("Pad", value, pads=pads, value=fill)
    else:
        names = writer.weight("pads", np.array(pads, np.int64)), writer.weight("fill", np.array(fill, np.float32))
        value = writer.node("Pad", value, *names)
    imported(folder, writer, end(writer, writer.node("MaxPool", value, kernel_shape=[2, 3], strides=[2, 1])), opset)


def test_padding_that_a_window_in_ceil_mode_starts_in(folder: Path) -> None:
    """The pooling would leave that window out if the padding were its own."""
    writer, value = start()
    pads = writer.weight("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))
    value = writer.node("Pad", writer.node("Relu", value), pads)
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    imported(folder, writer, end(writer, writer.node("MaxPool", value, **window)))
    pooled = end(writer, writer.node("AveragePool", value, **window))
    refused(folder, writer, pooled, r"AveragePool\): average pooling in ceil mode")


@pytest.mark.parametrize(
    ("pads", "expected"),
    [
        ([0, 0, -1, 0, 0, 0, 0, -2], "Conv Conv"),
        ([0, 0, -2, 1, 0, 0, 3, -1], "Conv Conv Conv"),
        ([0, 0, 0, 0, 0, 0, -6, 0], "Conv Conv"),
    ],
)
def test_pads_that_cut_pixels_off(folder: Path, pads: list[int], expected: str) -> None:
    writer, value = start()
    value = writer.node("MaxPool", _pad(writer, value, pads), kernel_shape=[1, 2])
    assert kinds(imported(folder, writer, end(writer, value)))[:-2] == expected.split()


@pytest.mark.parametrize("pads", [[0, 1, 2, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0, 2]])
def test_pads_in_front_of_a_transpose(folder: Path, pads: list[int]) -> None:
    """As TensorFlow's layers have them: rows of pixels; the convolution behind takes them over."""
    writer, value = start()
    rows = _pad(writer, writer.node("Transpose", value, perm=[0, 2, 3, 1]), pads)
    value = writer.node("Transpose", rows, perm=[0, 3, 1, 2])
    value = writer.node("Conv", value, writer.weight("w", random(4, 5 + pads[3] + pads[7], 3, 3)))
    graph = imported(folder, writer, end(writer, value))
    assert kinds(graph) == ["Conv", "Conv", "GlobalAveragePool"]
    assert isinstance(graph.nodes[1], FloatConv) and graph.nodes[1].padding == (pads[1], pads[2], pads[5], pads[6])


@pytest.mark.parametrize(
    "attributes", [{"auto_pad": "VALID", "pads": [0] * 4}, {"auto_pad": "SAME_UPPER", "pads": [1] * 4}]
)
def test_padding_that_is_said_twice(folder: Path, attributes: dict[str, Any]) -> None:
    """ONNX Runtime refuses it, even where both say the same."""
    writer, value = start()
    onnx.save(writer.model(end(writer, _conv(writer, value, **attributes))), folder / "twice.onnx")
    conv = from_onnx(folder / "twice.onnx").graph.nodes[1]
    assert isinstance(conv, FloatConv) and list(conv.padding) == attributes["pads"]


def test_channels_of_zeros(folder: Path) -> None:
    """A shortcut of He et al.'s kind A."""
    writer, value = start()
    pads = writer.weight("pads", np.array([0, 2, 0, 0, 0, 1, 0, 0], np.int64))
    wide = writer.node("Conv", value, writer.weight("w", random(8, 5, 1, 1)))
    imported(folder, writer, end(writer, writer.node("Add", wide, writer.node("Pad", value, pads))))


def test_channels_of_zeros_and_pixels(folder: Path) -> None:
    writer, value = start()
    value = _pad(writer, writer.node("Relu", value), [0, 2, 1, 0, 0, 0, 0, -1])
    imported(folder, writer, end(writer, writer.node("Conv", value, writer.weight("w", random(4, 7, 3, 3)))))


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_pads_of_some_axes(folder: Path, axes: list[int]) -> None:
    writer, value = start()
    pads = writer.weight("pads", np.array([1, 0, 0, 1], np.int64))
    value = writer.node("Pad", value, pads, "", writer.weight("axes", np.array(axes, np.int64)))
    graph = imported(
        folder, writer, end(writer, writer.node("Conv", value, writer.weight("w", random(2, 5, 2, 2)))), 18
    )
    expected = (1, 0, 0, 1) if axes[0] == 2 else (0, 1, 1, 0)
    assert isinstance(graph.nodes[1], FloatConv) and graph.nodes[1].padding == expected


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
    writer, value = start()
    weight = random(6, 5) if attributes.get("transB") else random(5, 6)
    inputs = [writer.weight("fc.weight", weight)]
    if shape is not None:
        inputs.append(writer.weight("fc.bias", np.array(random(*shape))))
    graph = imported(folder, writer, writer.node("Gemm", end(writer, value), *inputs, **attributes))
    assert graph.nodes[-1].name == "fc" and isinstance(graph.nodes[-1], FloatLinear)


@pytest.mark.parametrize("swapped", [False, True])
def test_matmul_and_add(folder: Path, swapped: bool) -> None:
    writer, value = start()
    product = writer.node("MatMul", end(writer, value), writer.weight("w", random(5, 6)))
    operands = [product, writer.weight("b", random(6))]
    graph = imported(folder, writer, writer.node("Add", *(operands[::-1] if swapped else operands)))
    assert isinstance(graph.nodes[-1], FloatLinear)
    np.testing.assert_array_equal(graph.nodes[-1].bias, random(6))


def test_fully_connected_layers_on_a_map_and_behind_each_other(folder: Path) -> None:
    writer, value = start(size=(5, 6))
    vector = writer.node("Flatten", value)
    hidden = writer.node("Relu", writer.node("Gemm", vector, writer.weight("fc1.weight", random(60, 7))))
    graph = imported(folder, writer, writer.node("Gemm", hidden, writer.weight("fc2.weight", random(7, 4))))
    first = graph.nodes[1]
    assert isinstance(first, FloatConv) and first.weight.shape == (7, 5, 3, 4)
    assert kinds(graph) == ["Conv", "Conv", "Relu", "Conv"]


def test_a_hidden_layer_behind_the_pooling(folder: Path) -> None:
    writer, value = start()
    hidden = writer.node("Relu", writer.node("Gemm", end(writer, value), writer.weight("fc1.weight", random(5, 7))))
    graph = imported(folder, writer, writer.node("Gemm", hidden, writer.weight("fc2.weight", random(7, 4))))
    assert kinds(graph) == ["Conv", "AveragePool", "Conv", "Relu", "Conv"]


def test_a_pointwise_convolution_behind_the_pooling_is_a_fully_connected_layer(folder: Path) -> None:
    writer, value = start()
    value = writer.node("Conv", writer.node("GlobalAveragePool", value), writer.weight("w", random(4, 5, 1, 1)))
    assert kinds(imported(folder, writer, writer.node("Flatten", value))) == ["Conv", "GlobalAveragePool", "Linear"]


def test_global_max_pooling(folder: Path) -> None:
    writer, value = start()
    graph = imported(folder, writer, writer.node("Flatten", writer.node("GlobalMaxPool", value)))
    assert isinstance(graph.nodes[-1], FloatMaxPool)


def test_normalization_of_a_vector(folder: Path) -> None:
    writer, value = start()
    vectors = [writer.weight(f"bn.{key}", random(5) ** 2 + 1) for key in ("weight", "bias", "mean", "var")]
    imported(folder, writer, writer.node("BatchNormalization", end(writer, value), *vectors))


def _groups_that_do_not_divide(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("w", random(4, 1, 3, 3)), group=5)


def _groups_of_other_channels(writer: OnnxWriter, value: str) -> str:
    both = writer.node("Concat", value, value, axis=1)
    return writer.node("Conv", both, writer.weight("w", random(5, 1, 3, 3)), group=5)


def _wrong_channels(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", writer.node("Concat", value, value, axis=1), writer.weight("w", random(5, 5, 1, 1)))


def _not_finite(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("nan.weight", np.full((2, 5, 1, 1), np.nan, np.float32)))


def _large_dilation(writer: OnnxWriter, value: str) -> str:
    return writer.node("Conv", value, writer.weight("w", random(5, 5, 3, 3)), dilations=[2**16, 2**16])


def _reflected(writer: OnnxWriter, value: str) -> str:
    return writer.node(
        "Pad", value, writer.weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), mode="reflect"
    )


def _pad(
    writer: OnnxWriter, value: str, pads: list[int], axes: list[int] | None = None, fill: Sequence[float] = (0,)
) -> str:
    operands = [writer.weight("pads", np.array(pads, np.int64)), writer.weight("fill", np.array(fill, np.float32))]
    operands += [] if axes is None else [writer.weight("axes", np.array(axes, np.int64))]
    return writer.node("Pad", value, *operands)


def _conv(writer: OnnxWriter, value: str, **attributes: Any) -> str:  # noqa: ANN401
    return writer.node("Conv", value, writer.weight("w", random(4, 5, 3, 3)), **attributes)


def _computed_weight(writer: OnnxWriter, value: str) -> str:
    weight = writer.node("Reshape", end(writer, value), writer.weight("s", np.array([1, 5, 1, 1], np.int64)))
    return writer.node("Conv", value, weight)


def _normalized_by_too_few(writer: OnnxWriter, value: str) -> str:
    return writer.node("BatchNormalization", value, *(writer.weight(f"n{place}", random(4)) for place in range(4)))


@pytest.mark.parametrize(
    ("build_part", "match"),
    [
        (_groups_that_do_not_divide, "/conv_1.* 5 groups do not divide its 5 input and 4 output channels"),
        (_groups_of_other_channels, r"/conv_2.*\[5, 1, 3, 3\].*"),
        (_wrong_channels, r"/conv_2: weight is float32 \[5, 5, 1, 1\], must be float32 \[5, 10, 1, 1\]"),
        (_not_finite, "nan: weight holds values that are not finite"),
        (_large_dilation, r"/conv_1 \(Conv\): a dilation of \[65536, 65536\] makes its kernel .* too large"),
        (_reflected, r"/pad_1 \(Pad\): pads in mode 'reflect'"),
        (
            lambda w, v: _pad(w, v, [0, 0, -7, 0, 0, 0, 0, 0]),
            r"/pad_1 \(Pad\): cuts \[1, 5, 7, 10\] by \[\[-7, 0\], \[0, 0\]\] pixels \(height, width\); supported",
        ),
        (
            lambda w, v: _pad(w, v, [0, 0, 10**6, 0, 0, 0, 0, 0]),
            r"/pad_1 \(Pad\): pads \[1, 5, 7, 10\] by \[1000000, 0, 0, 0\] pixels \(top, left, bottom, right\);",
        ),
        (lambda w, v: _pad(w, v, [0, 2**40, 0, 0, 0, 0, 0, 0]), r"Pad makes moved tensors of more than"),
        (lambda w, v: _pad(w, v, [1, 0, 0, 0], [2, 2]), r"/pad_1 \(Pad\): axes \[2, 2\] of .*; supported: each once"),
        (lambda w, v: _pad(w, v, [1, 0, 0, 0], [2, -2]), r"/pad_1 \(Pad\): axes \[2, -2\] of"),
        (lambda w, v: _pad(w, v, [1, 0], [4]), r"/pad_1 \(Pad\): axes \[4\] of .* in -4\.\.3"),
        (lambda w, v: _pad(w, v, [1, 0, 1], [2, 3]), r"/pad_1 \(Pad\): pads by \[1, 0, 1\], which does not fit"),
        (lambda w, v: _pad(w, v, [0, 0, 1, 0, 0, 0, 0, 0], fill=[0, 1]), r"/pad_1 \(Pad\): 'fill' has 2 values"),
        (lambda w, v: _conv(w, v, kernel_shape=[2, 3]), r"\(Conv\): kernel_shape is \[2, 3\], and its weight"),
        (lambda w, v: _conv(w, v, strides=[1]), r"\(Conv\): strides is \[1\]; supported: two in 1"),
        (lambda w, v: _conv(w, v, strides=[1, -1]), r"\(Conv\): strides is \[1, -1\]; supported"),
        (lambda w, v: _conv(w, v, strides=[2**31, 1]), r"\(Conv\): strides is \[2147483648, 1\]; supported"),
        (lambda w, v: _conv(w, v, dilations=[0, 1]), r"\(Conv\): dilations is \[0, 1\]; supported"),
        (lambda w, v: _conv(w, v, pads=[1, 1]), r"\(Conv\): pads is \[1, 1\]; supported: four"),
        (lambda w, v: _conv(w, v, pads=[1, 1, 1, -1]), r"\(Conv\): pads is \[1, 1, 1, -1\]; supported"),
        (lambda w, v: _conv(w, v, pads=[0, 0, 0, 65]), r"\(Conv\): pads \[1, 5, 7, 10\] by \[0, 0, 0, 65\] pixels"),
        (lambda w, v: _conv(w, v, auto_pad="ANY"), r"\(Conv\): auto_pad is 'ANY'; supported: NOTSET"),
        (
            lambda w, v: _conv(w, v, auto_pad="SAME_UPPER", pads=[0, 0, 2, 2]),
            r"\(Conv\): auto_pad SAME_UPPER asks for pads \[1, 1, 1, 1\], and pads is \[0, 0, 2, 2\]; export",
        ),
        (lambda w, v: _conv(w, v, auto_pad="VALID", pads=[1] * 4), r"\(Conv\): auto_pad VALID asks for pads \[0, 0"),
        (
            lambda w, v: w.node("MaxPool", v, kernel_shape=[2, 2], pads=[0, 0, 2, 0]),
            r"\(MaxPool\): pads by \[0, 0, 2, 0\], which is not less than its window",
        ),
        (
            lambda w, v: w.node("Clip", v, w.weight("low", np.array([0, 1], np.float32))),
            r"\(Clip\): 'low' has 2 values; it must be one number",
        ),
        (
            _computed_weight,
            r"/conv_4 \(Conv\): its operand 'reshape_3' is computed from the image, .*constant",
        ),
        (_normalized_by_too_few, r"\(BatchNormalization\): normalizes \[1, 5, 7, 10\] by \[4\] numbers"),
        (
            lambda w, v: w.node("MaxPool", v, kernel_shape=[2, 2], dilations=[2, 1]),
            r"/maxpool_1 \(MaxPool\): MaxPool with dilation \[2, 1\]",
        ),
        (
            lambda w, v: w.node("AveragePool", v, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            r"/averagepool_1 \(AveragePool\): average pooling in ceil mode, the last windows .* map of 7x10 pixels",
        ),
        (
            lambda w, v: w.node("AveragePool", v, kernel_shape=[3, 10], pads=[1, 0, 0, 0]),
            r"/averagepool_1 .* windows on a map of 7x10 pixels average 20 to 30 of them",
        ),
    ],
)
def test_refused_by_node_and_reason(folder: Path, build_part: Callable[[OnnxWriter, str], str], match: str) -> None:
    writer, value = start()
    refused(folder, writer, end(writer, build_part(writer, value)), match, opset=18)


def test_average_pooling_with_dilation(folder: Path) -> None:
    writer, value = start()
    pooled = writer.node("AveragePool", value, kernel_shape=[2, 2], dilations=[1, 2])
    refused(folder, writer, end(writer, pooled), r"/averagepool_1 \(AveragePool\): .* dilation \[1, 2\]", opset=19)


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_normalization_in_training_mode_of_old_opsets(folder: Path, opset: int) -> None:
    """Up to opset 13 only the number of outputs tells."""
    writer, value = start()
    vectors = [writer.weight(f"bn.{index}", np.ones(5, np.float32)) for index in range(4)]
    outputs = ["normalized", "mean", "var", "saved_mean", "saved_var"]
    writer.nodes.append(helper.make_node("BatchNormalization", [value, *vectors], outputs, name="bn"))
    match = r"bn \(BatchNormalization\): BatchNormalization in training mode; export the network in evaluation mode"
    refused(folder, writer, end(writer, "normalized"), match, opset)


@pytest.mark.parametrize("bias", [None, (6, 1), (1,), (1, 1)])
@pytest.mark.parametrize(("column", "turned"), [(True, False), (False, True)])
def test_gemm_with_the_constant_first(folder: Path, bias: tuple[int, ...] | None, column: bool, turned: bool) -> None:
    writer, value = start()
    vector = end(writer, value)
    vector = writer.node("Transpose", vector, perm=[1, 0]) if column else vector
    weight = writer.weight("fc.weight", random(5, 6) if turned else random(6, 5))
    operands = [weight, vector] + ([] if bias is None else [writer.weight("fc.bias", random(*bias))])
    made = writer.node("Gemm", *operands, transA=int(turned), transB=int(not column), alpha=0.5, beta=2.0)
    assert imported(folder, writer, writer.node("Transpose", made, perm=[1, 0])).nodes[-1].name == "fc"


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_of_a_column(folder: Path, turned: int) -> None:
    writer, value = start()
    column = writer.node("Transpose", end(writer, value), perm=[1, 0])
    weight = writer.weight("w", random(6, 5) if turned else random(5, 6))
    made = writer.node("Gemm", column, weight, writer.weight("b", random(6)), transA=1, transB=turned)
    imported(folder, writer, made)


@pytest.mark.parametrize(("batch", "shape"), [(1, [5]), (1, [5, 1]), (3, [3, 5, 1])])
def test_matmul_with_the_constant_first(folder: Path, batch: int, shape: list[int]) -> None:
    """Of several images at a time, where these stay apart."""
    writer, value = start(batch=batch)
    vector = writer.node("Reshape", end(writer, value), writer.weight("s", np.array(shape, np.int64)))
    made = writer.node("MatMul", writer.weight("w.weight", random(6, 5)), vector)
    assert imported(folder, writer, made, rank=len(shape)).nodes[-1].name == "w"
