"""Preprocessing and ReLUs as parts of the nodes beside them."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.graph.float.run import run_float
from tests.quantization.networks import PREPROCESSING, FloatNet, folded, folded_logits, natural_images

PIXELS = natural_images(3, PREPROCESSING.size)
NORMALIZED = PREPROCESSING.normalize(PIXELS)


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
def test_averages_of_the_image_take_the_preprocessing_in(padding: int) -> None:
    net = FloatNet(14)
    graph = net.classifier(net.average_pool(IMAGE, 3, 2, padding))
    result = folded(graph)
    np.testing.assert_allclose(folded_logits(result, PIXELS), run_float(graph, NORMALIZED), rtol=1e-4, atol=1e-4)
    assert result.convolutions[0].pad_value.all() and result.zero_points["average_pool"] == 128


@pytest.mark.parametrize("padding", [0, 1])
def test_grouped_convolutions_of_the_image_take_the_preprocessing_in(padding: int) -> None:
    net = FloatNet(13)
    depthwise = net.conv(IMAGE, 6, 3, padding=padding, groups=3)
    pooled = net.conv(net.pool(IMAGE, 1, 1), 3, 3, padding=padding, groups=3)
    graph = net.classifier(net.concat(depthwise, pooled))
    result = folded(graph)
    np.testing.assert_allclose(folded_logits(result, PIXELS), run_float(graph, NORMALIZED), rtol=1e-4, atol=1e-4)
    assert len(result.convolutions[0].pad_value) == 3 and result.convolutions[0].groups == 3
