"""The graph as standard ONNX, run by ONNX Runtime without its optimizations, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Concat, Conv, Head, IntegerGraph
from squeezeedge.graph.oracle import execute, run
from squeezeedge.lower.onnx_module import CLASS_SUMS, OnnxBuilder, to_onnx
from tests.graphs import TOPOLOGIES, GraphBuilder, integer_graphs, random_graph, random_images, squeezenet_graph
from tests.marks import first_quick


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sums(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.int32]:
    runtime = session(model)
    return np.concatenate([runtime.run(None, {IMAGE: image[None]})[0] for image in images])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(integer_graphs(max_size=16), st.integers(0, 999))
def test_random_graphs(graph: IntegerGraph, seed: int) -> None:
    images = random_images(graph, 2, seed)
    result = sums(to_onnx(graph), images)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, run(graph, images))


@pytest.mark.parametrize("name", first_quick(TOPOLOGIES))
def test_whole_networks(name: str) -> None:
    graph = squeezenet_graph(name, 48, 7)
    images = random_images(graph, 1, 0)
    np.testing.assert_array_equal(sums(to_onnx(graph), images), run(graph, images))


@pytest.mark.parametrize(("channels", "groups"), [(12, 12), (12, 3), (16, 4)])
def test_groups_stay_groups(channels: int, groups: int) -> None:
    builder = GraphBuilder(np.random.default_rng(groups), (9, 7))
    value = builder.conv(IMAGE, channels, (3, 3), (1, 1), (1, 1, 1, 1), 128, groups=3 if channels == 12 else 1)
    value = builder.conv(value, 2 * channels, (3, 2), (2, 1), (1, 0, 1, 1), groups=groups)
    graph = builder.finish(value, groups, groups=groups)
    model = to_onnx(graph)
    found = [
        onnx.helper.get_node_attr_value(node, "group") for node in model.graph.node if node.op_type == "ConvInteger"
    ]
    assert found == [conv.groups for conv in graph.convolutions]
    images = random_images(graph, 3, 0)
    np.testing.assert_array_equal(sums(model, images), run(graph, images))


def test_every_tensor_has_its_node_s_name_and_values() -> None:
    graph = random_graph(17, blocks=6)
    image = random_images(graph, 1, 0)[0]
    model = to_onnx(graph)
    expected = dict(execute(graph, image))
    names = [node.name for node in graph.nodes[:-1]]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, None) for n in names)
    for name, value in zip(names, session(model).run(names, {IMAGE: image[None]}), strict=True):
        np.testing.assert_array_equal(value[0].transpose(1, 2, 0), expected[name], err_msg=name)


def test_only_integers_and_standard_operators() -> None:
    model = to_onnx(squeezenet_graph("squeezenet1_0_complex_bypass", 48, 7))
    integers = {onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    assert {tensor.data_type for tensor in model.graph.initializer} <= integers
    assert {node.domain for node in model.graph.node} == {""}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    assert {value.type.tensor_type.elem_type for value in inferred.graph.value_info} <= integers


def test_names_that_meet_made_up_ones() -> None:
    """Layers may be called as this module calls its intermediate results."""
    weight = np.ones((2, 1, 1, 3), np.int8)
    zeros, scale = np.zeros(2, np.int32), np.ones(2, np.float32)
    rest: dict[str, Any] = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "pad_value": np.zeros(3, np.uint8),
        "scale": scale,
    }

    def conv(name: str) -> Conv:
        return Conv(name, IMAGE, weight, zeros, shift=np.full(2, 2, np.uint8), zero_point=0, **rest)

    names = ("image.nchw", "image.nchw.products", "image.nchw.bias", CLASS_SUMS)
    wide = {**rest, "pad_value": np.zeros(8, np.uint8)}
    head = Head("head", "all", np.ones((2, 1, 1, 8), np.int8), zeros, relu=False, **wide)
    graph = IntegerGraph("clash", (*map(conv, names), Concat("all", names), head), Preprocessing((3, 3), None))
    images = random_images(graph, 1, 0)
    np.testing.assert_array_equal(sums(to_onnx(graph), images), run(graph, images))


def test_names_are_used_once() -> None:
    builder = OnnxBuilder("names", ["a"])
    assert [builder.unique(name) for name in ("a", "b", "a", "b")] == ["a_2", "b", "a_3", "b_2"]
    assert builder.step("Relu", ["a"], "a") == "a_4"
