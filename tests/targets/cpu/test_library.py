"""The library itself: what it links to, exports and says when something is wrong."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.device import LIBRARY
from squeezeedge.targets.cpu.library import HEADER


@pytest.fixture(scope="module")
def graph(two_layers: IntegerGraph) -> IntegerGraph:
    return two_layers


@pytest.fixture(scope="module")
def folder(graph: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library")
    TARGET.lower(graph, CpuOptions(isa="generic")).write(path)
    return path


def test_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {LIBRARY, HEADER}


def test_it_needs_the_c_library_only(folder: Path) -> None:
    linked = subprocess.run(["ldd", folder / LIBRARY], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in linked.splitlines()}
    assert names <= {"linux-vdso", "libc", "libpthread", "libm", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_it_exports_its_interface_only(folder: Path) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", folder / LIBRARY], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    functions = {"open", "run", "close", "error", "input", "classes"}
    assert names == {f"squeezeedge_{name}" for name in functions}


def test_the_header_is_c_and_matches(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text(
        '#include "squeezeedge.h"\n'
        "int main(void) { return squeezeedge_open(1) != 0 || squeezeedge_input[2] != 3 || squeezeedge_classes < 1; }\n"
    )
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-Wl,-rpath,{folder}"]
    subprocess.run(["cc", *flags, source, folder / LIBRARY, "-o", tmp_path / "main"], check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_running_before_opening_fails(folder: Path, graph: IntegerGraph) -> None:
    library = ctypes.CDLL(str(folder / LIBRARY))
    library.squeezeedge_close()
    image, sums = np.zeros(graph.input_shape, np.uint8), np.zeros(graph.classes, np.int32)
    call = library.squeezeedge_run
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert call(image.ctypes.data, sums.ctypes.data) == -1
    library.squeezeedge_open.restype = ctypes.c_char_p
    assert b"1..64" in library.squeezeedge_open(0)
    assert library.squeezeedge_open(2) is None
    assert call(image.ctypes.data, sums.ctypes.data) == 0
    library.squeezeedge_close()


def test_a_failing_compiler_is_reported(graph: IntegerGraph, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'driver.c: error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    lowered = TARGET.lower(graph, CpuOptions(isa="generic", cc=str(compiler)))
    with pytest.raises(SqueezeEdgeError, match="no such thing"):
        lowered.write(tmp_path)
    compiler.write_text("no program")
    with pytest.raises(UnavailableError, match="can't be started"):
        lowered.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cc"}
