"""Another order of the channels: the same sums, and fewer extra steps."""

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, Conv, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu.chains import plan_chains
from squeezeedge.targets.cpu.channel_order import reordered
from tests.graphs import GraphBuilder, random_images

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
    other = reordered(graph, lanes)
    changed = [
        one.name
        for one, two in zip(graph.convolutions, other.convolutions, strict=True)
        if not np.array_equal(one.weight, two.weight)
    ]
    assert len(changed) >= 4
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run(other, images), run(graph, images))
    assert reordered(graph, lanes).digest() == other.digest()


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
    assert _extra(reordered(graph, LANES)) == 0
