"""Another order of the channels: the same sums, and fewer extra steps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from squeezeedge.artifact import write_artifact
from squeezeedge.graph import IMAGE, Conv, IntegerGraph
from squeezeedge.graph.oracle import execute, run
from squeezeedge.lower.legalize import legalize
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.chains import plan_chains
from squeezeedge.targets.cpu.channel_order import reordered
from squeezeedge.targets.cpu.device import Network
from squeezeedge.targets.device.run import Artifact
from tests.graphs import GraphBuilder, integer_graphs, random_images
from tests.targets.cpu.conftest import available

LANES = 8


def _graph(seed: int) -> IntegerGraph:
    """Every operator; runs that are tied by additions and depthwise convolutions, and some that cannot change."""
    builder = GraphBuilder(np.random.default_rng(seed), (9, 11))
    image = builder.conv(IMAGE, 24, (3, 3), padding=(1, 1, 1, 1))
    squeezed = builder.conv(builder.pool(image, (2, 2), (1, 1)), 12)
    fire = builder.concat([builder.conv(squeezed, 20), builder.conv(squeezed, 12, (3, 3), padding=(1, 1, 1, 1))])
    wide = builder.conv(builder.conv(fire, 32, zero_point=128), 32, (3, 3), padding=(1, 1, 1, 1), groups=32)
    added = builder.add(fire, wide, zero_point=128)
    odd = builder.concat([builder.conv(added, 7), builder.conv(added, 9)])
    return builder.finish(builder.add(odd, builder.conv(builder.add(added, wide), 16)), 5)


@pytest.mark.parametrize("lanes", [LANES, 2 * LANES])
def test_the_sums_are_the_same(lanes: int) -> None:
    graph = _graph(0)
    other, orders = reordered(graph, lanes)
    changed = [
        one.name
        for one, two in zip(graph.convolutions, other.convolutions, strict=True)
        if not np.array_equal(one.weight, two.weight)
    ]
    assert len(changed) >= 4
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run(other, images), run(graph, images))
    assert reordered(graph, lanes)[0].digest() == other.digest()
    expected = dict(execute(graph, images[0]))
    for name, values in execute(other, images[0]):
        np.testing.assert_array_equal(values, expected[name][..., orders[name]], name)


@settings(max_examples=25, deadline=None)
@given(graph=integer_graphs())
def test_random_graphs_have_the_same_sums(graph: IntegerGraph) -> None:
    _same_sums(legalize(graph, TARGET.supports))


def test_a_depthwise_head_fixes_the_order_of_what_it_reads() -> None:
    builder = GraphBuilder(np.random.default_rng(3), (9, 11))
    graph = builder.finish(builder.conv(builder.conv(IMAGE, 16), 8), 8)
    head = replace(graph.head, weight=graph.head.weight[..., :1], groups=8)
    _same_sums(replace(graph, nodes=(*graph.nodes[:-1], head)))


def _same_sums(graph: IntegerGraph) -> None:
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run(reordered(graph, LANES)[0], images), run(graph, images))


@pytest.mark.slow
def test_a_library_s_tensors_are_found_in_the_graph_s_order(tmp_path: Path) -> None:
    graph = _graph(0)
    images = random_images(graph, 1, 1)
    options = CpuOptions(isa=available("avx2"))
    artifact = write_artifact(graph, TARGET, options, tmp_path / "artifact", golden=images, source={})
    network = Network(Artifact(artifact.path))
    found, expected = dict(network.trace(images[0])), dict(execute(graph, images[0]))
    assert found.keys() | network.unseen().keys() == expected.keys()
    network.close()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], name)
    record = json.loads((artifact.path / "trace.json").read_text())
    assert any(len(place["runs"]) > 1 for place in record["tensors"]), "some are in another order in memory"


def _extra(graph: IntegerGraph) -> int:
    """Reduction steps beyond one for every four channels, of the second convolution."""
    weight = graph.convolutions[1].weight
    blocks = weight.reshape(len(weight) // LANES, LANES, -1, 4)
    return sum(len(plan.steps) - blocks.shape[2] for plan in plan_chains(blocks))


def test_heavy_channels_are_apart_and_heavy_outputs_together() -> None:
    """Every other output channel is heavy in half of the input channels, which stand side by side."""
    builder = GraphBuilder(np.random.default_rng(0), (3, 3))
    graph = builder.finish(builder.conv(builder.conv(IMAGE, 16), 16), 3)
    conv = graph.nodes[1]
    assert isinstance(conv, Conv)
    weight = np.ones((16, 1, 1, 16), np.int8)
    weight[::2, ..., :8] = 100
    nodes = (graph.nodes[0], replace(conv, weight=weight), *graph.nodes[2:])
    graph = replace(graph, nodes=nodes)
    assert _extra(graph) == 4
    assert _extra(reordered(graph, LANES)[0]) == 0
