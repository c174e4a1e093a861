"""Preprocessing and ReLUs as parts of the nodes beside them; and what all passes before the quantization promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import (
    FloatAdd,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.float.run import run_float
from squeezeedge.quantization.convolution_head import convolution_head
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.place_relu import place_relu
from squeezeedge.quantization.rewrite import readers
from tests.quantization.networks import (
    PREPROCESSING,
    FloatNet,
    folded,
    folded_logits,
    natural_images,
    random_net,
    same_function,
)

PIXELS = natural_images(3, PREPROCESSING.size)
NORMALIZED = PREPROCESSING.normalize(PIXELS)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_every_pass_keeps_the_function(seed: int, blocks: int) -> None:
    graph = random_net(seed, blocks)
    for change in (fold_batch_norm, convolution_head, place_relu):
        changed = change(graph)
        same_function(graph, changed)
        graph = changed
    reference = run_float(graph, NORMALIZED)
    logits = folded_logits(fold(graph, PREPROCESSING), PIXELS)
    np.testing.assert_allclose(logits, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_what_the_passes_guarantee(seed: int, blocks: int) -> None:
    graph = fold_batch_norm(random_net(seed, blocks))
    assert not any(isinstance(node, FloatBatchNorm) for node in graph.nodes)
    graph = place_relu(convolution_head(graph))
    read_by, made_by = readers(graph.nodes), {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        assert not isinstance(node, FloatLinear)
        if isinstance(node, FloatRelu):
            assert isinstance(made_by[node.inputs[0]], FloatConv | FloatAdd)
            assert read_by[node.inputs[0]] == [node]
    assert isinstance(graph.nodes[-1], FloatGlobalAveragePool)
    result = fold(graph, PREPROCESSING)
    for node in result.nodes:
        if isinstance(node, FloatConcat):
            assert len({result.zero_points[name] for name in node.inputs}) == 1
        if not isinstance(node, FloatConv | FloatMaxPool):
            assert IMAGE not in node.inputs
        if isinstance(node, FloatConv) and node.inputs[0] != IMAGE:
            assert not node.pad_value.any()


def test_padded_first_convolution_pads_the_mean_pixel() -> None:
    net = FloatNet(10)
    graph = folded(net.classifier(net.conv(IMAGE, 4, 3, padding=1)))
    first = graph.nodes[0]
    assert isinstance(first, FloatConv)
    np.testing.assert_allclose(first.pad_value, 255 * np.array(PREPROCESSING.mean), rtol=1e-6)


def test_concatenation_of_both_signs_copies_the_nonnegative_operand() -> None:
    net = FloatNet(11)
    graph = net.classifier(net.concat(net.relu(net.conv(IMAGE, 4)), net.conv(IMAGE, 3)))
    result = folded(graph)
    assert [type(node).__name__ for node in result.nodes] == ["FoldedConv"] * 3 + ["FloatConcat", "FoldedConv"]
    assert result.zero_points["concat"] == 128


def test_image_beside_convolutions_is_copied() -> None:
    net = FloatNet(12)
    graph = net.classifier(net.concat(net.pool(IMAGE, 1, 1), net.add(IMAGE, net.conv(IMAGE, 3))))
    np.testing.assert_allclose(folded_logits(folded(graph), PIXELS), run_float(graph, NORMALIZED), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1])
def test_grouped_convolutions_of_the_image_take_the_preprocessing_in(padding: int) -> None:
    net = FloatNet(13)
    depthwise = net.conv(IMAGE, 6, 3, padding=padding, groups=3)
    pooled = net.conv(net.pool(IMAGE, 1, 1), 3, 3, padding=padding, groups=3)
    graph = net.classifier(net.concat(depthwise, pooled))
    result = folded(graph)
    np.testing.assert_allclose(folded_logits(result, PIXELS), run_float(graph, NORMALIZED), rtol=1e-4, atol=1e-4)
    assert len(result.convolutions[0].pad_value) == 3 and result.convolutions[0].groups == 3
