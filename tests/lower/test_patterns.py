"""Partitioning covers every graph, and what is read back is what was written."""

import numpy as np
import pytest
from tvm import relax

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool
from squeezeedge.lower.patterns import Pattern, Stage, partition, stages
from squeezeedge.lower.relax_module import MAIN, to_relax
from tests.graphs import GraphBuilder, random_graph, squeezenet_graph

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)
SINGLE = {
    Conv: Pattern.CONVOLUTION,
    MaxPool: Pattern.MAX_POOL,
    Concat: Pattern.CONCAT,
    Add: Pattern.ADD,
    Head: Pattern.HEAD,
}


@pytest.mark.parametrize("seed", range(12))
def test_without_fusions_every_node_is_one_stage(seed: int) -> None:
    graph = random_graph(seed)
    found = stages(partition(to_relax(graph)))
    assert [stage.pattern for stage in found] == [SINGLE[type(node)] for node in graph.nodes]
    made = {IMAGE: IMAGE} | {node.name: stage.name for node, stage in zip(graph.nodes, found, strict=True)}
    for node, stage in zip(graph.nodes, found, strict=True):
        assert stage.inputs == tuple(made[name] for name in node.inputs)
        if not isinstance(node, Head):
            tensor = graph.tensors[node.name]
            assert stage.out == (tensor.height, tensor.width, tensor.channels)
        if isinstance(node, Conv | Head):
            (conv,) = stage.convolutions
            np.testing.assert_array_equal(conv.weight, node.weight)
            np.testing.assert_array_equal(conv.pad_value, node.pad_value)
            assert (conv.stride, conv.padding) == (node.stride, node.padding)
            assert conv.relu == (isinstance(node, Head) and node.relu)
        if isinstance(node, Conv):
            assert stage.convolutions[0].zero_point == node.zero_point
            np.testing.assert_array_equal(stage.convolutions[0].shift, node.shift)
        if isinstance(node, MaxPool):
            assert stage.pooling is not None
            assert (stage.pooling.kernel, stage.pooling.stride) == (node.kernel, node.stride)
            assert stage.pooling.padding == node.padding[:2]
        if isinstance(node, Add):
            assert stage.addition is not None
            np.testing.assert_array_equal(stage.addition.shift, node.shift)


def test_squeezenet_with_fusions() -> None:
    graph = squeezenet_graph("squeezenet1_1", 64, 10)
    found = stages(partition(to_relax(graph), FUSIONS))
    fire = [Pattern.CONVOLUTION, Pattern.CONCAT_CONVOLUTIONS]
    pooled = [*fire, *fire, Pattern.MAX_POOL]
    assert [stage.pattern for stage in found] == [Pattern.CONVOLUTION_POOL, *pooled, *pooled, *fire * 4, Pattern.HEAD]
    expand = found[2]
    assert [conv.weight.shape[1:3] for conv in expand.convolutions] == [(1, 1), (3, 3)]
    assert expand.out[2] == sum(conv.out[2] for conv in expand.convolutions)


def _fused(graph: IntegerGraph) -> list[Stage]:
    return stages(partition(to_relax(graph), FUSIONS))


def test_a_concatenation_is_not_fused_with_convolutions_that_depend_on_each_other() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (8, 8))
    first = builder.conv(IMAGE, 4)
    second = builder.conv(first, 4)
    graph = builder.finish(builder.concat([first, second]), 3)
    assert Pattern.CONCAT in {stage.pattern for stage in _fused(graph)}


def test_a_convolution_that_others_read_is_not_fused_with_its_pooling() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    conv = builder.conv(IMAGE, 4)
    pooled = builder.pool(conv, (1, 1), (1, 1))
    graph = builder.finish(builder.concat([conv, pooled]), 3)
    assert [stage.pattern for stage in _fused(graph)][:2] == [Pattern.CONVOLUTION, Pattern.MAX_POOL]


def test_equal_composites_without_constants_stay_apart() -> None:
    """TVM makes one function of two equal poolings and of two equal concatenations."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    pools = [builder.pool(builder.conv(IMAGE, 4, name=f"conv{n}"), name=f"pool{n}") for n in range(2)]
    both = [builder.concat(order, name=f"concat{n}") for n, order in enumerate((pools, pools[::-1]))]
    graph = builder.finish(builder.concat(both, name="all"), 5)
    found = stages(partition(to_relax(graph)))
    names = [stage.name for stage in found]
    assert len(set(names)) == len(names) == len(graph.nodes)
    made = {stage.name: stage for stage in found}
    head = found[-1]
    first, second = made[head.inputs[0]].inputs
    assert first != second and made[first].inputs == made[second].inputs[::-1]
    (one,), (other,) = (made[name].inputs for name in made[first].inputs)
    assert {one, other} == {"conv0", "conv1"}


def test_main_only_calls_composites() -> None:
    module = partition(to_relax(random_graph(3)), FUSIONS)
    for block in module[MAIN].body.blocks:
        for binding in block.bindings:
            assert isinstance(binding.value, relax.Var) or binding.value.op in module.functions
