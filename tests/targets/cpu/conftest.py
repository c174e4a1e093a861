"""Compile and run graphs, and pieces of kernels, on this machine's processor."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.device import Network
from squeezeedge.targets.cpu.lower import CpuLowered
from squeezeedge.targets.cpu.options import FEATURES, architecture, host_features
from squeezeedge.targets.device.run import Artifact
from tests.graphs import GraphBuilder
from tests.targets.cpu.programs import HERE, Machine

Runner = Callable[..., NDArray[np.int32]]
CompiledFor = Callable[..., tuple[Path, dict[str, Any]]]


def available(name: str) -> str:
    """An instruction set, or skip the test where this processor has not got it."""
    needed, features = FEATURES[name]
    if needed not in ("", architecture(CpuOptions())):
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
def lowered(two_layers: IntegerGraph) -> CpuLowered:
    """``two_layers``, compiled for every processor of this architecture."""
    return TARGET.lower(two_layers, CpuOptions(isa="generic"))


@pytest.fixture(scope="session")
def compiled_for(tmp_path_factory: pytest.TempPathFactory) -> CompiledFor:
    """``compiled_for(machine, graph, prefix)``: a library's folder, which nobody may change, and what is said of it."""

    @cache
    def compiled(machine: Machine, digest: str, prefix: str | None) -> tuple[Path, dict[str, Any]]:
        path = tmp_path_factory.mktemp("compiled")
        return path, TARGET.lower(graphs[digest], replace(machine.options, prefix=prefix)).write(path)

    graphs: dict[str, IntegerGraph] = {}

    def of(machine: Machine, graph: IntegerGraph, prefix: str | None = None) -> tuple[Path, dict[str, Any]]:
        graphs[graph.digest()] = graph
        return compiled(machine, graph.digest(), prefix)

    return of


@pytest.fixture(scope="session")
def library(two_layers: IntegerGraph, compiled_for: CompiledFor) -> Path:
    """Folder of the library of ``two_layers``, which nobody may change."""
    return compiled_for(HERE, two_layers)[0]


@pytest.fixture(scope="session")
def kinds() -> IntegerGraph:
    """A kernel of every kind; vectors of 8 channels, which lie side by side and end within LLVM's larger ones."""
    builder = GraphBuilder(np.random.default_rng(5), (13, 12))
    image = builder.conv(IMAGE, 8, (3, 3), padding=(1, 1, 1, 1))
    pooled = builder.pool(image, (3, 3), (2, 2), (0, 1, 1, 0))
    narrow = builder.conv(pooled, 8, (3, 3), padding=(1, 1, 1, 1))
    fire = builder.concat([builder.conv(narrow, 7), builder.conv(narrow, 9, (3, 3), padding=(1, 1, 1, 1))])
    joined = builder.concat([fire, builder.pool(fire, (3, 3), (1, 1), (1, 1, 1, 1))])
    deep = builder.conv(joined, 32, (3, 3), padding=(1, 1, 1, 1), groups=32)
    return builder.finish(builder.add(joined, deep, zero_point=128), 5, graph_name="kinds")


@pytest.fixture(scope="session")
def run_graph() -> Runner:
    """``run_graph(graph, images, isa, *threads)``: class sums of each number, in batches of it, of a new library."""

    def run(graph: IntegerGraph, images: NDArray[np.uint8], isa: str, *threads: int) -> NDArray[np.int32]:
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
            found = []
            for number in threads:
                network = Network(cast(Artifact, asked), number, batch=number)
                try:
                    found.append(network.run(images)[0])
                finally:
                    network.close()
            return np.stack(found)

    return run
