"""Another order or sign of the image's channels: the same network."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatMaxPool,
    FloatNode,
)
from squeezeedge.graph.float.image import with_channels
from squeezeedge.graph.float.run import run_float

RNG = np.random.default_rng(0)


def conv(name: str, source: str, out: int, channels: int = 3, groups: int = 1) -> FloatConv:
    weight = RNG.normal(size=(out, channels // groups, 3, 3)).astype(np.float32)
    return FloatConv(name, (source,), weight, RNG.normal(size=out).astype(np.float32), (1, 1), (1,) * 4, groups=groups)


def network(others: bool) -> FloatGraph:
    """Convolutions of the image, and, with ``others``, a depthwise one, a pooling and a concatenation of it."""
    nodes: list[FloatNode] = [conv("a", IMAGE, 4), conv("b", IMAGE, 4), FloatAdd("sum", ("a", "b"))]
    joined = ["sum"]
    if others:
        nodes += [
            conv("depthwise", IMAGE, 3, groups=3),
            FloatMaxPool("pool", (IMAGE,), (3, 3), (1, 1), (1,) * 4, False),
        ]
        joined += ["depthwise", "pool", IMAGE]
    nodes += [FloatConcat("all", tuple(joined)), FloatGlobalAveragePool("mean", ("all",))]
    return FloatGraph("net", tuple(nodes), (6, 7))


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(
    ("order", "signs"), [((2, 1, 0), (1, 1, 1)), ((0, 1, 2), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))]
)
def test_the_same_function(others: bool, order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    graph = network(others)
    changed = with_channels(graph, order, signs)
    old = RNG.normal(size=(2, 3, 6, 7)).astype(np.float32)
    new = np.empty_like(old)
    for channel in range(3):
        new[:, order[channel]] = signs[channel] * old[:, channel]
    np.testing.assert_allclose(run_float(changed, new), run_float(graph, old), rtol=1e-5, atol=1e-6)
    assert len(changed.nodes) == len(graph.nodes) + others, "convolutions are rewritten in place"
    assert with_channels(graph, (0, 1, 2)) is graph
