"""Gradients of the logits, of exact sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from squeezeedge.graph import IMAGE
from squeezeedge.quantization.folded import FoldedGraph, execute_folded, pad
from squeezeedge.quantization.sensitivity import probes
from tests.quantization.networks import PREPROCESSING, FloatNet, folded, natural_images

IMAGES = torch.from_numpy(natural_images(3, PREPROCESSING.size)).permute(0, 3, 1, 2).float()


def graph(groups: int) -> FoldedGraph:
    net = FloatNet(0)
    first = net.relu(net.conv(IMAGE, 8, 3, 2, 1))
    second = net.relu(net.conv(first, 12, 3, 2, 1, groups))
    return folded(net.classifier(net.conv(net.concat(net.pool(second, 2, 1), net.pool(second, 2, 1)), 6)))


@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_are_those_of_the_float_network(groups: int) -> None:
    network = graph(groups)
    first, second = (conv.name for conv in network.convolutions[:2])
    found = list(probes(network, IMAGES, [first, second], count=2, batch=2))
    assert [len(of_batch[first].value) for of_batch in found] == [2, 1]
    random = np.random.default_rng(0)
    for of_batch, part in zip(found, torch.split(IMAGES, 2), strict=True):
        with torch.no_grad():
            value = next(v for node, v in execute_folded(network, part) if node.name == first).clamp(0)
        torch.testing.assert_close(of_batch[first].value, value)
        value.requires_grad_()
        rest = value
        for node in network.convolutions[1:]:
            if node.name not in (first, second):
                rest = torch.cat([F.max_pool2d(rest, 2, 1)] * 2, 1) if rest.shape[1] == 12 else rest
            padded = pad(rest, node.padding, np.zeros(1))
            weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
            rest = F.conv2d(padded, weight, bias, node.stride, groups=node.groups)
            rest = rest.clamp(0) if node.relu else rest
        logits = rest.mean((2, 3))
        signs = torch.from_numpy(random.integers(0, 2, (2, *logits.shape)) * 2.0 - 1).float()
        for gradient, projection in zip(of_batch[first].gradients, signs, strict=True):
            (expected,) = torch.autograd.grad(logits, value, projection, retain_graph=True)
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
