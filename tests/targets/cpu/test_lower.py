"""Bit-exactness with the oracle: every instruction set, random graphs and real topologies."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from tests.graphs import TOPOLOGIES, integer_graphs, random_images, squeezenet_graph
from tests.targets.cpu.conftest import Runner


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=integer_graphs())
def test_random_graphs(graph: IntegerGraph, isa: str, run_graph: Runner) -> None:
    images = random_images(graph, 2, 0)
    np.testing.assert_array_equal(run_graph(graph, images, isa, 1), run(graph, images))


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=integer_graphs())
def test_threads_change_nothing(graph: IntegerGraph, run_graph: Runner) -> None:
    images = random_images(graph, 8, 0)
    np.testing.assert_array_equal(run_graph(graph, images, "auto", 3), run(graph, images))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str, run_graph: Runner) -> None:
    graph = squeezenet_graph(name, (75, 64), 13)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_graph(graph, images, "auto", 2), run(graph, images))


def test_full_size(run_graph: Runner) -> None:
    """224 x 224: the maps are large enough to be divided among threads by rows."""
    graph = squeezenet_graph("squeezenet1_1")
    images = random_images(graph, 2, 2)
    np.testing.assert_array_equal(run_graph(graph, images, "auto", 2), run(graph, images))
