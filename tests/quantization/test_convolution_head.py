"""The network's end as one convolution and a pooling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from squeezeedge.graph import IMAGE
from squeezeedge.quantization.convolution_head import convolution_head
from tests.quantization.networks import FloatNet, kinds, same_function


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


@pytest.mark.parametrize("groups", [2, 12])
def test_linear_is_not_merged_with_a_grouped_convolution(groups: int) -> None:
    net = FloatNet(5)
    graph = net.classifier(net.conv(net.relu(net.conv(IMAGE, 12, 3)), 48, 3, groups=groups), 3, linear=True)
    head = convolution_head(graph)
    assert kinds(head).count("Conv") == 3
    same_function(graph, head)


@pytest.mark.parametrize(
    ("build", "convolutions"),
    [
        (lambda net: net.pool(net.relu(net.conv(IMAGE, 4, 3))), 2),
        (lambda net: net.relu(net.conv(IMAGE, 4, 3)), 1),
        (lambda net: net.relu(net.conv(IMAGE, 4, 3), 1), 2),
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
