"""Libraries for boards, run under user-mode emulation."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.artifact import write_artifact
from squeezeedge.errors import UnavailableError
from squeezeedge.graph import IMAGE, IntegerGraph, rules
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.lower import CpuLowered
from squeezeedge.targets.cpu.options import FEATURES, architecture
from squeezeedge.targets.remote import COPIES
from squeezeedge.targets.session import open_session
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.aarch64 import aarch64_python
from tests.targets.devices import FakeBoard, answers

MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "squeezeedge.h"
int main(void) {
    if (squeezeedge_open(2, NULL)) { fprintf(stderr, "%s\n", squeezeedge_error()); return 3; }
    size_t bytes = (size_t)squeezeedge_input[0] * squeezeedge_input[1] * squeezeedge_input[2];
    uint8_t *image = malloc(bytes);
    int32_t *sums = malloc(squeezeedge_classes * sizeof *sums);
    while (fread(image, 1, bytes, stdin) == bytes) {
        if (squeezeedge_run(image, 1, sums)) return 1;
        fwrite(sums, sizeof *sums, squeezeedge_classes, stdout);
    }
    fprintf(stderr, "%s\n", squeezeedge_isa());
    squeezeedge_close();
    return 0;
}
"""
BOARDS = [
    ("aarch64-linux-gnu", "neon", "qemu-aarch64-static", "cortex-a53"),
    ("aarch64-linux-gnu", "neon-dotprod", "qemu-aarch64-static", "cortex-a76"),
    ("aarch64-linux-gnu", "neon-i8mm", "qemu-aarch64-static", "max"),
    ("arm-linux-gnueabihf", "armv7-neon", "qemu-arm-static", "cortex-a8"),
    ("arm-linux-gnueabi", "generic", "qemu-arm-static", "arm926"),
    ("riscv64-linux-gnu", "generic", "qemu-riscv64-static", "rv64,v=off"),
]
"""(triple, instruction set, emulator, the oldest processor it emulates that has the instruction set)."""
MISSING = [
    ("aarch64-linux-gnu", "neon-i8mm", "qemu-aarch64-static", "cortex-a76", "matrix product", "neon-dotprod"),
    ("aarch64-linux-gnu", "neon-dotprod", "qemu-aarch64-static", "cortex-a53", "dot product", "neon"),
    ("arm-linux-gnueabihf", "armv7-neon", "qemu-arm-static", "cortex-a9,neon=off", "NEON", "generic"),
    (None, "ssse3", "qemu-x86_64-static", "qemu64,-ssse3", "SSSE3", "generic"),
    (None, "avx2", "qemu-x86_64-static", "core2duo", "AVX2", "ssse3"),
    (None, "avx-vnni", "qemu-x86_64-static", "Haswell", "AVX-VNNI", "avx2"),
    (None, "avx512bw", "qemu-x86_64-static", "Haswell", "AVX-512BW", "avx2"),
    (None, "avx512-vnni", "qemu-x86_64-static", "Haswell", "AVX-512BW", "avx2"),
    (None, "amx", "qemu-x86_64-static", "Haswell", "AVX-512BW", "avx2"),
]
"""(triple, instruction set, emulator, a processor without it, what it has not, the instruction set to take)."""


def emulated(
    triple: str | None, lowered: CpuLowered, emulator: str, processor: str, folder: Path, images: bytes
) -> subprocess.CompletedProcess[bytes]:
    """The program on a compiled network."""
    compiler = f"{triple}-gcc" if triple else "cc"
    lowered.write(folder)
    (folder / "main.c").write_text(MAIN)
    (library,) = folder.glob("lib*.so")
    main = folder / "main"
    files = [str(folder / "main.c"), str(library)]
    subprocess.run([compiler, "-O1", *files, "-o", str(main), f"-Wl,-rpath,{folder}"], check=True)
    command = [emulator, "-cpu", processor, "-L", f"/usr/{triple}" if triple else "/", str(main)]
    return subprocess.run(command, input=images, capture_output=True, check=False)


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize(("triple", "isa", "emulator", "processor"), BOARDS, ids=[f"{b[1]}-{b[3]}" for b in BOARDS])
def test_board(triple: str, isa: str, emulator: str, processor: str, kinds: IntegerGraph, tmp_path: Path) -> None:
    """Every kind of kernel, on the oldest processor: an instruction that it has not would end the program."""
    need(f"{triple}-gcc", emulator)
    images = random_images(kinds, 2, 0)
    lowered = TARGET.lower(kinds, CpuOptions(isa=isa, mtriple=triple))
    done = emulated(triple, lowered, emulator, processor, tmp_path, images.tobytes())
    assert done.returncode == 0, done
    sums = np.frombuffer(done.stdout, np.int32).reshape(len(images), kinds.classes)
    np.testing.assert_array_equal(sums, run(kinds, images))


