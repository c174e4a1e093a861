"""The library itself: what it links to, exports and says when something is wrong."""

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.interface import HEADER
from tests.targets.cpu.programs import HERE

LIBRARY, ARCHIVE = "librandom.so", "librandom.a"


@pytest.fixture(scope="module")
def graph(two_layers: IntegerGraph) -> IntegerGraph:
    return two_layers


@pytest.fixture(scope="module")
def folder(graph: IntegerGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library")
    TARGET.lower(graph, CpuOptions(isa="generic")).write(path)
    return path


def test_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {LIBRARY, ARCHIVE, HEADER}


def test_it_needs_the_c_library_only(folder: Path) -> None:
    linked = subprocess.run(["ldd", folder / LIBRARY], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in linked.splitlines()}
    assert names <= {"linux-vdso", "libc", "libpthread", "libm", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_it_exports_its_interface_only(folder: Path) -> None:
    header = {f"random_{name}" for name in re.findall(r"#define squeezeedge_(\w+)", (folder / HEADER).read_text())}
    for option, path in (("-D", folder / LIBRARY), ("-g", folder / ARCHIVE)):
        command = ["nm", "-P", "--defined-only", option, str(path)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert {line.split()[0] for line in listed.splitlines() if "[" not in line} == header


def test_it_is_named_after_its_file(folder: Path) -> None:
    text = subprocess.run(["readelf", "-d", folder / LIBRARY], capture_output=True, text=True, check=True).stdout
    assert f"soname: [{LIBRARY}]" in text


def test_a_tvm_in_the_same_process_is_left_alone(folder: Path) -> None:
    """Its pointers to functions for memory and threads are not asked for."""
    command = ["nm", "-D", "--undefined-only", str(folder / LIBRARY)]
    assert "TVM" not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_equal_files_for_equal_networks(folder: Path, graph: IntegerGraph, tmp_path: Path) -> None:
    TARGET.lower(graph, CpuOptions(isa="generic")).write(tmp_path)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


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
    library.random_close()
    library.random_error.restype = ctypes.c_char_p
    image, sums = np.zeros(graph.input_shape, np.uint8), np.zeros(graph.classes, np.int32)
    call = library.random_run
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert call(image.ctypes.data, sums.ctypes.data) == -1 and library.random_error() == b"the network is not open"
    library.random_open.restype = ctypes.c_char_p
    assert b"1..64" in library.random_open(0)
    assert library.random_open(2) is None
    assert call(image.ctypes.data, sums.ctypes.data) == 0 and library.random_error() == b""
    library.random_close()


REOPEN = """
#include <stdlib.h>
#include "squeezeedge.h"
int main(void) {
    uint8_t *image = calloc((size_t)squeezeedge_input[0] * squeezeedge_input[1], 3);
    int32_t *sums = malloc(squeezeedge_classes * sizeof *sums);
    for (int32_t i = 0; i < 20; i++) {
        if (squeezeedge_open(1 + 3 * i % 4) || squeezeedge_run(image, sums)) return 1;
        if (i % 3 == 0) squeezeedge_close();
    }
    return 0;
}
"""


def test_opening_again_with_other_numbers_of_threads(folder: Path, tmp_path: Path) -> None:
    program = HERE.build(REOPEN, tmp_path, [f"-I{folder}", folder / ARCHIVE, "-pthread", "-lm"])
    assert HERE.run(program).returncode == 0  # within ten seconds


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
