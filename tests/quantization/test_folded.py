"""The folded graph: what it derives, and how it runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from squeezeedge.graph import IMAGE, rules
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.rules import Shape
from squeezeedge.quantization.folded import execute_folded, pad
from tests.quantization.networks import PREPROCESSING, FloatNet, dense, folded, folded_logits, natural_images

PIXELS = natural_images(3, PREPROCESSING.size)


def test_what_is_derived() -> None:
    net = FloatNet(0)
    first = net.relu(net.conv(IMAGE, 4, 3))
    second = net.conv(first, 4, 3, padding=1)
    graph = folded(net.classifier(net.concat(net.pool(net.add(first, second)), net.pool(second))))
    assert graph.shapes[IMAGE] == Shape(*PREPROCESSING.size, 3)
    assert graph.shapes["conv"] == Shape(21, 25, 4)
    assert graph.shapes["concat"] == Shape(10, 12, 8)
    unsigned, signed = rules.ZERO_POINTS
    assert [graph.zero_points[name] for name in (IMAGE, "conv", "conv_1", "add", "pool", "concat")] == [
        *(unsigned, unsigned),
        *(signed, signed, signed, signed),
    ]
    assert [conv.name for conv in graph.convolutions] == ["conv", "conv_1", "conv_2"]
    assert graph.head.name == "conv_2" and graph.rectified == {"conv": math.inf, "conv_2": math.inf}
    assert graph.scaled == ("conv", "conv_1", "add")
    assert graph.last_reader["conv_1"] == "pool_1" and graph.last_reader[IMAGE] == "conv"


def test_a_sum_with_a_relu_has_no_negatives() -> None:
    net = FloatNet(0)
    conv = net.conv(IMAGE, 4, 3)
    graph = folded(net.classifier(net.relu(net.add(conv, net.conv(IMAGE, 4, 3)))))
    assert graph.zero_points["add"] == rules.ZERO_POINTS[0] and "add" in graph.rectified
    assert [addition.name for addition in graph.additions] == ["add"]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_it_runs_as_the_float_network_does(groups: int) -> None:
    net = FloatNet(1)
    first = net.relu(net.conv(IMAGE, 6, 3, padding=1))
    graph = net.classifier(net.relu(net.add(net.conv(first, 6, 3, padding=1, groups=groups), first)))
    result = folded(graph)
    logits = folded_logits(result, PIXELS)
    np.testing.assert_allclose(logits, run_float(graph, PREPROCESSING.normalize(PIXELS)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, folded_logits(folded(dense(graph)), PIXELS), rtol=1e-4, atol=1e-5)
    shapes = {}
    with torch.no_grad():
        for node, value in execute_folded(result, torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float()):
            _, channels, height, width = value.shape
            shapes[node.name] = Shape(height, width, channels)
    assert shapes == {name: shape for name, shape in result.shapes.items() if name != IMAGE}


def test_pad() -> None:
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert pad(x, (0, 0, 0, 0), np.ones(1)) is x
    zeros, nines = pad(x, (1, 0, 0, 2), np.zeros(1)), pad(x, (1, 0, 0, 2), np.full(1, 9))
    assert zeros.tolist() == [[[[0, 0, 0, 0], [0, 1, 0, 0], [2, 3, 0, 0]]]]
    assert nines.tolist() == [[[[9, 9, 9, 9], [0, 1, 9, 9], [2, 3, 9, 9]]]]