@pytest.fixture(scope="session")
def heaviest() -> IntegerGraph:
    """A head whose classes have the weights that fill 16 bits first, four of a kind, and others in one convolution."""
    builder = GraphBuilder(np.random.default_rng(6), (7, 6))
    graph = builder.finish(builder.conv(IMAGE, 37), 24, (3, 3))
    shape = (4, *graph.head.weight.shape[1:])
    sign = np.where(np.indices(shape).sum(0) % 2, 1, -1)
    heavy = builder.rng.integers(-9, 10, shape)
    heavy[..., 17] = rules.WEIGHT_LIMIT
    limit = np.full(shape, rules.WEIGHT_LIMIT)
    kinds = (limit, -limit, limit * sign, heavy, 0 * limit, builder.rng.integers(-127, 128, shape))
    head = replace(graph.head, weight=np.concatenate(kinds).astype(np.int8), bias=np.zeros(24, np.int32), relu=False)
    return replace(graph, nodes=(*graph.nodes[:-1], head))


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize(("triple", "isa", "emulator", "processor"), BOARDS[:-1], ids=[b[1] for b in BOARDS[:-1]])
def test_the_heaviest_weights(
    triple: str, isa: str, emulator: str, processor: str, heaviest: IntegerGraph, tmp_path: Path
) -> None:
    """Of the darkest and the brightest image, too: sums in 16 bits reach their bounds."""
    need(f"{triple}-gcc", emulator)
    images = random_images(heaviest, 4, 0)
    images[1], images[2] = 0, 255
    done = emulated(
        triple,
        TARGET.lower(heaviest, CpuOptions(isa=isa, mtriple=triple)),
        emulator,
        processor,
        tmp_path,
        images.tobytes(),
    )
    assert done.returncode == 0, done
    sums = np.frombuffer(done.stdout, np.int32).reshape(len(images), heaviest.classes)
    np.testing.assert_array_equal(sums, run(heaviest, images))


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize(
    ("triple", "isa", "emulator", "processor", "lack", "other"), MISSING, ids=[b[1] for b in MISSING]
)
def test_a_processor_without_it(
    triple: str | None,
    isa: str,
    emulator: str,
    processor: str,
    lack: str,
    other: str,
    two_layers: IntegerGraph,
    lowered: CpuLowered,
    tmp_path: Path,
) -> None:
    """The driver says so before any kernel runs; here these are not even the instruction set's own."""
    need(f"{triple}-gcc" if triple else "cc", emulator)
    if triple is None and architecture(CpuOptions()) != "x86_64":
        pytest.skip(f"{isa} is another architecture's")
    if triple is not None:
        lowered = TARGET.lower(two_layers, CpuOptions(isa=isa, mtriple=triple))
    variants = [replace(lowered.variants[0], isa=isa)]
    done = emulated(triple, replace(lowered, variants=variants), emulator, processor, tmp_path, b"")
    assert done.returncode == 3, done
    text = f"the processor has no {lack}; compile for the instruction set {other}\n"
    assert done.stderr.decode().endswith(text)


CHOICES = [
    ("Haswell", "avx2,generic", "avx2"),
    ("core2duo", "avx512bw,avx2,generic", "generic"),
    ("core2duo", "avx512bw,avx2", "the processor has no AVX2; compile for the instruction set ssse3"),
]
"""(processor, instruction sets of the library, the one that runs or why none does)."""


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize(("processor", "isas", "expected"), CHOICES)
def test_the_best_that_the_processor_has(
    processor: str, isas: str, expected: str, two_layers: IntegerGraph, lowered: CpuLowered, tmp_path: Path
) -> None:
    """Its own kernels run, which others could not."""
    need("cc", "qemu-x86_64-static")
    if architecture(CpuOptions()) != "x86_64":
        pytest.skip(f"{isas} is another architecture's")
    images = random_images(two_layers, 2, 0)
    several = TARGET.lower(two_layers, CpuOptions(isa=isas))
    done = emulated(None, several, "qemu-x86_64-static", processor, tmp_path, images.tobytes())
    assert done.stderr.decode().endswith(f"{expected}\n")
    assert done.returncode == (0 if expected in FEATURES else 3)
    if expected in FEATURES:
        np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int32).reshape(2, -1), run(two_layers, images))


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with numpy for aarch64."""
    return aarch64_python()


@pytest.mark.slow
@pytest.mark.tool
def test_an_artifact_on_its_board(
    python: Path, two_layers: IntegerGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the FAKE ssh, where python3 is another processor's: the program that is copied finds nothing of ours."""
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("aarch64-linux-gnu-gcc is not installed")
    graph = two_layers
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
    assert 1 <= results[0].metrics["threads"] <= 2 and (results[1].latency_ms > 0).all()
    (copied,) = (board.home / COPIES).iterdir()
    names = {"run.py", "device.py", "manifest.json", "golden.npz", "librandom.so", "trace.json", "SHA256SUMS"}
    assert {path.name for path in copied.iterdir()} == names
