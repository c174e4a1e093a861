"""Libraries for boards, run under user-mode emulation."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.library import LIBRARY
from tests.graphs import random_graph, random_images, squeezenet_graph

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


@pytest.mark.tool
@pytest.mark.parametrize("graph", [random_graph(3), squeezenet_graph("squeezenet1_1", 40, 10)], ids=["random", "net"])
@pytest.mark.parametrize(("triple", "isa", "emulator"), BOARDS, ids=[f"{b[0]}-{b[1]}" for b in BOARDS])
def test_board(triple: str, isa: str, emulator: str, graph: IntegerGraph, tmp_path: Path) -> None:
    for tool in (f"{triple}-gcc", emulator):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    TARGET.compile(graph, CpuOptions(isa=isa, mtriple=triple), tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    main = tmp_path / "main"
    command = [f"{triple}-gcc", "-O1", tmp_path / "main.c", tmp_path / LIBRARY, "-o", main, f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(command, check=True)
    images = random_images(graph, 2, 0)
    emulated = [emulator, "-cpu", "max", "-L", f"/usr/{triple}", str(main)]
    done = subprocess.run(emulated, input=images.tobytes(), capture_output=True, check=True)
    sums = np.frombuffer(done.stdout, np.int32).reshape(len(images), graph.classes)
    np.testing.assert_array_equal(sums, run(graph, images))
