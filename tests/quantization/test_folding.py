"""The passes over the float graph: fold_batch_norm, convolution_head, place_relu, fold."""

from collections.abc import Callable

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
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.float.run import run_float
from squeezeedge.quantization.convolution_head import convolution_head
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.folded import FoldedGraph
from squeezeedge.quantization.place_relu import place_relu
from squeezeedge.quantization.rewrite import readers
from tests.quantization.networks import PREPROCESSING, FloatNet, folded_logits, natural_images, random_net

PIXELS = natural_images(3, PREPROCESSING.size)
NORMALIZED = PREPROCESSING.normalize(PIXELS)


def kinds(graph: FloatGraph) -> list[str]:
    return [type(node).__name__.removeprefix("Float") for node in graph.nodes]


def same_function(first: FloatGraph, second: FloatGraph) -> None:
    reference = run_float(first, NORMALIZED)
    np.testing.assert_allclose(run_float(second, NORMALIZED), reference, rtol=0, atol=1e-5 * np.abs(reference).max())


def folded(graph: FloatGraph) -> FoldedGraph:
    return fold(place_relu(convolution_head(fold_batch_norm(graph))), PREPROCESSING)


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


def test_norm_after_a_convolution_disappears() -> None:
    net = FloatNet(0)
    graph = net.classifier(net.relu(net.norm(net.conv(IMAGE, 5, 3, padding=1))))
    assert kinds(fold_batch_norm(graph)) == ["Conv", "Relu", "Conv", "Relu", "GlobalAveragePool"]
    same_function(graph, fold_batch_norm(graph))


def test_norm_before_convolutions_goes_into_all_of_them() -> None:
    net = FloatNet(1)
    normed = net.norm(net.relu(net.conv(IMAGE, 5, 3)))
    graph = net.classifier(net.concat(net.conv(normed, 4), net.conv(normed, 3)))
    assert "BatchNorm" not in kinds(fold_batch_norm(graph))
    assert kinds(fold_batch_norm(graph)).count("Conv") == 4
    same_function(graph, fold_batch_norm(graph))


def test_norm_before_a_padded_convolution_becomes_one() -> None:
    net = FloatNet(2)
    graph = net.classifier(net.conv(net.norm(net.relu(net.conv(IMAGE, 5, 3))), 4, 3, padding=1))
    assert kinds(fold_batch_norm(graph)).count("Conv") == 4
    same_function(graph, fold_batch_norm(graph))


def test_norm_of_a_convolution_that_is_also_read_without_it() -> None:
    net = FloatNet(3)
    conv = net.conv(IMAGE, 5, 3)
    graph = net.classifier(net.add(net.relu(net.norm(conv)), conv))
    same_function(graph, fold_batch_norm(graph))


def test_linear_moves_in_front_of_the_pooling() -> None:
    net = FloatNet(4)
    graph = net.classifier(net.relu(net.conv(IMAGE, 5, 3)), linear=True)
    head = convolution_head(graph)
    assert kinds(head) == ["Conv", "Relu", "Conv", "GlobalAveragePool"]
    assert head.nodes[-2].name == graph.nodes[-1].name
    same_function(graph, head)


@pytest.mark.parametrize(("channels", "classes", "merged"), [(40, 3, True), (2, 30, False)])
def test_linear_is_merged_with_a_linear_convolution_if_that_is_cheaper(
    channels: int, classes: int, merged: bool
) -> None:
    net = FloatNet(5)
    graph = net.classifier(net.conv(net.relu(net.conv(IMAGE, 9, 3)), channels), classes, linear=True)
    head = convolution_head(graph)
    assert kinds(head).count("Conv") == (2 if merged else 3)
    same_function(graph, head)


@pytest.mark.parametrize(
    ("build", "convolutions"),
    [
        (lambda net: net.pool(net.relu(net.conv(IMAGE, 4, 3))), 2),
        (lambda net: net.relu(net.conv(IMAGE, 4, 3)), 1),
        (lambda net: net.conv(IMAGE, 4, 3), 1),
        (lambda net: IMAGE, 1),
    ],
)
def test_networks_that_do_not_end_in_a_convolution_get_one(build: Callable[[FloatNet], str], convolutions: int) -> None:
    net = FloatNet(6)
    graph = net.graph(net.average(build(net)))
    head = convolution_head(graph)
    assert kinds(head).count("Conv") == convolutions
    same_function(graph, head)


def test_relu_moves_over_pooling_and_concatenation() -> None:
    net = FloatNet(7)
    parts = [net.conv(IMAGE, 4), net.conv(IMAGE, 3, 3, padding=1)]
    graph = net.classifier(net.relu(net.pool(net.concat(*parts))))
    placed = place_relu(graph)
    assert kinds(placed)[:6] == ["Conv", "Relu", "Conv", "Relu", "Concat", "MaxPool"]
    same_function(graph, placed)
    assert not any(folded(graph).zero_points.values())


def test_relu_of_a_tensor_that_is_also_read_without_it_is_copied() -> None:
    net = FloatNet(8)
    conv = net.conv(IMAGE, 4)
    graph = net.classifier(net.concat(conv, net.relu(conv)))
    placed = place_relu(graph)
    assert kinds(placed).count("Conv") == 3
    same_function(graph, placed)


def test_relu_of_what_has_no_negatives_disappears() -> None:
    net = FloatNet(9)
    first = net.relu(net.conv(IMAGE, 4))
    graph = net.classifier(net.relu(net.add(net.relu(net.pool(first, 1, 1)), first)))
    assert kinds(place_relu(graph)).count("Relu") == 2
    same_function(graph, place_relu(graph))


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
