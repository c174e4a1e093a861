"""Where the error of an integer graph comes from, on networks whose errors are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import IMAGE, Conv, Head, IntegerGraph
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.quantization.attribution import LayerError, attribute
from squeezeedge.quantization.effort import Effort
from squeezeedge.quantization.pipeline import quantize
from tests.marks import first_quick
from tests.quantization.networks import PREPROCESSING, FloatNet, logits_sqnr, natural_images

PLAIN = Preprocessing(size=(4, 4), resize=None, mean=(0, 0, 0), std=(1 / 255,) * 3)
"""The network's input is the pixels themselves."""

PIXELS = np.random.default_rng(0).integers(0, 200, (5, 4, 4, 3)).astype(np.uint8)
NONE = (math.inf,) * 4


def exact() -> tuple[FloatGraph, IntegerGraph]:
    """A float network and the integer graph that is the same function: weights and scales are powers of two."""
    net = FloatNet(0, PLAIN.size)
    first = net.relu(net.add_conv(IMAGE, np.eye(3)[:, :, None, None], np.zeros(3)))
    graph = net.graph(net.average(net.add_conv(first, np.full((2, 3, 1, 1), 0.5), np.array([4, -8]))))
    names = [node.name for node in graph.nodes if node.name.startswith("conv")]
    none, padding = np.zeros(3, np.uint8), (0, 0, 0, 0)
    conv = Conv(
        names[0], IMAGE, (64 * np.eye(3)).astype(np.int8)[:, None, None], np.zeros(3, np.int32),
        np.full(3, 6, np.uint8), (1, 1), padding, none, 0, np.ones(3, np.float32),
    )  # fmt: skip
    head = Head(
        names[1], names[0], np.full((2, 1, 1, 3), 64, np.int8), np.array([512, -1024], np.int32), (1, 1), padding,
        none, False, np.full(2, 2**-7 / 16, np.float32),
    )  # fmt: skip
    return graph, IntegerGraph("net", (conv, head), PLAIN)


def ratios(floating: FloatGraph, graph: IntegerGraph) -> list[tuple[float, float, float, float]]:
    """Of every layer, then of the network: rounding, clipping, weights, together."""
    found = attribute(floating, graph, PIXELS)
    return [(of.rounding, of.clipping, of.weights, of.together) for of in (*found.layers, found.network)]


def test_a_network_without_errors() -> None:
    assert ratios(*exact()) == [NONE, NONE, NONE]


def test_every_kind_of_error_is_told_apart() -> None:
    floating, graph = exact()
    conv, head = graph.nodes
    assert isinstance(conv, Conv) and isinstance(head, Head)

    def changed(**values: object) -> list[tuple[float, float, float, float]]:
        nodes = (replace(conv, **values), head)  # type: ignore[arg-type]
        return ratios(floating, IntegerGraph("net", nodes, PLAIN))

    first, second, whole = changed(weight=conv.weight // 64 * 63)
    assert first[:2] == NONE[:2] and first[2] == whole[2] and second == NONE
    assert 34 < first[2] < 40 and abs(first[3] - first[2]) < 1, "1/64 is 36 dB; sums of it are rounded"
    coarse = {"shift": conv.shift + 2, "scale": conv.scale * 4}
    nodes = replace(conv, **coarse), replace(head, weight=head.weight // 4 * 4)  # type: ignore[arg-type]
    first, *_ = ratios(floating, IntegerGraph("net", nodes, PLAIN))
    assert first[1:3] == NONE[1:3] and 30 < first[0] < 60
    fine = {"shift": conv.shift - 1, "scale": conv.scale / 2}
    first, *_ = changed(**fine)
    assert (first[0], first[2]) == NONE[:2] and 0 < first[1] < 30, "values above 127.5 are clipped"


@pytest.mark.parametrize("extra_macs", first_quick([0.3, 0]))
def test_the_whole_network_is_what_the_oracle_computes(extra_macs: float) -> None:
    """Channels that are split are those of the float network."""
    net = FloatNet(1)
    squeezed = net.relu(net.conv(net.pool(net.relu(net.conv(IMAGE, 8, 3, 2, 1))), 4))
    wide = net.concat(net.relu(net.conv(squeezed, 8)), net.pool(squeezed, 3, 1, 1))
    graph = net.classifier(net.add(net.conv(wide, 6), net.relu(net.conv(wide, 6))))
    pixels = natural_images(16, PREPROCESSING.size)
    result = quantize(graph, PREPROCESSING, pixels, name="net", effort=Effort(extra_macs=extra_macs))
    seen: list[tuple[int, int]] = []
    found = attribute(graph, result, pixels, on_layer=lambda name, index, total: seen.append((index, total)))
    assert found.network.together == pytest.approx(logits_sqnr(graph, result, pixels), abs=0.01)
    assert [index for index, _ in seen] == list(range(seen[0][1]))
    assert [layer.name for layer in found.layers][-1] == result.head.name
    for layer in found.layers[:-1]:
        assert min(layer.rounding, layer.clipping, layer.weights) > 30 and layer.together > 28
    assert found.to_json()["layers"][-1]["rounding"] is None, "the head's sums are not rounded"


def test_other_networks_and_no_images_are_refused() -> None:
    floating, graph = exact()
    with pytest.raises(UsageError, match="no images"):
        attribute(floating, graph, PIXELS[:0])
    net = FloatNet(0, PLAIN.size)
    other = net.graph(net.average(net.conv(net.relu(net.conv(IMAGE, 4)), 2)))
    with pytest.raises(SqueezeEdgeError, match="was made of another"):
        attribute(other, graph, PIXELS)
    with pytest.raises(SqueezeEdgeError, match="was made of another network"):
        attribute(FloatNet(0, PLAIN.size).classifier(IMAGE), graph, PIXELS)


def test_shares_of_the_noise() -> None:
    """Powers, not decibels; without noise there are none, and where the signal is 0 neither."""
    shares = LayerError("a", 20, 20, 30, 17).shares
    assert shares == pytest.approx({"rounding": 10 / 21, "clipping": 10 / 21, "weights": 1 / 21})
    assert LayerError("a", math.inf, 40, math.inf, 40).shares == {"rounding": 0, "clipping": 1, "weights": 0}
    assert LayerError("a", *NONE).shares == {} == LayerError("a", -math.inf, 20, 20, -math.inf).shares
