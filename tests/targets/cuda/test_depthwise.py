"""Depthwise convolutions in every tile, against the oracle; no two threads race, nothing is read outside a buffer."""

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cuda import depthwise
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.tiling import CHANNEL_TILES, ChannelPlan, ChannelTile
from tests.graphs import GraphBuilder, random_images
from tests.targets.cuda.emulation import run_loops


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    """Depthwise convolutions of the image, of few and of many channels, beside others, over a whole map and as head."""
    builder = GraphBuilder(np.random.default_rng(1), (9, 11))
    image = builder.conv(IMAGE, 3, (3, 3), (2, 1), (1, 1, 1, 1), 128, groups=3)
    dense = builder.conv(IMAGE, 42, (2, 3), (2, 1), (1, 1, 0, 1), zero_point=128)
    first = builder.conv(dense, 42, (3, 3), padding=(1, 1, 1, 1), zero_point=128, groups=42)
    joined = builder.concat([image, first, builder.conv(dense, 18, zero_point=128), builder.conv(dense, 42, zero_point=128, groups=42)])
    value = builder.conv(joined, 105, (5, 5), (2, 2), (2, 1, 1, 2), zero_point=128, groups=105)
    beside = builder.conv(value, 105, (1, 1), groups=105)
    whole = builder.conv(beside, 105, builder.tensors[beside].shape[:2], groups=105)
    again = builder.conv(whole, 105, (3, 3), padding=(2, 1, 2, 1), groups=105)
    return builder.finish(again, 105, (3, 2), (1, 1), (1, 1, 1, 1), groups=105)


def test_none_becomes_dense(graph: IntegerGraph) -> None:
    macs = sum(launch.kernel.macs for launch in graph_launches(graph))
    assert sum(map(is_depthwise, graph.convolutions)) == 8 and macs < 2e6
