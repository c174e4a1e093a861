"""The accelerator's source: warnings, Xilinx's types, what HLS cannot synthesize, packing, processes on threads."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header, hardware_sources
from squeezeedge.targets.vta.isa.geometry import Geometry, load_config
from squeezeedge.targets.vta.sim import simulator as simulator_module
from squeezeedge.targets.vta.sim.native import COMPILE_FLAGS, compiler
from squeezeedge.targets.vta.sim.simulator import Simulator
from tests.targets.vta.layers import tiled_convolution
from tests.targets.vta.reference import compare_with_reference
from tests.targets.vta.strategies import instructions

STRICT = ["-std=c++14", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-unknown-pragmas"]
XILINX_QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # its constructors clear bits before they set them
LAYERS = [(1, 1, 0), (3, 1, 128), (3, 2, 0)]


@pytest.fixture(scope="session")
def cxx() -> str:
    path = compiler()
    assert path, "the tests need a C++ compiler"
    return path


@pytest.fixture(scope="session")
def xilinx() -> list[str]:
    """Compiler flags that find Xilinx's arbitrary-precision headers."""
    found = importlib.util.find_spec("hls4ml")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs hls4ml, which carries Xilinx's ap_int.h and hls_stream.h")
    folder = Path(found.submodule_search_locations[0]) / "templates" / "vivado" / "ap_types"
    return ["-isystem", str(folder), *XILINX_QUIET]


def build(cxx: str, folder: Path, geometry: Geometry, flags: list[str], source: Path, output: str) -> Path:
    (folder / CONFIG_HEADER).write_text(config_header(geometry))
    command = [cxx, *flags, f"-I{folder}", f"-I{HLS}", str(source), "-o", str(folder / output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]
    return folder / output


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source"), [("pynq-z2", "sim/simulator.cpp"), ("zcu104-block32", "vta.cpp")])
def test_no_warnings(cxx: str, tmp_path: Path, name: str, source: str) -> None:
    build(cxx, tmp_path, load_config(name).geometry, [*STRICT, "-O2", "-c"], HLS / source, "x.o")


@pytest.mark.slow
@pytest.mark.tool
def test_no_warnings_with_xilinx_types(cxx: str, tmp_path: Path, xilinx: list[str]) -> None:
    """The simulator is built so below."""
    build(cxx, tmp_path, load_config("zcu104-block32").geometry, [*STRICT, *xilinx, "-c"], HLS / "vta.cpp", "x.o")


def test_nothing_that_hls_cannot_synthesize() -> None:
    """Heap, virtual functions, exceptions, containers, recursion; types.h has them for other compilers only."""
    directives = (
        "aggregate array_partition bind_op bind_storage dataflow dependence inline interface pipeline stream unroll"
    )
    for source in hardware_sources():
        text = re.sub(r"//.*", "", source.read_text())
        if source.name == "types.h":
            text = re.sub(r"#ifndef VTA_XILINX_\w+\n.*?#endif", "", text, flags=re.DOTALL)
            text = re.sub(r"#else\n.*?#endif", "", text, flags=re.DOTALL)
        assert not re.search(r"\b(new|delete|malloc|free|virtual|throw|try|dynamic_cast|goto|std)\b", text), source.name
        assert set(re.findall(r"#pragma HLS (\w+)", text)) <= set(directives.split()), source.name
        for name, body in re.findall(r"^\w[^;{}=]*?\b(\w+)\([^;{}]*\) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE):
            assert not re.search(rf"(?<![.\w]){name}\(", body), f"{source.name}: {name} calls itself"


@pytest.mark.slow
def test_two_multiplications_in_one_are_exact(cxx: str, tmp_path: Path) -> None:
    program = build(cxx, tmp_path, Geometry(), [*STRICT, "-O2"], Path(__file__).parent / "packing.cpp", "packing")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "0\n"


@pytest.mark.slow
def test_processes_on_threads(cxx: str, tmp_path: Path) -> None:
    """The real processes with real queues, without the simulator's scheduler, compute the same."""
    geometry = load_config().geometry
    source = Path(__file__).parent / "processes.cpp"
    program = build(cxx, tmp_path, geometry, [*STRICT, "-O1", "-pthread"], source, "processes")
    for kernel, stride, zero_point in LAYERS:
        image, _ = tiled_convolution(geometry, kernel, stride, zero_point)
        dram, registers = image.build()
        file = tmp_path / "dram"
        file.write_bytes(dram.tobytes())
        subprocess.run([program, file, *map(str, vars(registers).values())], check=True, timeout=100)
        Simulator(geometry).run(dram, registers)
        assert np.array_equal(np.frombuffer(file.read_bytes(), np.uint8), dram)


@pytest.fixture(scope="module")
def xilinx_simulator(cxx: str, xilinx: list[str], tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """The simulator, built with Xilinx's types."""
    geometry = load_config().geometry
    folder = tmp_path_factory.mktemp("xilinx")
    library = build(
        cxx, folder, geometry, [*STRICT, *xilinx, *COMPILE_FLAGS, "-O1"], HLS / "sim" / "simulator.cpp", "sim.so"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator_module, "load_simulator", lambda geometry: ctypes.CDLL(str(library)))
        return Simulator(geometry)


@pytest.mark.slow
@pytest.mark.tool
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_xilinx_types_compute_the_same(xilinx_simulator: Simulator, data: st.DataObject, seed: int) -> None:
    program = data.draw(st.lists(instructions(xilinx_simulator.geometry), min_size=1, max_size=6))
    compare_with_reference(xilinx_simulator, program, seed)


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize(("kernel", "stride", "zero_point"), LAYERS)
def test_xilinx_types_compute_the_same_layers(
    xilinx_simulator: Simulator, kernel: int, stride: int, zero_point: int
) -> None:
    image, _ = tiled_convolution(xilinx_simulator.geometry, kernel, stride, zero_point)
    dram, registers = image.build()
    other = dram.copy()
    report = xilinx_simulator.run(dram, registers)
    assert report.cycles == Simulator(xilinx_simulator.geometry).run(other, registers).cycles
    assert np.array_equal(dram, other)
