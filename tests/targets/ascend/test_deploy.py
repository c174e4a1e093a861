"""The deploy model: decoded and compared with the graph, and what the structure check finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UnsupportedError
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph, rules
from squeezeedge.lower.legalize import dense_weight, legalize
from squeezeedge.targets.ascend import TARGET
from squeezeedge.targets.ascend.deploy import FP16_CHANNELS, deploy_model, pack_scale, sum_scale
from squeezeedge.targets.ascend.options import ROUNDINGS
from squeezeedge.targets.ascend.structure import check_structure, deploy_convs, unpack_scale
from tests.graphs import TOPOLOGIES, GraphBuilder, integer_graphs, largest_shift_graph, random_graph, squeezenet_graph

NAMES = ["squeezenet1_1", *(pytest.param(n, marks=pytest.mark.slow) for n in TOPOLOGIES[:-1] if n != "squeezenet1_1")]


def quantized(graph: IntegerGraph) -> list[Conv | Head]:
    return [node for node in graph.nodes if isinstance(node, Conv | Head)]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(integer_graphs(), st.sampled_from(ROUNDINGS))
def test_what_was_packed(graph: IntegerGraph, rounding: str) -> None:
    graph = legalize(graph, TARGET.supports)
    model = deploy_model(graph, rounding)
    counts = check_structure(model)
    nodes = quantized(graph)
    assert counts["Conv"] == counts["AscendQuant"] == counts["AscendDequant"] == len(nodes)
    for node, conv in zip(nodes, deploy_convs(model), strict=True):
        out, channels = len(node.weight), node.weight.shape[3] * node.groups
        node = node if conv.groups == node.groups else replace(node, weight=dense_weight(node), groups=1)
        assert conv.groups == 1 or min(out, channels) > FP16_CHANNELS
        assert conv.name == node.name and conv.strides == node.stride and conv.dtype == 1
        np.testing.assert_array_equal(conv.weight[:out, : node.weight.shape[3]].transpose(0, 2, 3, 1), node.weight)
        assert not conv.weight[out:].any() and not conv.weight[:, node.weight.shape[3] :].any()
        assert conv.offset == graph.tensors[node.input].zero_point - 128
        assert conv.pads == ((0, 0, 0, 0) if node.input == IMAGE else node.padding)
        if isinstance(node, Head):
            np.testing.assert_array_equal(conv.bias, node.bias)
            out_tensor = graph.tensors[node.name]
            assert (conv.scale == np.float32(out_tensor.height * out_tensor.width / sum_scale(graph))).all()
            continue
        np.testing.assert_array_equal(conv.scale[:out] * np.exp2(node.shift, dtype=np.float32), 1)
        if rounding == "fused":
            np.testing.assert_array_equal(conv.bias, node.bias)
            assert conv.weight.shape == (out, channels // conv.groups, *node.weight.shape[1:3])
            continue
        assert conv.weight.shape[1] * conv.groups > FP16_CHANNELS, "ATC would take quantization back"
        added = (conv.bias[:out].astype(np.int64) - node.bias) / 2.0**node.shift
        quarter = np.select([node.shift == 0, node.shift == 1], [0, 0.5], 0.25)
        clips = np.abs(node.bias.astype(np.int64)) > 255 * np.abs(node.weight.astype(np.int64)).sum((1, 2, 3))
        assert (clips | (added == 512 + node.zero_point + quarter)).all()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_whole_networks(name: str, rounding: str) -> None:
    model = deploy_model(squeezenet_graph(name, 64, 10), rounding)
    counts = check_structure(model)
    assert model.opset_import[0].version == 11 and model.ir_version == 6
    if rounding == "fused" and name == "squeezenet1_1":
        convs = 26
        other = {"Relu": convs, "MaxPool": 3, "Concat": 9, "GlobalAveragePool": 2, "Sub": 1}
        assert counts == {"AscendQuant": convs, "Conv": convs, "AscendDequant": convs, **other}


def test_depthwise_convolutions_stay_depthwise() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 5))
    value = builder.conv(IMAGE, 40, (3, 3))
    value = builder.conv(value, 40, (3, 3), (1, 1), (1, 1, 1, 1), groups=40)
    value = builder.conv(builder.conv(value, 20, groups=4), 8, groups=2)
    model = deploy_model(builder.finish(value, 8, groups=8), "exact")
    check_structure(model)
    assert [conv.groups for conv in deploy_convs(model)] == [1, 40, 4, 1, 1]


def test_the_head_s_accumulators_fit_float16() -> None:
    for seed in range(8):
        graph = random_graph(seed, groups=False)
        head = deploy_convs(deploy_model(graph, "exact"))[-1]
        bound = np.abs(head.bias.astype(np.int64)) + 255 * np.abs(head.weight.astype(np.int64)).sum((1, 2, 3))
        assert (bound * head.scale).max() < 2**15
        assert (bound * head.scale).max() >= 2**14 or head.scale.max() == 1


def test_parameter_packing() -> None:
    """The low 32 bits hold the float's, as hicann/amct's fuse_dequant_param makes them."""
    scale = np.exp2(-np.arange(16, dtype=np.float32))
    packed = pack_scale(scale)
    assert packed.dtype == np.uint64 and [hex(value) for value in packed[:3]] == [
        "0x3f800000",
        "0x3f000000",
        "0x3e800000",
    ]
    np.testing.assert_array_equal(unpack_scale(packed), scale)
    wrongs: list[NDArray[Any]] = [packed | (1 << np.uint64(40)), packed.reshape(4, 4), packed.astype(np.int64)]
    for wrong in wrongs:
        with pytest.raises(SqueezeEdgeError, match="not uint64"):
            unpack_scale(wrong)


def test_no_room_for_exact_rounding() -> None:
    """R4 holds by 7 million; 512 * 2^15 is more."""
    rest: dict[str, Any] = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "scale": np.ones(1, np.float32),
        "bias": np.zeros(1, np.int32),
    }
    weight = np.full((1, 149, 149, 3), 126, np.int8)
    conv = Conv("wide", IMAGE, weight, shift=np.full(1, 15, "u1"), pad_value=np.zeros(3, "u1"), zero_point=0, **rest)
    head = Head("head", "wide", np.ones((1, 1, 1, 1), np.int8), pad_value=np.zeros(1, "u1"), relu=True, **rest)
    graph = IntegerGraph("tight", (conv, head), Preprocessing((149, 149), None))
    with pytest.raises(UnsupportedError, match=r"wide: int32 can overflow in channel 0 .*`rounding` fused"):
        deploy_model(graph, "exact")
    check_structure(deploy_model(graph, "fused"))


@pytest.mark.parametrize(
    ("rounding", "limit", "text"),
    [
        ("exact", 22, "conv0: its shift of 22 is more than the 21 of exact rounding; compile with `rounding` fused"),
        ("fused", 25, r"add2: its shift of 25 is more than the 24 of Ascend's fp16; quantize .*graph/rules\.py"),
        ("fused", 31, r"conv0: its shift of 31 is more than the 30 of Ascend's int32; quantize .*graph/rules\.py"),
    ],
)
def test_shifts_beyond_its_arithmetic(rounding: str, limit: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    with pytest.raises(UnsupportedError, match=text):
        deploy_model(largest_shift_graph(0), rounding)
