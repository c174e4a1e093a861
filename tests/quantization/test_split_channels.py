"""Channels that become chains of pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Conv
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.quantization.attribution import attribute
from squeezeedge.quantization.effort import Effort
from squeezeedge.quantization.pipeline import quantize
from squeezeedge.quantization.scale_search import Grid
from squeezeedge.quantization.split_channels import Chain, chained, chains_of, macs, plan, split
from tests.marks import first_quick
from tests.quantization.networks import PREPROCESSING, FloatNet, folded, folded_logits, natural_images

CALIBRATION = natural_images(24, PREPROCESSING.size)
OTHERS = natural_images(12, PREPROCESSING.size, seed=1)


def narrow(seed: int = 0) -> FloatGraph:
    """Everything passes through four channels, whose rounding is thus most of the error."""
    net = FloatNet(seed)
    first = net.pool(net.relu(net.conv(IMAGE, 16, 3, 2, 1)))
    squeezed = net.relu(net.conv(first, 4))
    wide = net.concat(net.relu(net.conv(squeezed, 24)), net.relu(net.conv(squeezed, 24, 3, padding=1)))
    return net.classifier(net.concat(wide, net.pool(squeezed, 3, 1, 1)))


def test_a_split_network_computes_the_same_function() -> None:
    graph = folded(narrow())
    first, squeezed, *_ = (conv.name for conv in graph.convolutions)
    made = split(graph, {first: {5: (1, 1), 2: (3, 2, 1)}, squeezed: {0: (2, 0), 3: (1, 1)}})
    outputs = [len(conv.weight) for conv in made.graph.convolutions]
    assert outputs[:2] == [19, 6] and outputs[2:] == [len(conv.weight) for conv in graph.convolutions[2:]]
    assert made.chains[first] == (Chain((5, 16), (1, 1)), Chain((2, 17, 18), (3, 2, 1)))
    assert made.pieces[first].tolist() == [3 if c in (2, 17, 18) else 2 if c in (5, 16) else 1 for c in range(19)]
    expected = folded_logits(graph, OTHERS)
    np.testing.assert_allclose(folded_logits(made.graph, OTHERS), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("budget", first_quick([0.3, 0.02]))
def test_a_plan_keeps_within_its_budget_and_spends_it(budget: float) -> None:
    graph = folded(narrow())
    chosen = plan(graph, CALIBRATION, budget)
    assert 0.4 * budget < macs(split(graph, chosen).graph) / macs(graph) - 1 <= budget
    assert plan(graph, CALIBRATION, 0) == {}


def test_what_cannot_be_split_is_left_alone() -> None:
    """What an addition, a grouped convolution or a ReLU with a limit makes or reads, and the head."""
    net = FloatNet(0)
    limited = net.relu(net.conv(IMAGE, 8, 3, 2, 1), 6)
    added = net.relu(net.add(net.relu(net.conv(limited, 8)), net.conv(limited, 8)))
    grouped = net.relu(net.conv(net.relu(net.conv(added, 8)), 8, 3, 1, 1, 2))
    assert plan(folded(net.classifier(grouped)), CALIBRATION, 0.5) == {}


def test_pieces_of_a_chain_add_up_to_finer_steps() -> None:
    shift, octaves = 9, (3, 2, 0)
    grid = Grid(torch.tensor([0.5] * 4, dtype=torch.float64), torch.tensor([shift] * 4))
    weight = torch.arange(4.0, dtype=torch.float64)[:, None]
    _, bias, made = chained([Chain((1, 2, 3), octaves)], weight, torch.full((4,), 7.0, dtype=torch.float64), grid)
    assert made.shift.tolist() == [9, 6, 7, 9] and made.scale.tolist() == [0.5, 1 / 16, 1 / 8, 0.5]
    acc = torch.arange(-2000, 255 << shift)[:, None]
    k = made.shift[1:]
    codes = ((acc + bias[1:].long() + (1 << k >> 1)) >> k).clamp(0, 255)
    value, exact = (codes * made.scale[1:]).sum(1), ((acc[:, 0] + 7) * grid.step[0]).clamp(0)
    reach = 255 * 0.5 * torch.tensor([2.0**-octave for octave in octaves]).cumsum(0)
    for start, end, step in zip((0, *reach[:-1]), reach, made.scale[1:], strict=True):
        inside = (exact > start) & (exact < end)
        assert (value - exact)[inside].abs().max() <= step / 2


def test_a_shift_of_few_bits_is_split_as_far_as_it_goes() -> None:
    grid = Grid(torch.ones(2, dtype=torch.float64), torch.tensor([1, 1]))
    ones = torch.ones(2, 1, dtype=torch.float64)
    _, _, made = chained([Chain((0, 1), (3, 0))], ones, ones[:, 0], grid)
    assert made.shift.tolist() == [0, 1] and made.scale.tolist() == [0.5, 1]


@pytest.mark.slow
def test_splitting_makes_rounding_finer() -> None:
    """Of a network, not of each: what rounding does to a few logits is chance, too."""
    gains = []
    for seed in range(2):
        graph, rounding = narrow(seed), []
        for share in (0, 0.3):
            result = quantize(graph, PREPROCESSING, CALIBRATION, name="net", effort=Effort(extra_macs=share))
            rounding.append(attribute(graph, result, OTHERS).network.rounding)
        gains.append(rounding[1] - rounding[0])
    assert np.mean(gains) > 1


def test_chains_are_found_again_in_the_integer_graph() -> None:
    graph = narrow()
    result = quantize(graph, PREPROCESSING, CALIBRATION[:8], name="net", effort=Effort(extra_macs=0.2))
    original = {conv.name: len(conv.weight) for conv in folded(graph).convolutions}
    chosen = plan(folded(graph), CALIBRATION[:8], 0.2)
    for conv in result.convolutions:
        if isinstance(conv, Conv):
            chains = chains_of(conv, original[conv.name])
            assert sorted((chain[0], len(chain)) for chain in chains) == sorted(
                (channel, len(octaves)) for channel, octaves in chosen.get(conv.name, {}).items()
            )
            if chains:
                broken = replace(conv, bias=conv.bias + (np.arange(len(conv.bias)) == len(conv.bias) - 1))
                with pytest.raises(UnsupportedError, match="is no piece of another one"):
                    chains_of(broken, original[conv.name])
