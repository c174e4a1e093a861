"""Every tile computes the same, with the reduction in as many chunks as possible, and no two threads race."""

import numpy as np
import pytest

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cuda import convolution, tiling
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.tiling import TILES, Plan, Tile, divide
from tests.graphs import GraphBuilder, random_images
from tests.targets.cuda.emulation import run_loops


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    """A convolution of the image, one of a tensor, and the head, with channels and pixels that fill no tile."""
    builder = GraphBuilder(np.random.default_rng(1), (7, 9))
    first = builder.conv("image", 37, (5, 5), padding=(2, 2, 2, 2))
    return builder.finish(builder.conv(first, 44, (3, 3), (2, 1), (1, 1, 1, 1)), 35)


@pytest.mark.slow
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: "-".join(map(str, vars(tile).values())))
def test_every_tile(graph: IntegerGraph, tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(pixels: int, channels: int, steps: int) -> Plan:
        plan = divide(tile, steps)
        assert plan.steps == tile.warp_steps and plan.chunks == -(-steps // tile.warp_steps)
        return plan

    monkeypatch.setattr(tiling, "SHARED_BYTES", 0)
    monkeypatch.setattr(convolution, "choose_tile", choose)
    isa = (TENSOR_CORE, DOT_PRODUCT)[TILES.index(tile) % 2]
    images = random_images(graph, 2, 2)
    np.testing.assert_array_equal(run_loops(graph, images, isa, checked=True), run(graph, images))
