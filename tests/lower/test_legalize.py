"""What legalization makes has no feature that was not asked for, and means the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.lower import legalize as module
from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import legalize
from tests.graphs import GraphBuilder, integer_graphs, random_graph, random_images


def _grouped(channels: int = 8, groups: int = 4, out: int = 8) -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(0), (6, 5))
    value = builder.conv(IMAGE, channels, (3, 3), (1, 1), (1, 1, 1, 1), name="first")
    value = builder.conv(value, out, (3, 2), (1, 1), (1, 0, 1, 1), name="grouped", groups=groups)
    return builder.finish(value, 4, groups=2, name="last")


@pytest.mark.slow
@given(integer_graphs(max_channels=12, max_size=12), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_every_tensor_and_sum_stays(graph: IntegerGraph, seed: int) -> None:
    legal = legalize(graph, ())
    assert all(conv.groups == 1 for conv in legal.convolutions)
    image = random_images(graph, 1, seed)[0]
    values = dict(execute(legal, image))
    for name, value in execute(graph, image):
        np.testing.assert_array_equal(values[name], value, err_msg=name)


@given(integer_graphs(max_channels=12, max_size=8))
@settings(max_examples=20, deadline=None)
def test_what_is_supported_stays(graph: IntegerGraph) -> None:
    assert legalize(graph, frozenset(Feature)) is graph


def test_a_graph_that_needs_nothing_is_itself() -> None:
    graph = random_graph(5, blocks=5, groups=False)
    assert legalize(graph, ()) is graph


def test_depthwise_is_a_feature_of_its_own() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (6, 5))
    value = builder.conv(IMAGE, 8, (3, 3), (1, 1), (1, 1, 1, 1), name="first")
    value = builder.conv(value, 8, (3, 3), (1, 1), (1, 1, 1, 1), name="depthwise", groups=8)
    value = builder.conv(value, 16, (3, 3), (1, 1), (1, 1, 1, 1), name="two_each", groups=8)
    graph = builder.finish(value, 4, groups=2, name="last")
    assert [node.groups for node in legalize(graph, (Feature.DEPTHWISE,)).convolutions] == [1, 8, 1, 1]
    assert [node.groups for node in legalize(graph, (Feature.GROUPS,)).convolutions] == [1, 1, 8, 2]


def test_dense_weights_hold_the_groups_on_their_diagonal() -> None:
    graph = _grouped()
    legal = legalize(graph, ())
    for before, after in zip(graph.convolutions[1:], legal.convolutions[1:], strict=True):
        outputs, inputs = len(before.weight) // before.groups, before.weight.shape[3]
        rest = after.weight.copy()
        for group in range(before.groups):
            rows = slice(group * outputs, (group + 1) * outputs)
            columns = slice(group * inputs, (group + 1) * inputs)
            np.testing.assert_array_equal(after.weight[rows, :, :, columns], before.weight[rows])
            rest[rows, :, :, columns] = 0
        assert not rest.any()
    assert legal.convolutions[0] is graph.convolutions[0]


def test_everything_beside_the_weights_is_kept() -> None:
    graph = replace(_grouped(), labels=("a", "b", "c", "d"))
    legal = legalize(graph, ())
    assert (legal.name, legal.labels, legal.preprocessing) == (graph.name, graph.labels, graph.preprocessing)
    for before, after in zip(graph.convolutions, legal.convolutions, strict=True):
        assert vars(after).keys() == vars(before).keys()
        for key, value in vars(before).items():
            if key not in ("weight", "groups"):
                np.testing.assert_array_equal(vars(after)[key], value)


def test_dense_weights_that_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _grouped()
    dense = 8 * 3 * 2 * 8
    monkeypatch.setattr(module, "MAX_DENSE_BYTES", dense + 4 * 8)
    legalize(graph, ())
    monkeypatch.setattr(module, "MAX_DENSE_BYTES", dense + 4 * 8 - 1)
    with pytest.raises(UnsupportedError, match=r"^last: its 2 groups become a dense convolution here, .* 416 bytes"):
        legalize(graph, ())
    monkeypatch.setattr(module, "MAX_DENSE_BYTES", dense - 1)
    with pytest.raises(UnsupportedError, match=r"^grouped: its 4 groups .* would take 384 bytes \(at most 383\); use"):
        legalize(graph, ())
    assert legalize(graph, (Feature.GROUPS,)) is graph


@pytest.mark.slow
def test_the_limit_comes_before_the_memory() -> None:
    """2**14 depthwise channels with a 1x2 kernel are 2**29 dense weights; the rules of a graph allow them."""
    builder = GraphBuilder(np.random.default_rng(0), (1, 2))
    value = builder.conv(IMAGE, 2**14, name="wide")
    graph = builder.finish(builder.conv(value, 2**14, (1, 2), name="depthwise", groups=2**14), 2)
    with pytest.raises(UnsupportedError, match=r"^depthwise: its 16384 groups"):
        legalize(graph, ())
