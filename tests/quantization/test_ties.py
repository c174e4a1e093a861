"""Scales that additions tie together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezeedge.graph import IMAGE, Add, IntegerGraph, rules
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.quantization.calibration import Calibration, observe
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.rewrite import of_kind
from squeezeedge.quantization.ties import Ties, tie_scales
from tests.quantization.networks import PREPROCESSING, FloatNet, folded, natural_images

PIXELS = natural_images(8, PREPROCESSING.size)


def unequal_sum(net: FloatNet) -> FloatGraph:
    """A sum of a large operand and a tiny one, which a convolution reads as well and so wants a scale of its own."""
    rng = net.rng
    large = net.add_conv(IMAGE, 1e4 * rng.normal(size=(6, 3, 3, 3)), np.zeros(6))
    weight = rng.normal(size=(6, 3, 3, 3)) * np.exp2(-np.arange(6.0))[:, None, None, None]
    tiny = net.add_conv(IMAGE, weight, np.zeros(6))
    beside = net.relu(net.conv(tiny, 6, gain=1e4))
    return net.classifier(net.concat(net.add(large, tiny), net.add(beside, tiny)))


def solved(floating: FloatGraph) -> Ties:
    graph = folded(floating)
    with torch.no_grad():
        return tie_scales(graph, observe(graph, Calibration(graph, PIXELS)))


def check_relation(graph: IntegerGraph) -> int:
    """R5's relation holds exactly; return the largest shift."""
    additions = of_kind(graph.nodes, Add)
    for node in additions:
        for name, shift in zip(node.inputs, node.shift, strict=True):
            np.testing.assert_array_equal(graph.tensors[name].scale * np.exp2(shift.astype(np.float32)), node.scale)
    return max(int(node.shift.max()) for node in additions)


@pytest.mark.parametrize("most", [0, 1, 2, 8, 15, 18])
def test_shifts_stay_within_the_rules(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", most)
    for seed in range(2):
        graph = quantize(unequal_sum(FloatNet(seed)), PREPROCESSING, PIXELS, name="net")  # built: the rules hold
        assert check_relation(graph) <= most


def test_a_larger_limit_is_used_where_operands_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    for most in (8, 15, 18):
        monkeypatch.setattr(rules, "MAX_SHIFT", most)
        largest.append(check_relation(quantize(unequal_sum(FloatNet(0)), PREPROCESSING, PIXELS, name="net")))
    assert largest[0] < largest[1] < largest[2] and largest[2] > 12


def test_what_nothing_ties_stays_free() -> None:
    net = FloatNet(1)
    first = net.relu(net.conv(IMAGE, 5, 3))
    second = net.relu(net.conv(first, 4))
    ties = solved(net.classifier(net.concat(net.add(second, net.conv(first, 4)), net.conv(first, 3))))
    assert set(ties.sums) == {"add"}
    assert set(ties.candidates) == {"conv_1", "conv_2"}
    assert not any(value.isnan().any() for value in ties.candidates.values())


def test_an_operand_that_only_the_sum_reads_gets_its_scale() -> None:
    net = FloatNet(2)
    first = net.relu(net.conv(IMAGE, 5, 3))
    ties = solved(net.classifier(net.add(net.conv(first, 5), first)))
    assert (ties.candidates["conv_1"] == ties.sums["add"]).all()
    assert len(np.unique(ties.candidates["conv"].numpy(), axis=0)) > 1, "another convolution reads this one"


def test_one_power_of_two_apart_through_concatenation_and_pooling() -> None:
    net = FloatNet(3)
    first = net.relu(net.conv(IMAGE, 4, 3, padding=1))
    total = net.add(net.pool(first, 3, 1, 1), net.conv(first, 4))
    wide = net.concat(total, net.relu(net.conv(total, 4)))
    ties = solved(net.classifier(net.add(wide, net.concat(first, first))))
    scales = torch.cat([*ties.sums.values(), *(value[0] for value in ties.candidates.values())])
    assert len(ties.sums) == 2 and len(scales) == 4 + 8 + 3 * 4
    for name in ("add", "add_1"):
        below = torch.log2(ties.sums[name][:4] / ties.candidates["conv"])
        assert torch.equal(below, below.round()) and (below >= 0).all()


def sum_with_a_channel(bias: float, signed: bool) -> FloatGraph:
    """A residual block, two in a row where ``signed``: one channel of its branch has a bias, a ReLU follows the sum."""
    net = FloatNet(4)
    first = net.relu(net.conv(IMAGE, 8, 3, 2))
    weight, offset = net.rng.normal(0, 0.3, (8, 8, 1, 1)), np.full(8, 0.2)
    weight[3] /= 50
    offset[3] = bias
    branch = net.add_conv(first, weight, offset)
    total = net.add(net.add(net.conv(first, 8, gain=0.1), branch), first) if signed else net.add(branch, first)
    return net.classifier(net.fire(net.relu(total), 4, 6))


@pytest.mark.parametrize("signed", [False, True])
def test_a_channel_that_the_relu_of_a_sum_always_cuts_harms_no_operand(signed: bool) -> None:
    scales = [solved(sum_with_a_channel(bias, signed)) for bias in (-100.0, -1e4)]
    for fewer, more in zip(*(ties.sums.values() for ties in scales), strict=True):
        assert (more[3] < 8 * fewer[3]).all()
    first = [ties.candidates["conv"][:, 3].max() for ties in scales]
    assert first[1] <= 8 * first[0]


@pytest.mark.parametrize("most", [2, 15])
def test_scales_of_tied_channels_obey_limits(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", most)
    net = FloatNet(5)
    wide = net.conv(IMAGE, 6, 3, gain=30)
    narrow = net.pool(net.relu(net.conv(IMAGE, 6, 3), 0.5), 3, 1, 1)
    graph = quantize(net.classifier(net.add(wide, narrow)), PREPROCESSING, PIXELS, name="net")
    assert check_relation(graph) <= most
    assert (graph.tensors["pool"].scale <= np.float32(0.5 / 255)).all()
