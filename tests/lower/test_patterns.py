"""Partitioning covers every graph, and fuses only what nobody else reads."""

from collections.abc import Sequence

import numpy as np
import pytest
from tvm import relax

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import MAIN, to_relax
from squeezeedge.lower.stages import stages
from tests.graphs import GraphBuilder, random_graph, squeezenet_graph

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)
SINGLE = {
    Conv: Pattern.CONVOLUTION,
    MaxPool: Pattern.MAX_POOL,
    Concat: Pattern.CONCAT,
    Add: Pattern.ADD,
    Head: Pattern.HEAD,
}


def _patterns(graph: IntegerGraph, fusions: Sequence[Pattern] = FUSIONS) -> list[Pattern]:
    return [stage.pattern for stage in stages(partition(to_relax(graph), fusions), graph)]


@pytest.mark.parametrize("seed", range(12))
def test_without_fusions_every_node_is_one_composite(seed: int) -> None:
    graph = random_graph(seed, groups=False)
    assert _patterns(graph, ()) == [SINGLE[type(node)] for node in graph.nodes]


def test_squeezenet_with_fusions() -> None:
    fire = [Pattern.CONVOLUTION, Pattern.CONCAT_CONVOLUTIONS]
    pooled = [*fire, *fire, Pattern.MAX_POOL]
    found = _patterns(squeezenet_graph("squeezenet1_1", 64, 10))
    assert found == [Pattern.CONVOLUTION_POOL, *pooled, *pooled, *fire * 4, Pattern.HEAD]


def test_a_concatenation_is_not_fused_with_convolutions_that_depend_on_each_other() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (8, 8))
    first = builder.conv(IMAGE, 4)
    second = builder.conv(first, 4)
    graph = builder.finish(builder.concat([first, second]), 3)
    assert Pattern.CONCAT in _patterns(graph)


def test_a_convolution_that_others_read_is_not_fused_with_its_pooling() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    conv = builder.conv(IMAGE, 4)
    pooled = builder.pool(conv, (1, 1), (1, 1))
    graph = builder.finish(builder.concat([conv, pooled]), 3)
    assert _patterns(graph)[:2] == [Pattern.CONVOLUTION, Pattern.MAX_POOL]


def test_main_only_calls_composites() -> None:
    module = partition(to_relax(random_graph(3, groups=False)), FUSIONS)
    for block in module[MAIN].body.blocks:
        for binding in block.bindings:
            assert isinstance(binding.value, relax.Var) or binding.value.op in module.functions
