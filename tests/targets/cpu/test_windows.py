"""Windows of an image's convolution side by side: where they pay, their order, and the same sums."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, Conv, IntegerGraph, rules
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu.chains import BOUND, signed_sums
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.windows import Windows, windows_size
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.conftest import Runner

CHAINED = INSTRUCTION_SETS["avx2"]
LIMIT = rules.WEIGHT_LIMIT


def _pooled(kernel: tuple[int, int], stride: tuple[int, int], channels: int = 20) -> IntegerGraph:
    """A padded convolution of the image and a pooling, whose windows leave the map."""
    builder = GraphBuilder(np.random.default_rng(6), (39, 31))
    made = builder.conv(IMAGE, channels, kernel, stride, (1, 2, 1, 1))
    return builder.finish(builder.pool(made, (3, 3), (2, 2), (1, 0, 1, 1)), 5)


def _first(graph: IntegerGraph) -> Conv:
    first = graph.convolutions[0]
    assert isinstance(first, Conv)
    return first


@pytest.mark.parametrize(
    ("name", "kernel", "pays"),
    [("avx2", (3, 3), True), ("amx", (7, 7), True), ("avx2", (1, 1), False), ("generic", (3, 3), True)],
)
def test_where_they_pay(name: str, kernel: tuple[int, int], pays: bool) -> None:
    assert (windows_size(_first(_pooled(kernel, (2, 2))), INSTRUCTION_SETS[name], 9) > 0) == pays


def test_few_pairs_break_the_bound() -> None:
    """The weights of each pair of neighbours are of one sign and break it; in another order, none do."""
    conv = _first(_pooled((3, 2), (1, 1), 8))
    weight = np.broadcast_to(np.array([LIMIT, LIMIT, 0, 0, -LIMIT, -LIMIT], np.int8), (8, 3, 6)).reshape(8, 3, 2, 3)
    found = Windows.of(replace(conv, weight=weight), CHAINED, 9)
    assert found is not None
    pairs = found.conv.weight.reshape(8, -1, 2).astype(np.int16)
    assert np.abs(signed_sums(pairs)).max() <= BOUND < 2 * LIMIT


@settings(max_examples=20, deadline=None)
@given(arrays(np.int8, (9, 3, 3, 3), elements=st.integers(-LIMIT, LIMIT)))
def test_each_byte_of_a_row_stands_at_one_place(weight: NDArray[np.int8]) -> None:
    found = Windows.of(replace(_first(_pooled((3, 3), (2, 2), 9)), weight=weight), CHAINED, 9)
    assert found is not None
    np.testing.assert_array_equal(np.sort(found.order, 1), np.tile(np.arange(9), (3, 1)))
    rows = found.conv.weight[:, 0, 0, :27].reshape(9, 3, 9)
    np.testing.assert_array_equal(rows, np.take_along_axis(weight.reshape(9, 3, 9), found.order[None], 2))


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), (2, 2)), ((7, 7), (2, 1))])
def test_the_same_sums(kernel: tuple[int, int], stride: tuple[int, int], isa: str, run_graph: Runner) -> None:
    """Of weights that break the bound; bands of one and of several threads."""
    graph = _pooled(kernel, stride)
    images = random_images(graph, 2, 0)
    found = run_graph(graph, images, isa, 1, 2, 3)
    np.testing.assert_array_equal(found, np.broadcast_to(run(graph, images), found.shape))
