"""The bias that makes up for what a kernel subtracts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, Conv, IntegerGraph
from squeezeedge.graph.oracle import accumulate
from squeezeedge.lower.bias import offset_bias
from squeezeedge.lower.legalize import dense_weight
from tests.graphs import GraphBuilder


def _graph(zero_point: int) -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(zero_point), (4, 5))
    value = builder.conv(IMAGE, 6, (3, 3), zero_point=zero_point)
    value = builder.conv(value, 4, (1, 2), zero_point=128, groups=2)
    return builder.finish(value, 8, groups=4)


@pytest.mark.parametrize("zero_point", [0, 128])
@pytest.mark.parametrize("offset", [0, 128, "per channel"])
def test_the_kernel_s_sum_and_this_bias_are_the_rounded_accumulator(zero_point: int, offset: int | str) -> None:
    graph = _graph(zero_point)
    for conv in graph.convolutions[1:]:
        source = graph.tensors[conv.input]
        q = np.random.default_rng(1).integers(0, 256, source.shape).astype(np.uint8)
        subtracted = np.arange(source.channels, dtype=np.uint8) if isinstance(offset, str) else offset
        windows = np.lib.stride_tricks.sliding_window_view(
            q.astype(np.int64) - subtracted, conv.weight.shape[1:3], (0, 1)
        )
        products = np.einsum("yxikl,okli->yxo", windows, dense_weight(conv).astype(np.int64))
        expected = accumulate(conv, q, source) + conv.rounding
        np.testing.assert_array_equal(products + offset_bias(conv, source, subtracted), expected)


def test_modulo_two_to_the_32() -> None:
    """R4 bounds the accumulator, not what the bias becomes."""
    graph = _graph(0)
    conv = graph.nodes[1]
    assert isinstance(conv, Conv)
    weight = np.full_like(conv.weight, 127)
    bias = np.full(len(conv.bias), 2**31 - 1, np.int32)
    conv = replace(conv, weight=weight, bias=bias, shift=np.zeros(len(bias), np.uint8))
    expected = (2**31 - 1 + 128 * 127 * weight[0].size) - 2**32
    result = offset_bias(conv, graph.tensors[conv.input], 128)
    assert result.dtype == np.int32 and result.tolist() == [expected] * len(bias)


def test_of_a_head_nothing_is_rounded() -> None:
    graph = _graph(0)
    assert not graph.head.rounding.any()
    source = graph.tensors[graph.head.input]
    np.testing.assert_array_equal(offset_bias(graph.head, source, source.zero_point), graph.head.bias)
