"""Every ReLU behind the convolution or addition that makes its input."""

from __future__ import annotations

import math

import pytest

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import FloatConv, FloatGraph, FloatRelu
from squeezeedge.quantization.average_convolution import average_convolution
from squeezeedge.quantization.place_relu import place_relu
from squeezeedge.quantization.rewrite import of_kind
from tests.quantization.networks import FloatNet, folded, kinds, same_function


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


def test_an_average_behind_a_relu_has_no_negatives() -> None:
    net = FloatNet(11)
    first = net.conv(IMAGE, 4)
    graph = net.classifier(net.average_pool(net.average_pool(net.relu(first), 3, 1, 1)))
    placed = place_relu(average_convolution(graph))
    assert kinds(placed)[:6] == ["Conv", "Relu"] * 3
    same_function(graph, placed)
    assert not any(folded(graph).zero_points.values())
    signed = net.classifier(net.average_pool(first))
    assert kinds(place_relu(average_convolution(signed)))[:3] == ["Conv", "Conv", "Conv"]


def test_relu_moves_to_a_grouped_convolution() -> None:
    net = FloatNet(10)
    graph = net.classifier(net.relu(net.pool(net.depthwise(net.conv(IMAGE, 4)))))
    placed = place_relu(graph)
    assert kinds(placed)[:4] == ["Conv", "Conv", "Relu", "MaxPool"]
    same_function(graph, placed)


def limits(graph: FloatGraph) -> list[float]:
    return [node.limit for node in of_kind(graph.nodes, FloatRelu)]


def test_a_limit_moves_over_pooling_and_concatenation() -> None:
    net = FloatNet(7)
    parts = [net.conv(IMAGE, 4), net.conv(IMAGE, 3, 3, padding=1)]
    graph = net.classifier(net.relu(net.pool(net.concat(*parts)), 1))
    placed = place_relu(graph)
    assert kinds(placed)[:6] == ["Conv", "Relu", "Conv", "Relu", "Concat", "MaxPool"]
    assert limits(placed)[:2] == [1, 1]
    same_function(graph, placed)
    assert [conv.limit for conv in folded(graph).convolutions] == [1, 1, math.inf]


@pytest.mark.parametrize(("first", "second", "copies"), [(math.inf, 1.0, 1), (2.0, 1.0, 1), (1.0, 1.0, 0)])
def test_readers_of_other_limits_get_a_copy(first: float, second: float, copies: int) -> None:
    net = FloatNet(8)
    conv = net.conv(IMAGE, 4, 3)
    graph = net.classifier(net.concat(net.relu(conv, first), net.pool(net.relu(conv, second), 1, 1)))
    placed = place_relu(graph)
    assert limits(placed)[:-1] == [first, *[second] * copies]
    assert [node.groups for node in of_kind(placed.nodes, FloatConv)] == [1, *[4] * copies, 1]
    same_function(graph, placed)


@pytest.mark.parametrize(("limit", "left"), [(3.0, [1, 1]), (2.0, [1, 1]), (1.5, [1, 1, 1.5])])
def test_a_limit_that_a_tensor_never_reaches_disappears(limit: float, left: list[float]) -> None:
    net = FloatNet(9)
    first, second = (net.relu(net.conv(IMAGE, 4), 1) for _ in range(2))
    graph = net.classifier(net.relu(net.add(net.pool(first, 1, 1), second), limit))
    placed = place_relu(graph)
    assert limits(placed)[:-1] == left
    same_function(graph, placed)


def test_a_limit_behind_an_addition_is_that_of_a_copy() -> None:
    net = FloatNet(10)
    graph = net.classifier(net.relu(net.add(net.conv(IMAGE, 4), net.conv(IMAGE, 4)), 1))
    placed = place_relu(graph)
    assert kinds(placed)[:6] == ["Conv", "Conv", "Add", "Relu", "Conv", "Relu"]
    assert limits(placed)[:2] == [math.inf, 1]
    same_function(graph, placed)
