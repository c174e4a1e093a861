"""Depthwise convolutions in every tile, against the oracle; no two threads race, nothing is read outside a buffer."""

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import apply, run
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.options import TENSOR_CORE
from squeezeedge.targets.cuda.tiling import CHANNEL_TILES, ChannelTile
from tests.graphs import GraphBuilder, random_images
from tests.targets.cuda.channels import Pads, Pair, channel_kernel, layer
from tests.targets.cuda.emulation import run_kernel, run_loops

LAYERS: list[tuple[int, Pair, Pair, Pads, int, Pair]] = [
    # channels, kernel, stride, padding, zero point, channels beside
    (42, (3, 3), (1, 1), (1, 1, 1, 1), 0, (0, 0)),
    (19, (5, 5), (2, 2), (2, 1, 2, 2), 128, (7, 5)),
    (24, (2, 7), (1, 3), (1, 3, 0, 0), 128, (4, 3)),
    (5, (9, 4), (1, 1), (0, 0, 0, 2), 0, (8, 0)),
    (3, (9, 11), (1, 1), (0, 0, 0, 0), 0, (0, 0)),
]


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    """Depthwise convolutions of the image, of few and of many channels, beside others, over a whole map and as head."""
    builder = GraphBuilder(np.random.default_rng(1), (9, 11))
    image = builder.conv(IMAGE, 3, (3, 3), (2, 1), (1, 1, 1, 1), 128, groups=3)
    dense = builder.conv(IMAGE, 42, (2, 3), (2, 1), (1, 1, 0, 1), 128)
    first = builder.conv(dense, 42, (3, 3), padding=(1, 1, 1, 1), zero_point=128, groups=42)
    beside = [builder.conv(dense, 18, zero_point=128), builder.conv(dense, 42, zero_point=128, groups=42)]
    joined = builder.concat([image, first, *beside])
    value = builder.conv(builder.pool(joined, (2, 2), (1, 1)), 105, (5, 5), (2, 2), (2, 1, 1, 2), groups=105)
    pooled = builder.conv(builder.pool(value, (1, 2), (1, 2)), 105, groups=105)
    whole = builder.conv(pooled, 105, builder.tensors[pooled].shape[:2], zero_point=128, groups=105)
    again = builder.conv(whole, 105, (3, 3), padding=(2, 1, 2, 1), groups=105)
    return builder.finish(again, 105, (3, 2), (1, 1), (1, 1, 1, 1), groups=105)


def test_none_becomes_dense(graph: IntegerGraph) -> None:
    depthwise = sum(map(is_depthwise, graph.convolutions))
    assert depthwise == len(graph.convolutions) - 2
    assert sum(launch.kernel.macs for launch in graph_launches(graph)) < 1e6


@pytest.mark.slow
def test_every_place(graph: IntegerGraph) -> None:
    images = random_images(graph, 2, 2)
    np.testing.assert_array_equal(run_loops(graph, images, TENSOR_CORE, checked=True), run(graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("tile", CHANNEL_TILES, ids=lambda tile: "-".join(map(str, vars(tile).values())))
def test_every_tile(tile: ChannelTile) -> None:
    """With any kernel, beside other channels of its output, which it leaves alone."""
    number = CHANNEL_TILES.index(tile)
    for which in (number % len(LAYERS), (number + 2) % len(LAYERS)):
        channels, kernel, stride, padding, zero_point, (before, after) = LAYERS[which]
        conv, tensor = layer((9, 11), channels, kernel, stride, padding, zero_point)
        made, target = channel_kernel(conv, tensor, tile, before=before, after=after)
        images = np.random.default_rng(number).integers(0, 256, (2, *tensor.shape)).astype(np.uint8)
        pixel = made.inputs[0] // (tensor.height * tensor.width)
        memory = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, pixel - channels)), constant_values=77)
        got = run_kernel(made, [memory.ravel()], 2).reshape(2, *target.shape[:2], target.pixel)
        tensors = {"x": tensor, "conv": layer(target.shape[:2], channels, kernel)[1]}
        expected = np.stack([apply(conv, [image], tensors) for image in images])
        assert expected.std() > 20
        np.testing.assert_array_equal(got[..., before : before + channels], expected)
        assert (got[..., :before] == 0xAB).all()
        assert (got[..., before + channels : before + channels + after] == 0xAB).all()
