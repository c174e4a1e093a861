"""Arithmetic with constants, ReLU and its relatives: equal to ONNX Runtime, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from squeezeedge.graph.float.graph import FloatRelu
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.graph.importers.onnx.files import end, imported, kinds, random, refused, start
from tests.graph.networks import OnnxWriter


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (5, 1, 1), (1, 5, 1, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_arithmetic_with_constants(tmp_path: Path, operator: str, shape: tuple[int, ...], first: bool) -> None:
    writer, value = start()
    pooled = writer.node("MaxPool", value, kernel_shape=[2, 2])  # not a convolution: nothing to fold into
    constant = writer.weight("c", np.abs(random(*shape)) + np.float32(1))
    made = writer.node(operator, *((constant, pooled) if first else (pooled, constant)))
    if operator == "Div" and first:
        refused(
            tmp_path, writer, end(writer, made), r"/div_2 \(Div\): divides the constant 'c' .* divided by a constant"
        )
    else:
        assert kinds(imported(tmp_path, writer, end(writer, made)))[2] == "BatchNorm"


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_a_constant_that_repeats_over_the_map(tmp_path: Path, operator: str) -> None:
    writer, value = start()
    constant = np.broadcast_to(random(5, 1, 1), (5, 7, 10)).copy()
    graph = imported(tmp_path, writer, end(writer, writer.node(operator, value, writer.weight("c", constant))))
    assert kinds(graph) == ["Conv", "GlobalAveragePool"]


@pytest.mark.parametrize(
    ("low", "high", "opset"), [(0, 6, 13), (0, 0.5, 9), (0, None, 13), (-1, 1, 13), (None, 0.25, 6), (0.5, 2, 13)]
)
def test_clip(tmp_path: Path, low: float | None, high: float | None, opset: int) -> None:
    opset = max(opset, 7)
    writer, value = start()
    if opset < 11:
        bounds: dict[str, Any] = {
            key: float(bound) for key, bound in (("min", low), ("max", high)) if bound is not None
        }
        made = writer.node("Clip", value, **bounds)
    else:
        names = [
            "" if bound is None else writer.weight(key, np.array(bound, np.float32))
            for key, bound in (("low", low), ("high", high))
        ]
        made = writer.node("Clip", value, *names)
    graph = imported(tmp_path, writer, end(writer, made), opset)
    relu = next(node for node in graph.nodes if isinstance(node, FloatRelu))
    if low == 0:
        assert kinds(graph)[:-1] == ["Conv", "Relu"] and relu.limit == (np.inf if high is None else high)


@pytest.mark.parametrize("alpha", [0.2, -0.5])
def test_a_hard_sigmoid_is_a_relu_with_a_limit(tmp_path: Path, alpha: float) -> None:
    """Behind the class scores, too: its flat parts make scores equal."""
    writer, value = start()
    value = writer.node("HardSigmoid", end(writer, writer.node("HardSigmoid", value, alpha=alpha)), beta=0.25)
    graph = imported(tmp_path, writer, value)
    assert [node.limit for node in graph.nodes if isinstance(node, FloatRelu)] == [1, 1]


def test_relu_and_minimum_are_one_relu(tmp_path: Path) -> None:
    writer, value = start()
    six = writer.weight("six", np.array(6, np.float32))
    zero = writer.weight("zero", np.array(0, np.float32))
    value = writer.node("Min", writer.node("Max", value, zero), six)
    value = writer.node("Min", six, writer.node("Relu", value))
    graph = imported(tmp_path, writer, end(writer, value))
    assert [node.limit for node in graph.nodes if isinstance(node, FloatRelu)] == [6, 6]


@pytest.mark.parametrize("slope", [0.1, -0.5, 1.5, "channels", "one"])
def test_slopes_for_negatives(tmp_path: Path, slope: float | str) -> None:
    writer, value = start()
    if isinstance(slope, float):
        value = writer.node("LeakyRelu", value, alpha=slope)
    else:
        value = writer.node(
            "PRelu", value, writer.weight("slope", random(5, 1, 1) if slope == "channels" else random(1))
        )
    assert kinds(imported(tmp_path, writer, end(writer, value)))[1:-1] == ["Relu", "Conv", "Relu", "Conv", "Add"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_sums(tmp_path: Path, count: int) -> None:
    writer, value = start()
    others = [writer.node("Relu", value) for _ in range(count - 1)]
    graph = imported(tmp_path, writer, end(writer, writer.node("Sum", value, *others)))
    assert kinds(graph).count("Add") == count - 1


@pytest.mark.parametrize("operator", ["Sum", "Mean"])
@pytest.mark.parametrize("places", ["c", "cv", "vcw"])
def test_sums_with_constants(tmp_path: Path, operator: str, places: str) -> None:
    """Of ``v``, a map, its ReLU ``w`` and a constant ``c``."""
    writer, value = start()
    pooled = writer.node("MaxPool", value, kernel_shape=[2, 2])
    known = {"v": pooled, "w": writer.node("Relu", pooled), "c": writer.weight("c", random(5, 1, 1))}
    made = writer.node(operator, *(known[place] for place in places), *([] if "v" in places else [pooled]))
    imported(tmp_path, writer, end(writer, made))


def test_the_first_power(tmp_path: Path) -> None:
    writer, value = start()
    value = writer.node("Pow", value, writer.weight("one", np.array([1], np.float32)))
    assert kinds(imported(tmp_path, writer, end(writer, value))) == ["Conv", "GlobalAveragePool"]


def test_difference_of_two_tensors(tmp_path: Path) -> None:
    writer, value = start()
    imported(tmp_path, writer, end(writer, writer.node("Sub", value, writer.node("Relu", value))))


def test_what_disappears(tmp_path: Path) -> None:
    writer, value = start()
    value = writer.node("Identity", writer.node("Cast", value, to=TensorProto.FLOAT))
    ratio, training = writer.weight("ratio", np.array(0.5, np.float32)), writer.weight("training", np.array(False))
    graph = imported(tmp_path, writer, end(writer, writer.node("Dropout", value, ratio, training)))
    assert kinds(graph) == ["Conv", "GlobalAveragePool"]


@pytest.mark.parametrize("kind", [np.float16, np.int64])
def test_a_cast_to_the_type_of_a_constant(tmp_path: Path, kind: type) -> None:
    writer, value = start()
    like = writer.node("CastLike", value, writer.weight("like", np.ones(1, kind)))
    value = end(writer, writer.node("CastLike", like, value))
    if kind is np.int64:
        refused(tmp_path, writer, value, r"/castlike_1 \(CastLike\): a cast of .* to whole numbers; supported")
    else:
        onnx.save(writer.model(value), tmp_path / "network.onnx")
        assert kinds(from_onnx(tmp_path / "network.onnx").graph) == ["Conv", "GlobalAveragePool"]


def _trained_dropout(writer: OnnxWriter, value: str) -> str:
    return writer.node(
        "Dropout", value, writer.weight("r", np.array(0.5, np.float32)), writer.weight("t", np.array(True))
    )


@pytest.mark.parametrize(
    ("build_part", "match"),
    [
        (lambda w, v: w.node("Mul", v, v), r"/mul_1 \(Mul\): multiplies .*\[1, 5, 7, 10\].* squeeze-and-excitation"),
        (
            lambda w, v: w.node("Add", v, w.node("GlobalAveragePool", v)),
            r"/add_2 \(Add\): adds \[1, 5, 7, 10\] and \[1, 5, 1, 1\]",
        ),
        (lambda w, v: w.node("Add", v, w.weight("w", random(7, 10))), r"/add_1 .* \[7, 10\] that differs from pixel"),
        (lambda w, v: w.node("Add", v, w.weight("w", random(2, 5, 7, 10))), r"/add_1 .* of shape \[2, 5, 7, 10\]"),
        (
            lambda w, v: w.node("Pow", v, w.weight("two", np.array(2, np.float32))),
            r"/pow_1 \(Pow\): a power, of 'conv_0' .*; supported: the first power\. Products of two tensors",
        ),
        (lambda w, v: w.node("Pow", w.weight("one", np.array(1, np.float32)), v), r"/pow_1 \(Pow\): a power"),
        (_trained_dropout, r"/dropout_1 \(Dropout\): Dropout in training mode"),
        (
            lambda w, v: w.node("Cast", w.node("Cast", v, to=TensorProto.INT32), to=TensorProto.FLOAT),
            r"/cast_1 \(Cast\): a cast to INT32",
        ),
        (lambda w, v: w.node("Max", v, w.node("Relu", v)), r"/max_2 \(Max\): Max of 'conv_0' .* and 'relu_1'"),
        (
            lambda w, v: w.node("Div", v, w.weight("w", np.zeros(1, np.float32))),
            "multiplier holds values that are",
        ),
        (
            lambda w, v: w.node("PRelu", v, w.weight("w", np.full((5, 1, 1), np.nan, np.float32))),
            r"/prelu_1 \(PRelu\): a constant holds NaN",
        ),
    ],
)
def test_refused_by_node_and_reason(tmp_path: Path, build_part: Callable[[OnnxWriter, str], str], match: str) -> None:
    writer, value = start()
    refused(tmp_path, writer, end(writer, build_part(writer, value)), match)
