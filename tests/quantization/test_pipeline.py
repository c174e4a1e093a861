"""Whole networks: accuracy against fp32, limits, determinism, bad input."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from squeezeedge.calib.preprocess import IMAGENET, Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.evaluation.metrics import sqnr_db
from squeezeedge.graph import IMAGE, Add, Conv, IntegerGraph, oracle, rules
from squeezeedge.graph.float.graph import FloatConv, FloatGraph
from squeezeedge.graph.importers.from_onnx import from_onnx
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.networks import registry
from squeezeedge.quantization import pipeline
from squeezeedge.quantization.effort import Effort
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.rewrite import of_kind
from squeezeedge.training.validate import logits
from tests.marks import first_quick
from tests.quantization.networks import (
    PREPROCESSING,
    FloatNet,
    dense,
    folded,
    logits_sqnr,
    natural_images,
    random_net,
)

CALIBRATION = natural_images(32, PREPROCESSING.size)
OTHERS = natural_images(12, PREPROCESSING.size, seed=1)


def quantized(graph: FloatGraph, preprocessing: Preprocessing = PREPROCESSING) -> IntegerGraph:
    size = preprocessing.size
    pixels = CALIBRATION if size == PREPROCESSING.size else natural_images(16, size)
    return quantize(graph, preprocessing, pixels, name="net")


def simple_bypass(net: FloatNet) -> FloatGraph:
    first = net.pool(net.relu(net.conv(IMAGE, 16, 3, 2)), ceil_mode=True)
    second = net.fire(first, 4, 8)
    third = net.add(second, net.fire(second, 6, 8))
    return net.classifier(net.add(third, net.fire(net.relu(net.conv(third, 16)), 6, 8)))


def complex_bypass(net: FloatNet) -> FloatGraph:
    first = net.relu(net.conv(IMAGE, 12, 3, 2))
    return net.classifier(net.add(net.conv(first, 20), net.fire(first, 6, 10)))


def residual(net: FloatNet) -> FloatGraph:
    """The blocks of ResNet-18: identity, then a strided block with a 1x1 convolution beside it."""
    x = net.pool(net.relu(net.norm(net.conv(IMAGE, 10, 7, 2, 3))), padding=1)
    for stride, out in ((1, 10), (1, 10), (2, 14), (1, 14)):
        branch = net.relu(net.norm(net.conv(x, out, 3, stride, 1)))
        branch = net.norm(net.conv(branch, out, 3, padding=1))
        beside = x if stride == 1 else net.norm(net.conv(x, out, 1, stride))
        x = net.relu(net.add(branch, beside))
    return net.classifier(x, linear=True)


def pooled_bypass(net: FloatNet) -> FloatGraph:
    """Pooling plus something, and a sum that other sums, concatenations and convolutions read."""
    first = net.relu(net.conv(IMAGE, 8, 3, padding=1))
    pooled = net.pool(first, 3, 1, 1)
    total = net.add(pooled, net.conv(first, 8))
    wide = net.concat(total, net.relu(net.conv(total, 8)))
    return net.classifier(net.add(wide, net.concat(first, pooled)))


def depthwise(net: FloatNet, limit: float = math.inf) -> FloatGraph:
    """The blocks of MobileNet: depthwise and 1x1 convolutions, linear bottlenecks, sums without a ReLU."""
    x = net.relu(net.norm(net.conv(IMAGE, 12, 3, 2, 1)), limit)
    x = net.relu(net.norm(net.conv(net.relu(net.norm(net.depthwise(x)), limit), 16)), limit)
    for _ in range(2):
        wide = net.relu(net.norm(net.depthwise(net.relu(net.norm(net.conv(x, 32)), limit))), limit)
        x = net.add(net.norm(net.conv(wide, 16)), x)
    wide = net.relu(net.norm(net.depthwise(net.relu(net.norm(net.conv(x, 32)), limit), 2)), limit)
    return net.classifier(net.conv(wide, 24), linear=True)


def limited_sums(net: FloatNet) -> FloatGraph:
    """ReLU6 everywhere: behind sums, on their operands, and in front of the global pooling."""
    x = net.relu(net.conv(IMAGE, 12, 3, 2, 1), 1.5)
    x = net.relu(net.add(net.conv(net.relu(net.conv(x, 12, 3, 1, 1), 1.5), 12), x), 1.5)
    return net.graph(net.average(net.relu(net.conv(net.add(x, net.relu(net.conv(x, 12), 1.5)), 8), 1.5)))


def grouped(net: FloatNet) -> FloatGraph:
    """The blocks of ResNeXt."""
    x = net.pool(net.relu(net.norm(net.conv(IMAGE, 16, 3, 2, 1))), padding=1)
    for stride in (1, 1, 2):
        branch = net.relu(net.norm(net.conv(x, 16)))
        branch = net.norm(net.conv(net.relu(net.norm(net.conv(branch, 16, 3, stride, 1, 4))), 16))
        x = net.relu(net.add(branch, x if stride == 1 else net.norm(net.conv(x, 16, 1, stride))))
    return net.classifier(x, linear=True)


def groups_everywhere(net: FloatNet) -> FloatGraph:
    """The image, the layers and the head are read by groups."""
    x = net.relu(net.conv(net.relu(net.conv(IMAGE, 12, 3, 2, 1, 3)), 24, 3, 1, 1, 4))
    return net.graph(net.average(net.relu(net.conv(x, 8, 3, 1, 1, 8))))


def averages(net: FloatNet) -> FloatGraph:
    """Average pooling of what has no negatives, of a sum, and beside max pooling."""
    x = net.average_pool(net.relu(net.norm(net.conv(IMAGE, 16, 3))))
    x = net.average_pool(net.add(net.conv(net.relu(net.conv(x, 12, 3, padding=1)), 16), x), 3, 1, 1)
    return net.classifier(net.concat(net.average_pool(x, 3, 2), net.pool(x, 3, 2)))


class InvertedResidual(nn.Module):
    """A small network of torch modules: depthwise and grouped convolutions, batch normalization, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self.block(3, 16, 3, 2, 1)
        self.wide = nn.Sequential(self.block(16, 32, 1), self.block(32, 32, 3, 1, 32))
        self.narrow = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.last = self.block(16, 24, 3, 2, 4)
        self.head = nn.Linear(24, 5)

    @staticmethod
    def block(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        last: Tensor = self.last(first + self.narrow(self.wide(first)))
        logits: Tensor = self.head(last.mean((2, 3)))
        return logits


def padded_squeezenet(net: FloatNet) -> FloatGraph:
    first = net.pool(net.relu(net.conv(IMAGE, 16, 3, 2, 1)))
    return net.classifier(net.fire(net.fire(first, 6, 12), 6, 12))


@pytest.mark.parametrize(
    ("build", "bound"),
    [
        (simple_bypass, 30),
        (complex_bypass, 30),
        (residual, 26),
        (pooled_bypass, 28),
        (padded_squeezenet, 30),
        (depthwise, 28),
        (grouped, 28),
        (groups_everywhere, 38),
        (averages, 27),
        (partial(depthwise, limit=1.5), 28),
        (limited_sums, 28),
    ],
)
@pytest.mark.parametrize("seed", first_quick([0, 1]))
def test_topologies(build: Callable[[FloatNet], FloatGraph], bound: float, seed: int) -> None:
    graph = build(FloatNet(seed))
    result = quantized(graph)
    assert logits_sqnr(graph, result, OTHERS) > bound
    for node in of_kind(result.nodes, Add):
        assert result.tensors[node.name].zero_point in rules.ZERO_POINTS
        for name, shift in zip(node.inputs, node.shift, strict=True):
            exact = result.tensors[name].scale * np.exp2(shift.astype(np.float32))
            np.testing.assert_array_equal(exact, node.scale)


@pytest.mark.slow
@pytest.mark.parametrize("build", [groups_everywhere, depthwise, grouped])
def test_grouped_convolutions_are_as_good_as_dense_ones(build: Callable[[FloatNet], FloatGraph]) -> None:
    """Of the same function; measured over four networks: differences of each are chance, up to 6 dB."""
    difference = []
    for seed in range(4):
        graph = build(FloatNet(seed))
        result, alike = quantized(graph), quantized(dense(graph))
        assert {node.groups for node in of_kind(alike.nodes, Conv)} == {1}
        assert [node.groups for node in of_kind(result.nodes, Conv)] == [
            conv.groups for conv in folded(graph).convolutions[:-1]
        ]
        difference.append(logits_sqnr(graph, result, OTHERS) - logits_sqnr(graph, alike, OTHERS))
    assert np.mean(difference) > -1 and min(difference) > -8


@pytest.mark.slow
def test_torch_networks_with_groups() -> None:
    torch.manual_seed(0)
    module = InvertedResidual()
    for index in range(10):  # statistics for the normalization
        module(torch.from_numpy(PREPROCESSING.normalize(natural_images(8, PREPROCESSING.size, index))))
    graph = from_torch(module, PREPROCESSING.size, "net")
    result = quantized(graph)
    assert [node.groups for node in of_kind(result.nodes, Conv)] == [1, 1, 32, 1, 4]
    reference = logits(module, OTHERS, PREPROCESSING)
    ratio = sqnr_db(reference, result.logits(oracle.run(result, OTHERS)))
    assert ratio is not None and ratio > 30


@pytest.mark.slow
@pytest.mark.parametrize("build", [simple_bypass, residual, pooled_bypass, depthwise])
def test_a_smaller_largest_shift_still_works(
    build: Callable[[FloatNet], FloatGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build(FloatNet(0))
    monkeypatch.setattr(rules, "MAX_SHIFT", 8)
    result = quantized(graph)  # built: the rules hold
    assert max(_shifts(result)) == 8
    assert logits_sqnr(graph, result, OTHERS) > 20


@pytest.mark.slow
def test_a_larger_largest_shift_is_used_where_the_data_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum over thousands of inputs of one sign is far larger than any of its terms."""
    net = FloatNet(0)
    bright = net.relu(net.add_conv(IMAGE, net.rng.uniform(0.5, 1, (24, 3, 1, 1)), np.full(24, 6)))
    summed = net.relu(net.add_conv(bright, net.rng.uniform(0.9, 1, (8, 24, 9, 9)), np.zeros(8)))
    graph = net.classifier(net.add(summed, net.conv(summed, 8)))
    largest = []
    for limit in (15, 18):
        monkeypatch.setattr(rules, "MAX_SHIFT", limit)
        result = quantized(graph)
        largest.append(max(_shifts(result)))
        assert logits_sqnr(graph, result, OTHERS) > 30
    assert largest[0] == 15 < largest[1] <= 18


def _shifts(graph: IntegerGraph) -> list[int]:
    """The largest shift of every convolution and addition."""
    nodes: list[Conv | Add] = [*of_kind(graph.nodes, Conv), *of_kind(graph.nodes, Add)]
    return [int(node.shift.max()) for node in nodes]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11), st.sampled_from([2, 8, 18]))
def test_every_network_has_a_solution_whatever_the_largest_shift(seed: int, blocks: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "MAX_SHIFT", limit)
        result = quantize(random_net(seed, blocks), PREPROCESSING, CALIBRATION[:6], name="net")
        assert max([0, *_shifts(result)]) <= limit


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11), st.sampled_from([0, 0.2]))
def test_every_network_has_a_solution(seed: int, blocks: int, extra_macs: float) -> None:
    graph = random_net(seed, blocks)
    result = quantize(graph, PREPROCESSING, CALIBRATION[:12], name="net", effort=Effort(extra_macs=extra_macs))
    assert logits_sqnr(graph, result, CALIBRATION[:12]) > 15


@pytest.mark.slow
@pytest.mark.parametrize("size", [(35, 61), (64, 40)])
def test_torch_networks_of_odd_sizes(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    preprocessing = replace(PREPROCESSING, size=size)
    for name in ("squeezenet1_1_mindcv", "squeezenet1_0_simple_bypass"):
        module = registry.build(name, 5)
        graph = from_torch(module, size, name)
        result = quantized(graph, preprocessing)
        assert result.classes == 5
        assert logits_sqnr(graph, result, natural_images(6, size, 2), preprocessing) > 15


def test_extreme_weights_stay_within_r4() -> None:
    net = FloatNet(0)
    rng = net.rng
    weight = rng.normal(size=(6, 3, 3, 3)) * np.exp2(rng.uniform(-60, 20, (6, 1, 1, 1)))
    first = net.relu(net.add_conv(IMAGE, weight, np.array([1e6, -1e6, 1e-9, 0, 30, 1e3])))
    second = net.relu(net.add_conv(first, np.zeros((4, 6, 1, 1)), np.array([0, 1, -1, 1e5])))
    result = quantized(net.classifier(net.concat(first, second)))  # built: R1 to R6 hold
    assert np.isfinite(result.logits(oracle.run(result, OTHERS))).all()


def test_weights_that_were_trained_to_be_zero_stay_zero() -> None:
    net = FloatNet(0)
    sparse = [
        np.where(net.rng.random(shape) < 0.6, 0, net.rng.normal(size=shape)) for shape in ((8, 3, 3, 3), (6, 8, 1, 1))
    ]
    first = net.relu(net.add_conv(IMAGE, sparse[0], np.zeros(8), 2))
    result = quantized(net.graph(net.average(net.add_conv(first, sparse[1], np.zeros(6)))))
    for node, weight in zip(result.convolutions, sparse, strict=True):
        assert not node.weight.transpose(0, 3, 1, 2)[weight == 0].any() and node.weight.any()


def test_reports_every_layer_and_keeps_names() -> None:
    graph = simple_bypass(FloatNet(0))
    seen: list[tuple[str, int, int]] = []
    result = quantize(
        graph,
        PREPROCESSING,
        CALIBRATION[:4],
        name="named",
        labels=list("abcdefg"),
        on_layer=lambda *layer: seen.append(layer),
    )
    assert (result.name, result.labels) == ("named", tuple("abcdefg"))
    assert [index for _, index, _ in seen] == list(range(seen[0][2]))
    assert seen[-1][0] == result.head.name
    assert {name for name, _, _ in seen} <= {node.name for node in graph.nodes}


@pytest.mark.slow
def test_depends_on_nothing_but_its_arguments() -> None:
    graph = simple_bypass(FloatNet(1))
    torch.manual_seed(1)
    first = quantized(graph).digest()
    torch.manual_seed(2)
    assert quantized(graph).digest() == first
    assert torch.is_grad_enabled()
    fewer = quantize(graph, PREPROCESSING, CALIBRATION, name="net", effort=Effort(rows=500))
    assert fewer.digest() != first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TF32")
def test_depends_on_neither_threads_nor_kernels() -> None:
    """The libraries behind torch choose the order of sums by both."""
    graph, threads = complex_bypass(FloatNet(1)), torch.get_num_threads()

    def digest() -> str:
        effort = Effort(extra_macs=0.2)  # what chooses channels is part of it
        return quantize(graph, PREPROCESSING, CALIBRATION[:16], name="net", effort=effort).digest()

    expected = digest()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert digest() == expected
        with torch.backends.mkldnn.flags(enabled=False):
            assert digest() == expected
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_depends_on_no_instruction_set() -> None:
    """A processor of today, and what its libraries compute for older ones."""
    code = "import squeezeedge as sq; print(sq.quantize(sq.load(), count=16).integer.digest())"
    older = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    digests = set()
    for environment in ({"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "1", **older}):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def bias_of_a_channel(bias: float) -> FloatGraph:
    """A network with one channel of a bias."""
    net = FloatNet(0)
    first = net.relu(net.conv(IMAGE, 8, 3, 2))
    weight = net.rng.normal(0, 0.3, (8, 8, 3, 3))
    weight[3] /= 50  # so that -1 cuts it, too
    offset = np.full(8, 0.2)
    offset[3] = bias
    return net.classifier(net.fire(net.relu(net.add_conv(first, weight, offset)), 4, 6))


@pytest.mark.slow
def test_a_channel_that_its_relu_always_cuts_harms_nobody() -> None:
    remarks: list[str] = []
    ratios = []
    for bias in (-1.0, -1e2, -1e4):
        graph = bias_of_a_channel(bias)
        result = quantize(graph, PREPROCESSING, CALIBRATION, name="net", on_remark=remarks.append)
        ratios.append(logits_sqnr(graph, result, OTHERS))
    assert min(ratios[1:]) > ratios[0] - 1
    assert remarks and all("conv_1 (1 of 8)" in text for text in remarks), remarks


@pytest.mark.shared
def test_a_file_with_a_dead_channel(shared_file: Callable[[str], Path]) -> None:
    graph = from_onnx(shared_file("cases/onnx/dead_channel.onnx")).graph
    preprocessing = replace(IMAGENET, size=graph.input_size, resize=None)
    pixels, others = natural_images(16, graph.input_size), natural_images(8, graph.input_size, 1)
    result = quantize(graph, preprocessing, pixels, name="net")
    assert logits_sqnr(graph, result, others, preprocessing) > 45


@pytest.mark.shared
def test_a_network_that_overflows_is_refused(shared_file: Callable[[str], Path]) -> None:
    graph = from_onnx(shared_file("cases/onnx/nan_overflow.onnx")).graph
    preprocessing = replace(IMAGENET, size=graph.input_size, resize=None)
    with pytest.raises(SqueezeEdgeError, match="computes values that are not finite"):
        quantize(graph, preprocessing, natural_images(4, graph.input_size), name="net")


def test_copies_and_frames_of_a_still_camera_are_as_good_as_one_image() -> None:
    graph, remarks = complex_bypass(FloatNet(0)), list[str]()
    noise = np.random.default_rng(0).normal(0, 2, (16, *CALIBRATION.shape[1:]))
    frames = (CALIBRATION[0] + noise).clip(0, 255).astype(np.uint8)
    one = quantize(graph, PREPROCESSING, frames[:1], name="net")
    many = quantize(
        graph, PREPROCESSING, np.concatenate([frames[[0] * 16], frames]), name="net", on_remark=remarks.append
    )
    assert many.digest() == one.digest()
    assert "(32, 16 of them copies of others, 15 like others) show 1 different scene:" in remarks[0]


def test_a_map_too_large_for_its_class_sums_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """R6 leaves few steps for the weights; here less of its room is used in place of a map of thousands of pixels."""
    monkeypatch.setattr(pipeline, "HEAD_SHARE", 1e-4)
    net, remarks = FloatNet(0), list[str]()
    graph = net.graph(net.average(net.conv(net.relu(net.conv(IMAGE, 32)), 5)))
    quantize(graph, PREPROCESSING, CALIBRATION[:8], name="net", on_remark=remarks.append)
    assert len(remarks) == 1 and "conv_1: the class sums over a map of 23x27 pixels" in remarks[0]
    assert re.search("largest weight has [0-9]{1,2}[.][0-9] steps instead of 112", remarks[0])


def test_the_head_has_fewer_steps_than_other_layers() -> None:
    """Its weights are many and their rounding does little, so they are shorter in a file."""
    net = FloatNet(0)
    result = quantized(net.graph(net.average(net.conv(net.relu(net.conv(IMAGE, 32)), 50))))
    first, head = (np.abs(node.weight.astype(int)).max((1, 2, 3)) for node in result.nodes if hasattr(node, "weight"))
    assert 109 <= np.median(head) <= 114 and first.max() > 114


@pytest.mark.parametrize(("factor", "bias"), [(1e-9, 1.0), (1e-42, 0.0)])
def test_tiny_weights_of_the_head_are_told(factor: float, bias: float) -> None:
    """No smaller input would help; classes without a weight at all say nothing."""
    net, remarks = FloatNet(0), list[str]()
    graph = net.graph(net.average(net.conv(net.relu(net.conv(IMAGE, 32)), 5)))
    head = graph.nodes[-2]
    assert isinstance(head, FloatConv)
    weight = (head.weight * factor).astype(np.float32)
    weight[:2] = 0
    tiny = replace(head, weight=weight, bias=np.full_like(head.bias, bias))
    graph = replace(graph, nodes=(*graph.nodes[:-2], tiny, graph.nodes[-1]))
    quantize(graph, PREPROCESSING, CALIBRATION[:8], name="net", on_remark=remarks.append)
    (remark,) = remarks
    assert remark.startswith("conv_1: its weights are tiny (at most ") and f"biases up to {bias:.1e})" in remark


def test_one_class() -> None:
    net = FloatNet(3)
    graph = net.classifier(net.fire(net.relu(net.conv(IMAGE, 8, 3)), 4, 6), classes=1, linear=True)
    result = quantized(graph)
    assert result.classes == 1
    assert logits_sqnr(graph, result, OTHERS) > 20


@pytest.mark.slow
def test_one_image_is_enough() -> None:
    graph = residual(FloatNet(2))
    result = quantize(graph, PREPROCESSING, CALIBRATION[:1], name="net")
    assert logits_sqnr(graph, result, CALIBRATION[:1]) > 15


def test_bad_calibration_images() -> None:
    with pytest.raises(UsageError, match="no images"):
        quantize(complex_bypass(FloatNet(0)), PREPROCESSING, CALIBRATION[:0], name="net")
