"""Layers, costs, and what targets make of them; on networks small enough to count by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.evaluation.inspection import Inspection, inspect_float, inspect_integer
from squeezeedge.graph import IMAGE
from squeezeedge.lower.feature import Feature
from squeezeedge.quantization import passes
from squeezeedge.quantization.passes import folded_graph
from tests.graphs import GraphBuilder
from tests.quantization.networks import PREPROCESSING, FloatNet, random_net

TARGETS: dict[str, Any] = {
    "base": SimpleNamespace(supports=frozenset()),
    "able": SimpleNamespace(supports=frozenset({Feature.DEPTHWISE})),
}
"""FAKE: no more than what is looked at."""


def _told(found: Inspection) -> list[tuple[str, str, int, int]]:
    return [(layer.operator, "x".join(map(str, layer.shape)), layer.parameters, layer.macs) for layer in found.layers]


def test_a_float_network() -> None:
    net = FloatNet(0, (8, 10))
    first = net.relu(net.norm(net.conv(IMAGE, 4, 3, stride=2, padding=1)))
    wide = net.depthwise(first)
    value = net.add(net.average_pool(wide), net.pool(net.conv(first, 4, groups=2), 2, 2))
    found = inspect_float(net.classifier(value, linear=True), PREPROCESSING, TARGETS)
    assert found.input_shape == (8, 10, 3) and not found.refused
    assert _told(found) == [
        ("conv 3x3/2", "4x5x4", 112, 20 * 108),
        ("batch norm", "4x5x4", 8, 0),
        ("ReLU", "4x5x4", 0, 0),
        ("depthwise 3x3", "4x5x4", 40, 20 * 36),
        ("average 2x2/2", "2x2x4", 0, 16 * 4),
        ("conv 1x1 g2", "4x5x4", 12, 20 * 8),
        ("max pool 2x2/2", "2x2x4", 0, 0),
        ("add", "2x2x4", 0, 0),
        ("global average", "1x1x4", 0, 0),
        ("linear", "1x1x7", 35, 28),
    ]
    assert (found.parameters, found.macs) == (207, 2160 + 720 + 64 + 160 + 28)
    kinds = {how: [layer.operator for layer in layers] for how, layers in found.supported("base").items()}
    assert kinds["legalized"] == ["depthwise 3x3", "average 2x2/2", "conv 1x1 g2"] and not kinds["refused"]
    assert [layer.operator for layer in found.supported("able")["legalized"]] == ["conv 1x1 g2"]
    assert found.device_macs == found.macs + 3 * 28, "the classes are computed at each of four positions"
    assert found.macs_on("able") == found.device_macs + 160
    assert found.macs_on("base") == found.device_macs + 160 + 3 * (720 + 64)
    assert "0.0 become 0.0, because it is computed in front of the global average" in found.notes()[1]
    assert found.layers[2].folded and not found.layers[2].support
    assert "ReLU" in found.notes()[0] and "batch norm" in found.notes()[0]


def test_bytes_of_an_integer_graph() -> None:
    """One a value of a tensor and of a weight, four of a class sum."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 8))
    graph = builder.finish(builder.pool(builder.conv(IMAGE, 5, (3, 3), (2, 2))), 7)
    found = inspect_integer(graph, {}).layers
    assert [layer.integer["activation_bytes"] for layer in found] == [3 * 3 * 5, 5, 4 * 7]
    assert [layer.integer.get("weight_bytes") for layer in found] == [5 * 27, None, 5 * 7]


def test_every_layer_is_folded_or_supported() -> None:
    """And what the quantizer adds is told, so that nothing is missing."""
    for seed in range(6):
        graph = random_net(seed, 6)
        found = inspect_float(graph, PREPROCESSING, TARGETS)
        kept = {node.name for node in folded_graph(graph, PREPROCESSING).nodes}
        assert {layer.name for layer in found.layers if layer.support} | {layer.name for layer in found.added} == kept
        assert all(layer.folded != bool(layer.support) for layer in found.layers)


def test_what_cannot_be_expressed_is_told_with_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("relu: not today")

    monkeypatch.setattr(passes, "folded_graph", refuse)
    net = FloatNet(0, (8, 10))
    found = inspect_float(net.classifier(net.relu(net.conv(IMAGE, 4))), PREPROCESSING, TARGETS)
    assert len(found.layers) == 5 and found.refused == "relu: not today"
    assert not any(layer.support or layer.folded for layer in found.layers) and not found.notes()


def test_an_integer_graph() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 5))
    first = builder.conv(IMAGE, 8, (3, 3), (1, 1), (1, 1, 1, 1), zero_point=128, name="first")
    deep = builder.conv(first, 8, (3, 2), (2, 1), (1, 0, 1, 1), name="deep", groups=8, shift=9)
    graph = builder.finish(builder.pool(deep, (2, 2), (1, 1), name="pool"), 4, groups=2, name="last")
    found = inspect_integer(graph, TARGETS)
    assert [(name, shape) for name, shape, _, _ in _told(found)] == [
        ("conv 3x3", "6x5x8"),
        ("depthwise 3x2/2x1", "3x5x8"),
        ("max pool 2x2", "2x4x8"),
        ("head 1x1 g2", "1x1x4"),
    ]
    assert found.macs == graph.macs and found.parameters == 8 * 28 + 8 * 7 + 4 * 5
    first_layer, deep_layer, pool, last = (layer.to_json() for layer in found.layers)
    assert first_layer["zero_point"] == 128 and deep_layer["zero_point"] == pool["zero_point"] == 0
    assert deep_layer["shift_max"] >= 9 and deep_layer["weight_bytes"] == 48
    assert last["weight_bytes"] == 16 and "zero_point" not in last
    assert deep_layer["targets"]["base"] == {"how": "legalized", "into": "dense convolution", "factor": 8, "why": ""}
    assert deep_layer["targets"]["able"]["how"] == "native"


def test_additions_have_shifts() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 5))
    graph = builder.finish(builder.add(builder.conv(IMAGE, 4), builder.conv(IMAGE, 4)), 3)
    layers = [layer for layer in inspect_integer(graph, TARGETS).layers if layer.operator == "add"]
    keys = {"zero_point", "shift_min", "shift_max", "activation_bytes"}
    assert layers and all(layer.integer.keys() == keys for layer in layers)
