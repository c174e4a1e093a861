"""Libraries for boards, run under user-mode emulation."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.artifact import write_artifact
from squeezeedge.errors import UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import CpuOptions
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.session import open_session
from tests.graphs import random_graph, random_images, squeezenet_graph
from tests.targets.cpu.aarch64 import aarch64_python
from tests.targets.devices import FakeBoard, answers

TARGET = get_target("cpu")
MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "squeezeedge.h"
int main(void) {
    const char *failure = squeezeedge_open(2);
    if (failure) { fprintf(stderr, "%s\n", failure); return 3; }
    size_t bytes = (size_t)squeezeedge_input[0] * squeezeedge_input[1] * squeezeedge_input[2];
    uint8_t *image = malloc(bytes);
    int32_t *sums = malloc(squeezeedge_classes * sizeof *sums);
    while (fread(image, 1, bytes, stdin) == bytes) {
        if (squeezeedge_run(image, sums)) return 1;
        fwrite(sums, sizeof *sums, squeezeedge_classes, stdout);
    }
    squeezeedge_close();
    return 0;
}
"""
BOARDS = [
    ("aarch64-linux-gnu", "neon", "qemu-aarch64-static"),
    ("aarch64-linux-gnu", "neon-dotprod", "qemu-aarch64-static"),
    ("arm-linux-gnueabihf", "generic", "qemu-arm-static"),
]


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("graph", [random_graph(3), squeezenet_graph("squeezenet1_1", 40, 10)], ids=["random", "net"])
@pytest.mark.parametrize(("triple", "isa", "emulator"), BOARDS, ids=[f"{b[0]}-{b[1]}" for b in BOARDS])
def test_board(triple: str, isa: str, emulator: str, graph: IntegerGraph, tmp_path: Path) -> None:
    for tool in (f"{triple}-gcc", emulator):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    TARGET.lower(graph, CpuOptions(isa=isa, mtriple=triple)).write(tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    (library,) = tmp_path.glob("lib*.so")
    main = tmp_path / "main"
    files = [str(tmp_path / "main.c"), str(library)]
    subprocess.run([f"{triple}-gcc", "-O1", *files, "-o", str(main), f"-Wl,-rpath,{tmp_path}"], check=True)
    images = random_images(graph, 2, 0)
    emulated = [emulator, "-cpu", "max", "-L", f"/usr/{triple}", str(main)]
    done = subprocess.run(emulated, input=images.tobytes(), capture_output=True, check=True)
    sums = np.frombuffer(done.stdout, np.int32).reshape(len(images), graph.classes)
    np.testing.assert_array_equal(sums, run(graph, images))


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with numpy for aarch64."""
    return aarch64_python()


@pytest.mark.slow
@pytest.mark.tool
def test_an_artifact_on_its_board(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the FAKE ssh, where python3 is another processor's: the program that is copied finds nothing of ours."""
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    graph = squeezenet_graph("squeezenet1_1", 40, 10)
    images = random_images(graph, 5, 0)
    options = CpuOptions(isa="neon", mtriple="aarch64-linux-gnu")
    artifact = write_artifact(graph, TARGET, options, tmp_path / "artifact", golden=images[:2], source={})
    with pytest.raises(
        UnavailableError, match=r"compiled for aarch64, and this machine is .*; or use `board` user@host"
    ):
        answers(TARGET, artifact.path, images, "cpu")
    board = FakeBoard(tmp_path / "remote", monkeypatch, python=str(python), SQUEEZEEDGE_THREADS=2)
    with open_session(artifact.path, TARGET, "cpu", "user@board") as session:
        results = [session.run(images[:2]), session.run(images[2:])]
    np.testing.assert_array_equal(np.concatenate([result.sums for result in results]), run(graph, images))
    assert results[0].metrics == {"threads": 2} and (results[1].latency_ms > 0).all()
    (copied,) = (board.home / ".cache" / "squeezeedge").iterdir()
    names = {"run.py", "device.py", "manifest.json", "golden.npz", "libsqueezenet1_1.so"}
    assert {path.name for path in copied.iterdir()} == names
