"""Compile and run graphs, and pieces of kernels, on this machine's processor."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.device import Network
from squeezeedge.targets.cpu.options import FEATURES, host_features
from squeezeedge.targets.device.run import Artifact
from tests.graphs import GraphBuilder

Runner = Callable[[IntegerGraph, NDArray[np.uint8], str, int], NDArray[np.int32]]


def available(name: str) -> str:
    """An instruction set, or skip the test where this processor has not got it."""
    architectures, features = FEATURES[name]
    if architectures and not os.uname().machine.startswith(architectures):
        pytest.skip(f"{name} is another architecture's")
    missing = set(features) - host_features()
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    return name


@pytest.fixture(params=FEATURES)
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this processor has."""
    return available(request.param)


@pytest.fixture(scope="session")
def two_layers() -> IntegerGraph:
    """What is compiled in a moment."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 8))
    return builder.finish(builder.conv(IMAGE, 9, (3, 3), (2, 1)), 5)


@pytest.fixture(scope="session")
def run_graph() -> Runner:
    """``run_graph(graph, images, isa, threads)``: the class sums, from a freshly compiled library."""

    def run(graph: IntegerGraph, images: NDArray[np.uint8], isa: str, threads: int) -> NDArray[np.int32]:
        with tempfile.TemporaryDirectory() as folder:
            compiled = TARGET.lower(graph, CpuOptions(isa=isa)).write(Path(folder))
            # All that the device's side asks of an artifact; the checksums are not what is tested here.
            asked = SimpleNamespace(
                folder=Path(folder),
                read=lambda name: Path(folder, name).read_bytes(),
                shape=graph.input_shape,
                classes=graph.classes,
                compiled=compiled,
            )
            network = Network(cast(Artifact, asked), threads)
            try:
                return network.run(images)[0]
            finally:
                network.close()

    return run
