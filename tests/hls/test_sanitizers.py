"""The C++ under sanitizers: addresses, undefined behaviour, uninitialized memory (where clang is), threads.

What they run: the embedded network in both instruction sets through the driver, and programs that no compiler makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.graph import IntegerGraph, oracle
from squeezeedge.lower.legalize import legalize
from squeezeedge.model import Model
from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.lower.byoc import DRIVER, driver_inputs, lower_graph
from squeezeedge.targets.vta.sim.native import compiler
from squeezeedge.targets.vta.sim.simulator import Registers, Simulator
from tests.graphs import random_images
from tests.targets.vta.fuzzed import fuzzed_programs

pytestmark = [pytest.mark.slow, pytest.mark.tool]

HERE = Path(__file__).parent
GEOMETRY = Geometry()
PROGRAMS = 5000
TIMEOUT_US = 10_000_000

OPTIONS = ("-O1", "-g", "-pthread", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Sanitizer:
    """A way to build.

    Attributes:
        flags: of the compiler.
        clang: whether only clang has it.
    """

    flags: tuple[str, ...]
    clang: bool = False


# What is not initialized holds a pattern in one build and zeros in the other: where it counts, the results differ.
ADDRESSES = Sanitizer(("-fsanitize=address,undefined", "-ftrivial-auto-var-init=pattern"))
PLAIN = Sanitizer(("-ftrivial-auto-var-init=zero",))
MEMORY = Sanitizer(("-fsanitize=memory",), clang=True)
THREADS = Sanitizer(("-fsanitize=thread",))


@cache
def tools(sanitizer: Sanitizer) -> tuple[str, str]:
    """C++ and C compiler; skips the test where the machine has none with this sanitizer."""
    found = shutil.which("clang++") if sanitizer.clang else compiler()
    if found is None:
        pytest.skip("needs clang++" if sanitizer.clang else "needs a C++ compiler")
    probe = [found, *OPTIONS, *sanitizer.flags, "-x", "c++", "-", "-o", os.devnull]
    done = subprocess.run(probe, input="int main() {}", capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{found} has no {' '.join(sanitizer.flags)}: {done.stderr[-200:]}")
    return found, "clang" if sanitizer.clang else "gcc"


def build(sanitizer: Sanitizer, folder: Path, *sources: Path) -> Path:
    """A program of C, C++ and object files."""
    (folder / CONFIG_HEADER).write_text(config_header(GEOMETRY))
    cxx, cc = tools(sanitizer)
    objects = [compile_object(sanitizer, folder, source, cc if source.suffix == ".c" else cxx) for source in sources]
    program = folder / "program"
    run([cxx, *OPTIONS, *sanitizer.flags, *map(str, objects), "-o", str(program)], folder)
    return program


def compile_object(sanitizer: Sanitizer, folder: Path, source: Path, command: str) -> Path:
    if source.suffix == ".o":
        return source
    standard = ("-std=gnu11",) if source.suffix == ".c" else ("-std=c++14", "-Wno-unknown-pragmas")
    made = folder / f"{source.name}.o"
    options = [*OPTIONS, *sanitizer.flags, *standard, f"-I{folder}", f"-I{HLS}"]
    run([command, *options, "-c", str(source), "-o", str(made)], folder)
    return made


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[:4000]
    return done.stdout


@pytest.fixture(scope="module")
def graph(digits_model: Model) -> IntegerGraph:
    assert digits_model.integer is not None
    return legalize(digits_model.integer, ())


@cache
def compiled(graph: IntegerGraph, instructions: InstructionSet) -> VtaProgram:
    return lower_graph(graph, GEOMETRY, instructions).program


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sanitizer], str]:
    """What the programs print, once for each build."""
    file = tmp_path_factory.mktemp("fuzzed") / "programs"
    file.write_bytes(fuzzed_programs(GEOMETRY, PROGRAMS, seed=0))

    @cache
    def printed(sanitizer: Sanitizer) -> str:
        folder = tmp_path_factory.mktemp("programs")
        return run([str(build(sanitizer, folder, HERE / "programs.cpp")), str(file)], folder)

    return printed


@pytest.mark.parametrize("sanitizer", [ADDRESSES, MEMORY], ids=["addresses", "memory"])
def test_fuzzed_programs(programs: Callable[[Sanitizer], str], sanitizer: Sanitizer) -> None:
    lines = programs(sanitizer).splitlines()
    assert lines == programs(PLAIN).splitlines()
    assert len(lines) == PROGRAMS + 1
    kinds = ("not defined", "deadlock", "outside of the DRAM", "not finished", "left at the end")
    ends = Counter(next((kind for kind in kinds if kind in line), "finished") for line in lines[:-1])
    assert min(ends[kind] for kind in kinds) > 10 and ends["finished"] > PROGRAMS / 4, ends


@pytest.mark.parametrize(
    ("sanitizer", "callers"), [(ADDRESSES, 1), (MEMORY, 1), (THREADS, 3)], ids=["addresses", "memory", "threads"]
)
def test_driver(graph: IntegerGraph, tmp_path: Path, sanitizer: Sanitizer, callers: int) -> None:
    """The embedded network; under the sanitizer of threads, from several at once."""
    images = random_images(graph, 1, 0)
    expected = oracle.run(graph, images)
    (tmp_path / "images").write_bytes(images.tobytes())
    simulator = DRIVER / "simulator.cpp"
    for instructions in INSTRUCTION_SETS:
        driver_inputs(compiled(graph, instructions), TIMEOUT_US, tmp_path)
        answers = build(sanitizer, tmp_path, HERE / "answers.cpp", DRIVER / "network.c", simulator)
        simulator = tmp_path / "simulator.cpp.o"  # the same for both
        run([str(answers), "images", "sums", str(callers)], tmp_path)
        np.testing.assert_array_equal(np.fromfile(tmp_path / "sums", "<i4").reshape(expected.shape), expected)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    return build(THREADS, folder, HERE / "processes.cpp")


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_processes(graph: IntegerGraph, processes: Path, tmp_path: Path, instructions: InstructionSet) -> None:
    """The hardware's processes with their queues, each on a thread: only tokens order what they do."""
    program = compiled(graph, instructions)
    host, dram = program.host(), np.zeros(program.dram_bytes, np.uint8)
    host.load(dram)
    host.pack(random_images(graph, 1, 0)[0], dram)
    (tmp_path / "dram").write_bytes(dram.tobytes())
    registers = Registers(**program.registers())
    run([str(processes), "dram", *map(str, vars(registers).values())], tmp_path)
    Simulator(GEOMETRY).run(dram, registers)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "dram", np.uint8), dram)
