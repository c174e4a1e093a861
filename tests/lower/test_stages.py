"""A stage refers to the nodes of the graph that its composite was written from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tvm import relax

from squeezeedge.graph import IMAGE, Concat, IntegerGraph
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import MAIN, to_relax
from squeezeedge.lower.stages import Stage, region_stages, stages
from tests.graphs import GraphBuilder, random_graph, squeezenet_graph

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)


def _stages(graph: IntegerGraph, fusions: Sequence[Pattern] = ()) -> list[Stage]:
    return stages(partition(to_relax(graph), fusions), graph)


@pytest.mark.parametrize("seed", range(12))
def test_without_fusions_a_stage_is_its_node(seed: int) -> None:
    graph = random_graph(seed, groups=False)
    found = _stages(graph)
    assert [stage.nodes for stage in found] == [(node,) for node in graph.nodes]
    for stage in found:
        (node,) = stage.nodes
        tensor = graph.tensors[node.name]
        assert (stage.name, stage.inputs) == (node.name, node.inputs)
        assert stage.input_shapes == tuple(graph.tensors[name].shape for name in node.inputs)
        assert stage.shape(node.name) == tensor.shape
        assert stage.out == ((1, 1, graph.classes) if node is graph.head else tensor.shape)
        assert stage.convolutions == ((node,) if node in graph.convolutions else ())
        assert stage.pooling is (node if stage.pattern is Pattern.MAX_POOL else None)
        assert stage.addition is (node if stage.pattern is Pattern.ADD else None)


@pytest.mark.parametrize("seed", range(12))
def test_with_fusions_every_node_is_in_one_stage(seed: int) -> None:
    graph = random_graph(seed, groups=False)
    nodes = [node for stage in _stages(graph, FUSIONS) for node in stage.nodes]
    assert len(nodes) == len(graph.nodes) and set(nodes) == set(graph.nodes)


def test_fused_stages_of_squeezenet() -> None:
    graph = squeezenet_graph("squeezenet1_1", 64, 10)
    first, squeeze, expand, *_ = _stages(graph, FUSIONS)
    assert [node.name for node in first.nodes] == ["conv1", "pool1"]
    assert first.name == "pool1" and first.inputs == (IMAGE,) and first.out == graph.tensors["pool1"].shape
    assert first.pooling is graph.nodes[1] and first.convolutions == (graph.nodes[0],)
    assert sum(stage.macs for stage in _stages(graph, FUSIONS)) == graph.macs and first.macs == 31 * 31 * 27 * 64
    assert (squeeze.name, squeeze.inputs) == ("fire2.squeeze", ("pool1",))
    assert [conv.name for conv in expand.convolutions] == ["fire2.expand1x1", "fire2.expand3x3"]
    assert expand.inputs == ("fire2.squeeze",)
    assert expand.out.channels == sum(expand.shape(conv.name).channels for conv in expand.convolutions)


def test_convolutions_are_in_the_order_of_the_concatenation() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (8, 8))
    source = builder.conv(IMAGE, 4)
    parts = [builder.conv(source, channels) for channels in (3, 5, 2)]
    graph = builder.finish(builder.concat([parts[index] for index in (2, 0, 1)]), 3)
    (joined,) = [stage for stage in _stages(graph, FUSIONS) if stage.pattern is Pattern.CONCAT_CONVOLUTIONS]
    assert isinstance(joined.nodes[-1], Concat)
    assert [len(conv.bias) for conv in joined.convolutions] == [2, 3, 5]


def test_equal_composites_without_constants_stay_apart() -> None:
    """TVM makes one function of two equal poolings and of two equal concatenations."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    pools = [builder.pool(builder.conv(IMAGE, 4, name=f"conv{n}"), name=f"pool{n}") for n in range(2)]
    both = [builder.concat(order, name=f"concat{n}") for n, order in enumerate((pools, pools[::-1]))]
    graph = builder.finish(builder.concat(both, name="all"), 5)
    found = {stage.name: stage.inputs for stage in _stages(graph)}
    assert found == {node.name: node.inputs for node in graph.nodes}


def test_operands_that_are_one_tensor() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (5, 5))
    value = builder.conv(IMAGE, 4, name="conv")
    twice = builder.add(builder.concat([value, value], name="both"), builder.conv(value, 8, name="other"), name="sum")
    graph = builder.finish(twice, 3)
    assert {stage.name: stage.inputs for stage in _stages(graph)}["both"] == ("conv", "conv")


@pytest.mark.slow
def test_the_stages_of_a_region() -> None:
    """As a target gets them whose composites TVM has merged into one function."""
    graph = squeezenet_graph("squeezenet1_0_complex_bypass", 48, 7)
    module = partition(to_relax(graph), FUSIONS, "test")
    merged = relax.transform.MergeCompositeFunctions()(module)
    (region,) = [function for name, function in merged.functions.items() if name.name_hint != MAIN]
    ours, theirs = region_stages(region, graph), stages(module, graph)
    assert [stage.nodes for stage in ours] == [stage.nodes for stage in theirs]
    assert [(stage.pattern, stage.inputs) for stage in ours] == [(stage.pattern, stage.inputs) for stage in theirs]
