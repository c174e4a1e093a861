"""Compile and run graphs on this machine's processor."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.options import FEATURES, host_features
from squeezeedge.targets.cpu.run import Network

Runner = Callable[[IntegerGraph, NDArray[np.uint8], str, int], NDArray[np.int32]]


@pytest.fixture(params=FEATURES)
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this processor has."""
    name: str = request.param
    architectures, features = FEATURES[name]
    if architectures and not os.uname().machine.startswith(architectures):
        pytest.skip(f"{name} is another architecture's")
    missing = set(features) - host_features()
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    return name


@pytest.fixture(scope="session")
def run_graph() -> Runner:
    """``run_graph(graph, images, isa, threads)``: the class sums, from a freshly compiled library."""

    def run(graph: IntegerGraph, images: NDArray[np.uint8], isa: str, threads: int) -> NDArray[np.int32]:
        with tempfile.TemporaryDirectory() as folder:
            TARGET.compile(graph, CpuOptions(isa=isa), Path(folder))
            network = Network(Path(folder), threads)
            try:
                return network.run(images)[0]
            finally:
                network.close()

    return run
