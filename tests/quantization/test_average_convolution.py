"""Average pooling as a convolution."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.quantization.average_convolution import average_convolution
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from tests.quantization.networks import FloatNet, kinds, same_function


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (5, 3, 2), (1, 2, 0)])
def test_averages_become_depthwise_convolutions(kernel: int, stride: int, padding: int) -> None:
    net = FloatNet(0)
    graph = net.classifier(net.average_pool(net.conv(IMAGE, 5, 3), kernel, stride, padding))
    result = average_convolution(graph)
    assert kinds(result) == ["Conv", "Conv", "Conv", "Relu", "GlobalAveragePool"]
    assert [node.name for node in result.nodes] == [node.name for node in graph.nodes]
    average = result.nodes[1]
    assert isinstance(average, FloatConv) and average.groups == 5 and not average.bias.any()
    np.testing.assert_array_equal(average.weight, np.full((5, 1, kernel, kernel), np.float32(1 / kernel**2)))
    same_function(graph, result)


def test_averages_of_the_image_and_at_the_end() -> None:
    net = FloatNet(1)
    graph = net.graph(net.average(net.average_pool(net.conv(net.average_pool(IMAGE, 3, 1, 1), 4))))
    result = average_convolution(graph)
    assert kinds(result) == ["Conv", "Conv", "Conv", "GlobalAveragePool"]
    same_function(graph, result)


def test_the_rest_is_as_it_was() -> None:
    net = FloatNet(2)
    first = net.pool(net.norm(net.relu(net.conv(IMAGE, 4))))
    graph = net.classifier(net.concat(net.add(first, first), first), linear=True)
    assert average_convolution(graph).nodes == graph.nodes


def test_a_norm_behind_an_average_goes_into_it() -> None:
    net = FloatNet(3)
    graph = net.classifier(net.norm(net.average_pool(net.relu(net.conv(IMAGE, 4)))))
    result = fold_batch_norm(average_convolution(graph))
    assert kinds(result) == ["Conv", "Relu", "Conv", "Conv", "Relu", "GlobalAveragePool"]
    same_function(graph, result)
