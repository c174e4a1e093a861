"""The digits network, a graph with every kind of kernel, and an artifact behind the fake driver."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import squeezeedge
from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.targets.cuda import CudaOptions, lower, toolchain
from squeezeedge.targets.cuda import device as device_side
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.options import ARCHITECTURES, TENSOR_CORE
from squeezeedge.targets.cuda.source import cuda_source
from squeezeedge.targets.cuda.toolchain import find_compiler
from squeezeedge.targets.registry import get_target
from tests.graphs import GraphBuilder, random_images
from tests.targets.cuda.emulation import build_fake_driver

TARGET = get_target("cuda")
Digits = tuple[IntegerGraph, NDArray[np.uint8]]


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs on the fake GPU is slow: its driver and an artifact are compiled first."""
    for item in items:
        if isinstance(item, pytest.Function) and "emulated" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def digits() -> Digits:
    """The embedded network as integers, and a few images of its data."""
    model = squeezeedge.quantize(squeezeedge.load(), count=16)
    assert model.integer is not None and model.golden is not None
    return model.integer, model.golden[:4]


@pytest.fixture(scope="session")
def every_kernel() -> IntegerGraph:
    """Every kind of kernel; channels that fill no words beside others, and a reduction in several chunks."""
    builder = GraphBuilder(np.random.default_rng(5), (13, 11))
    pooled = builder.pool(IMAGE, (3, 3), (2, 2), (1, 0, 1, 0), ceil_mode=True)
    joined = builder.concat([pooled, builder.conv(IMAGE, 7, (3, 3), (2, 2), (1, 0, 1, 0))])
    narrow = builder.conv(joined, 19, (3, 3), padding=(1, 1, 1, 1))
    fire = builder.concat([builder.conv(narrow, 5), builder.conv(narrow, 24, (3, 3), padding=(1, 1, 1, 1))])
    added = builder.add(fire, builder.conv(fire, 29, zero_point=128), zero_point=128)
    large = builder.conv(added, 70, (5, 5), padding=(2, 2, 2, 2))
    small = builder.pool(large, (3, 3), (2, 2))
    return builder.finish(builder.conv(small, 40), 21)


@pytest.fixture(scope="session")
def few_kernels() -> IntegerGraph:
    """The image's copy, a concatenation of it, convolutions and the head."""
    builder = GraphBuilder(np.random.default_rng(6), (9, 11))
    joined = builder.concat([IMAGE, builder.conv(IMAGE, 7, (3, 3), padding=(1, 1, 1, 1))])
    return builder.finish(builder.conv(joined, 20, (3, 3), (2, 2)), 21)


class Toolchain:
    """A compiler that takes everything that is for architectures it knows, or nothing."""

    version = "none"

    def __init__(self, known: Collection[str] = ARCHITECTURES, fails: bool = False) -> None:
        self.known, self.fails = known, fails

    def architectures(self) -> frozenset[str]:
        """See :class:`squeezeedge.targets.cuda.toolchain.Compiler`."""
        return frozenset(self.known)

    def cubin(self, source: str, arch: str) -> bytes:
        """See :class:`squeezeedge.targets.cuda.toolchain.Compiler`."""
        if self.fails:
            raise SqueezeEdgeError(f"no code for {arch}")
        return arch.encode()

    def ptx(self, source: str, arch: str) -> bytes:
        """See :class:`squeezeedge.targets.cuda.toolchain.Compiler`."""
        return b"ptx of " + arch.encode()


@pytest.fixture(scope="session")
def uncompiled(every_kernel: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for sm_75 and sm_80 of a compiler that is none."""
    folder = tmp_path_factory.mktemp("uncompiled") / "artifact"
    golden = random_images(every_kernel, 1, 7)
    with pytest.MonkeyPatch.context() as patch:
        for module in (lower, toolchain):
            patch.setattr(module, "find_compiler", lambda: Toolchain({"sm_75", "sm_80"}))
        return write_artifact(every_kernel, TARGET, CudaOptions(), folder, golden=golden, source={}).path


@pytest.fixture
def artifact(uncompiled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(uncompiled, tmp_path / "artifact")
    return tmp_path / "artifact"


@dataclass(frozen=True)
class Emulated:
    """An artifact, and a fake driver that runs it.

    Attributes:
        artifact: its folder.
        driver: path of the library.
        graph: what was compiled.
    """

    artifact: Path
    driver: Path
    graph: IntegerGraph

    def script(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the artifact's run.py as a GPU machine would: only numpy and the driver."""
        settings = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(self.driver.parent), **environment}
        command = [sys.executable, "-I", str(self.artifact / "run.py"), *arguments]
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def emulated(few_kernels: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    """Compiled by this machine's compiler, or skipped without one."""
    try:
        find_compiler()
    except UnavailableError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cuda")
    golden = random_images(few_kernels, 3, 7)
    write_artifact(
        few_kernels, TARGET, CudaOptions(arch="sm_90"), folder / "artifact", golden=golden, source={"network": "test"}
    )
    kernels = [launch.kernel for launch in graph_launches(few_kernels)]
    driver = build_fake_driver(kernels, cuda_source(kernels, INSTRUCTION_SETS[TENSOR_CORE], "sm_90"), folder)
    return Emulated(open_artifact(folder / "artifact").path, driver, few_kernels)


@pytest.fixture
def fake_driver(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``fake_driver(FAKE_CUDA_INIT="100")``: this process finds the fake driver, which reads these settings."""

    def use(**environment: str) -> None:
        monkeypatch.setattr(device_side, "DRIVER", str(emulated.driver))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return use
