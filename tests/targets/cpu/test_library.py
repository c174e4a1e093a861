"""The library itself: what it links to, exports and says when something is wrong."""

import ctypes
import dataclasses
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.interface import HEADER
from squeezeedge.targets.cpu.lower import CpuLowered
from tests.targets.cpu.conftest import CompiledFor
from tests.targets.cpu.programs import AARCH64, ARM, HERE, Machine

LIBRARY, ARCHIVE = "librandom.so", "librandom.a"
NOT_OPEN, BAD_ARGUMENT = -1, -2


def test_files(library: Path) -> None:
    assert {path.name for path in library.iterdir()} == {LIBRARY, ARCHIVE, HEADER, "trace.json"}


def test_it_needs_the_c_library_only(library: Path) -> None:
    linked = subprocess.run(["ldd", library / LIBRARY], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in linked.splitlines()}
    assert names <= {"linux-vdso", "libc", "libpthread", "libm", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_it_exports_its_interface_only(library: Path) -> None:
    header = {f"random_{name}" for name in re.findall(r"#define squeezeedge_(\w+)", (library / HEADER).read_text())}
    for option, path in (("-D", library / LIBRARY), ("-g", library / ARCHIVE)):
        command = ["nm", "-P", "--defined-only", option, str(path)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert {line.split()[0] for line in listed.splitlines() if "[" not in line} == header


def test_it_is_named_after_its_file(library: Path) -> None:
    text = subprocess.run(["readelf", "-d", library / LIBRARY], capture_output=True, text=True, check=True).stdout
    assert f"soname: [{LIBRARY}]" in text


def test_a_tvm_in_the_same_process_is_left_alone(library: Path) -> None:
    """Its pointers to functions for memory and threads are not asked for."""
    command = ["nm", "-D", "--undefined-only", str(library / LIBRARY)]
    assert "TVM" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_equal_files_for_equal_networks(library: Path, two_layers: IntegerGraph, tmp_path: Path) -> None:
    TARGET.lower(two_layers, CpuOptions(isa="generic")).write(tmp_path)
    for path in library.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_header_is_c_and_matches(library: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text(
        '#include "squeezeedge.h"\n'
        "int main(void) {\n"
        "    if (squeezeedge_api_version() != SQUEEZEEDGE_API_VERSION) return 1;\n"
        "    return squeezeedge_open(1, 0) != SQUEEZEEDGE_OK || squeezeedge_input[2] != 3 || squeezeedge_classes < 1;\n"
        "}\n"
    )
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{library}", f"-Wl,-rpath,{library}"]
    subprocess.run(["cc", *flags, source, library / LIBRARY, "-o", tmp_path / "main"], check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_running_before_opening_fails(library: Path, two_layers: IntegerGraph) -> None:
    loaded = ctypes.CDLL(str(library / LIBRARY))
    loaded.random_close()
    loaded.random_error.restype = ctypes.c_char_p
    image, sums = np.zeros(two_layers.input_shape, np.uint8), np.zeros(two_layers.classes, np.int32)
    call = loaded.random_run
    call.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
    loaded.random_isa.restype = ctypes.c_char_p
    assert (
        call(image.ctypes.data, 1, sums.ctypes.data) == NOT_OPEN and loaded.random_error() == b"the network is not open"
    )
    assert loaded.random_isa() is None and loaded.random_threads() == 0
    assert loaded.random_open(0, None) == BAD_ARGUMENT and b"1..64" in loaded.random_error()
    assert loaded.random_open(2, b"avx9") == BAD_ARGUMENT and b"only for generic" in loaded.random_error()
    assert loaded.random_open(64, None) == 0 == loaded.random_open(2, b"generic")
    assert loaded.random_isa() == b"generic" and loaded.random_threads() == min(2, len(os.sched_getaffinity(0)))
    assert call(image.ctypes.data, 1, sums.ctypes.data) == 0 and loaded.random_error() == b""
    for count in (0, -1, -(2**31)):
        assert call(image.ctypes.data, count, sums.ctypes.data) == BAD_ARGUMENT and b"images" in loaded.random_error()
    loaded.random_close()


MACHINES = [HERE, *(pytest.param(m, marks=[pytest.mark.slow, pytest.mark.tool]) for m in (AARCH64, ARM))]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: str(machine.triple))
def test_an_old_glibc_is_enough(machine: Machine, two_layers: IntegerGraph, compiled_for: CompiledFor) -> None:
    """Of 2012, whatever the compiler's own is; the manifest has what the library's table of versions says."""
    machine.need()
    folder, said = compiled_for(machine, two_layers)
    table = subprocess.run(["readelf", "-VW", folder / LIBRARY], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", table)}
    assert said["glibc"] == ".".join(map(str, max(versions))) and max(versions) <= (2, 17)
    assert said["note"] == f"the library needs glibc {said['glibc']} or newer"
    needed = subprocess.run(["readelf", "-dW", folder / LIBRARY], capture_output=True, text=True, check=True).stdout
    assert "[libpthread.so.0]" in needed  # where threads were before 2.34


def test_a_failing_compiler_is_reported(lowered: CpuLowered, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'driver.c: error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    lowered = dataclasses.replace(lowered, compiler=str(compiler))
    with pytest.raises(SqueezeEdgeError, match="no such thing"):
        lowered.write(tmp_path)
    compiler.write_text("no program")
    with pytest.raises(UnavailableError, match="can't be started"):
        lowered.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cc"}
