"""What all passes before the quantization promise, one after the other and together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.graph import IMAGE
from squeezeedge.graph.float.graph import (
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.float.run import run_float
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.passes import FLOAT_PASSES, folded_graph
from squeezeedge.quantization.rewrite import readers
from tests.quantization.networks import PREPROCESSING, folded_logits, natural_images, random_net, same_function

PIXELS = natural_images(3, PREPROCESSING.size)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_every_pass_keeps_the_function(seed: int, blocks: int) -> None:
    graph = random_net(seed, blocks)
    for change in FLOAT_PASSES:
        changed = change(graph)
        same_function(graph, changed)
        graph = changed
    reference = run_float(graph, PREPROCESSING.normalize(PIXELS))
    logits = folded_logits(folded_graph(random_net(seed, blocks), PREPROCESSING), PIXELS)
    np.testing.assert_allclose(logits, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 11))
def test_what_the_passes_guarantee(seed: int, blocks: int) -> None:
    graph = random_net(seed, blocks)
    for change in FLOAT_PASSES:
        graph = change(graph)
    read_by, made_by = readers(graph.nodes), {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        assert not isinstance(node, FloatAveragePool | FloatBatchNorm | FloatLinear)
        if isinstance(node, FloatRelu):
            assert isinstance(made_by[node.inputs[0]], FloatConv | FloatAdd)
            assert read_by[node.inputs[0]] == [node]
    assert isinstance(graph.nodes[-1], FloatGlobalAveragePool)
    result = fold(graph, PREPROCESSING)
    for node in result.nodes:
        if isinstance(node, FloatConcat):
            assert len({result.zero_points[name] for name in node.inputs}) == 1
        if not isinstance(node, FloatConv | FloatMaxPool):
            assert IMAGE not in node.inputs
        if isinstance(node, FloatConv) and node.inputs[0] != IMAGE:
            assert not node.pad_value.any()
