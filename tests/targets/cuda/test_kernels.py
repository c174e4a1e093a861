"""Bit-exactness with the oracle of every kernel's loop form: random graphs, real topologies, the digits network."""

import numpy as np
import pytest
from hypothesis import given, settings

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cuda.lower import lower
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from tests.graphs import TOPOLOGIES, integer_graphs, random_images, squeezenet_graph
from tests.targets.cuda.conftest import Digits
from tests.targets.cuda.emulation import run_loops

BOTH = [TENSOR_CORE, DOT_PRODUCT]


@pytest.mark.parametrize("isa", BOTH)
@settings(max_examples=6, deadline=None)
@given(graph=integer_graphs(max_blocks=4))
def test_random_graphs(graph: IntegerGraph, isa: str) -> None:
    images = random_images(graph, 3, 0)
    np.testing.assert_array_equal(run_loops(graph, images, isa), run(graph, images))


@pytest.mark.parametrize("isa", BOTH)
def test_every_kind_of_kernel(every_kernel: IntegerGraph, isa: str) -> None:
    kinds = {kernel.name.partition("_")[2] or kernel.name for kernel in lower(every_kernel, isa).kernels}
    assert kinds == {"image", "max_pool", "concat", "conv", "concat_convs", "add", "head"}
    images = random_images(every_kernel, 2, 1)
    np.testing.assert_array_equal(run_loops(every_kernel, images, isa), run(every_kernel, images))


@pytest.mark.parametrize("isa", BOTH)
def test_no_races_and_nothing_outside_a_buffer(every_kernel: IntegerGraph, isa: str) -> None:
    images = random_images(every_kernel, 2, 1)
    np.testing.assert_array_equal(run_loops(every_kernel, images, isa, checked=True), run(every_kernel, images))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str) -> None:
    graph = squeezenet_graph(name, (75, 64), 13)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_loops(graph, images, TENSOR_CORE), run(graph, images))


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_full_size(name: str) -> None:
    """224 x 224, the shapes that the tiles are chosen for."""
    graph = squeezenet_graph(name)
    images = random_images(graph, 1, 2)
    np.testing.assert_array_equal(run_loops(graph, images, TENSOR_CORE, checked=True), run(graph, images))


@pytest.mark.parametrize("isa", BOTH)
def test_the_digits_network(digits: Digits, isa: str) -> None:
    graph, images = digits
    np.testing.assert_array_equal(run_loops(graph, images, isa), run(graph, images))
