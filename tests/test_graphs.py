"""The random graphs of :mod:`tests.graphs` use every rule, or the tests that draw them prove little."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, rules
from squeezeedge.graph.oracle import execute, run
from tests.graphs import TOPOLOGIES, largest_shift_graph, random_graph, random_images, squeezenet_graph

SEEDS = 100
DIGESTS = "96c1349ece3dde309b3f96cd2af53f9d82238b1bf5de1a5c5d13a338f05186f7"
"""Of the first twenty graphs without groups; golden files of other tests depend on them."""


@pytest.fixture(scope="module")
def graphs() -> list[IntegerGraph]:
    return [random_graph(seed) for seed in range(SEEDS)]


def test_a_seed_decides_everything() -> None:
    assert random_graph(7).digest() == random_graph(7).digest() != random_graph(8).digest()
    assert random_graph(7, groups=False).digest() == random_graph(7, groups=False).digest()
    np.testing.assert_array_equal(random_images(random_graph(7), 2, 1), random_images(random_graph(7), 2, 1))


def test_every_feature_is_drawn(graphs: list[IntegerGraph]) -> None:
    found: Counter[str] = Counter()
    shifts: set[int] = set()
    for graph in graphs:
        made_by = {node.name: node for node in graph.nodes}
        readers = Counter(name for node in graph.nodes for name in set(node.inputs))
        found["read by several"] += max(readers.values()) > 1
        found["not square"] += graph.input_shape[0] != graph.input_shape[1]
        for node in graph.nodes:
            zero_points = {graph.tensors[name].zero_point for name in node.inputs}
            found[f"{type(node).__name__} of {sorted(zero_points)}"] += 1
            if isinstance(node, Conv | Head):
                inputs, kind = graph.tensors[node.input].channels, type(node).__name__
                found[f"{kind} with groups"] += 1 < node.groups < inputs
                found[f"{kind} depthwise"] += 1 < node.groups == inputs
                found[f"{kind} depthwise with more outputs"] += 1 < node.groups == inputs < len(node.bias)
                found[f"{kind} depthwise with a larger kernel"] += (
                    1 < node.groups == inputs and node.weight.size > inputs
                )
                found["groups on the image"] += node.input == IMAGE and node.groups > 1
            if isinstance(node, Conv | Head | MaxPool):
                kernel = node.kernel if isinstance(node, MaxPool) else node.weight.shape[1:3]
                kind = "pool" if isinstance(node, MaxPool) else "conv"
                found[f"{kind} kernel not square"] += kernel[0] != kernel[1]
                found[f"{kind} stride not square"] += node.stride[0] != node.stride[1]
                found[f"{kind} pads"] += any(node.padding)
                found[f"{kind} pads not symmetric"] += node.padding[:2] != node.padding[2:]
                found[f"{kind} stride 3"] += node.stride == (3, 3)
            if isinstance(node, Conv):
                shifts.update(node.shift.tolist())
                found[f"conv to {node.zero_point}"] += 1
                found["channels not a multiple of 16"] += len(node.bias) % 16 != 0
                found["pad value on the image"] += (
                    node.input == IMAGE and any(node.padding) and bool(node.pad_value.any())
                )
                found["7x7"] += node.weight.shape[1:3] == (7, 7)
            if isinstance(node, MaxPool):
                found[f"ceil mode {node.ceil_mode}"] += 1
            if isinstance(node, Concat):
                found[f"concatenation of {len(node.inputs)}"] += 1
                found["concatenation of concatenations"] += any(
                    isinstance(made_by.get(name), Concat) for name in node.inputs
                )
                found["one tensor twice"] += len(set(node.inputs)) < len(node.inputs)
            if isinstance(node, Add):
                found[f"addition to {node.zero_point}"] += 1
                found["addition with shifts"] += bool(node.shift.any())
            if isinstance(node, Head):
                found[f"head relu {node.relu}"] += 1
                found["head 3x3"] += node.weight.shape[1:3] == (3, 3)
    expected = [f"concatenation of {count}" for count in (2, 3, 4)]
    expected += [f"Add of {zero_points}" for zero_points in ([0], [0, 128], [128])]
    expected += [f"{op} of [{zero_point}]" for op in ("Conv", "MaxPool", "Concat", "Head") for zero_point in (0, 128)]
    assert [name for name in expected if not found[name]] == []
    assert [name for name, count in found.items() if not count] == []
    assert shifts == set(range(rules.MAX_SHIFT + 1))


@pytest.mark.slow
def test_without_groups_a_seed_draws_what_it_always_drew() -> None:
    graphs = [random_graph(seed, groups=False) for seed in range(20)]
    assert all(conv.groups == 1 for graph in graphs for conv in graph.convolutions)
    digests = "".join(graph.digest() for graph in graphs)
    assert hashlib.sha256(digests.encode()).hexdigest() == DIGESTS


@pytest.mark.slow
@pytest.mark.parametrize("limit", [15, 8, 18])
def test_the_largest_shift_is_the_rules(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    shifts = [node.shift.max() for seed in range(80) for node in random_graph(seed).nodes if isinstance(node, Conv)]
    assert max(shifts) == limit
    graphs = [largest_shift_graph(seed) for seed in range(10)]
    for graph in graphs:
        assert [int(node.shift.max()) for node in graph.nodes if isinstance(node, Conv | Add)] == [limit] * 4
    assert sum(len(np.unique(run(graph, random_images(graph, 3, 0)), axis=0)) == 3 for graph in graphs) >= 8


def test_outputs_spread(graphs: list[IntegerGraph]) -> None:
    """A ReLU makes half of the values 0; beyond that, few outputs stick to the ends of the range."""
    inside = []
    for graph in graphs[:40]:
        for name, value in execute(graph, random_images(graph, 1, 0)[0]):
            if name != graph.head.name:
                inside.append(((value > 0) & (value < 255)).mean())
    assert np.mean(inside) > 0.5


@pytest.mark.parametrize("name", [name for name in TOPOLOGIES if name != "resnet18"])
def test_topologies(name: str) -> None:
    graph = squeezenet_graph(name, (47, 64), 9, seed=1)
    convolutions = sum(isinstance(node, Conv | Head) for node in graph.nodes)
    additions = sum(isinstance(node, Add) for node in graph.nodes)
    assert graph.classes == 9 and graph.input_shape == (47, 64, 3)
    assert convolutions == 26 + 4 * name.endswith("complex_bypass")
    assert additions == 4 * name.endswith("bypass") + 4 * name.endswith("complex_bypass")
