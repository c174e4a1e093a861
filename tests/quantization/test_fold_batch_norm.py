"""Batch normalization into convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.rewrite import of_kind
from tests.quantization.networks import FloatNet, dense, kinds, same_function


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


@pytest.mark.parametrize("groups", [2, 6])
@pytest.mark.parametrize("before", [False, True])
def test_norm_beside_a_grouped_convolution(groups: int, before: bool) -> None:
    net = FloatNet(4)
    first = net.relu(net.conv(IMAGE, 6, 3))
    made = net.conv(net.norm(first), 12, 3, groups=groups) if before else net.norm(net.conv(first, 12, 3, 1, 1, groups))
    graph = net.classifier(net.relu(made))
    result = fold_batch_norm(graph)
    assert kinds(result) == ["Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "GlobalAveragePool"]
    assert [conv.groups for conv in of_kind(result.nodes, FloatConv)] == [1, groups, 1]
    same_function(graph, result)
    for grouped, alike in zip(dense(result).nodes, fold_batch_norm(dense(graph)).nodes, strict=True):
        if isinstance(grouped, FloatConv) and isinstance(alike, FloatConv):
            np.testing.assert_allclose(grouped.weight, alike.weight, rtol=1e-6)
            np.testing.assert_allclose(grouped.bias, alike.bias, rtol=1e-5, atol=1e-6)
