"""The code of every architecture: instructions, registers, the plan of the launches."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cuda import TARGET
from squeezeedge.targets.cuda.grid import Kernel
from squeezeedge.targets.cuda.lower import lower
from squeezeedge.targets.cuda.options import ARCHITECTURES, DOT_PRODUCT, PTX, TENSOR_CORE
from squeezeedge.targets.cuda.source import cuda_source
from squeezeedge.targets.cuda.toolchain import find_compiler
from tests.graphs import GraphBuilder, squeezenet_graph
from tests.targets.cuda.conftest import Emulated


@pytest.fixture(scope="module")
def kernels() -> dict[str, list[Kernel]]:
    """SqueezeNet 1.1 at full size."""
    graph = squeezenet_graph("squeezenet1_1")
    return {isa: lower(graph, isa).kernels for isa in (TENSOR_CORE, DOT_PRODUCT)}


def _ptxas() -> str | None:
    """The assembler of NVIDIA's wheel, or one on the path."""
    try:
        files = metadata.files("nvidia-cuda-nvcc") or []
    except metadata.PackageNotFoundError:
        files = []
    return next((str(file.locate()) for file in files if file.name == "ptxas"), shutil.which("ptxas"))


@pytest.mark.tool
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_instructions_and_spills(kernels: dict[str, list[Kernel]], arch: str, tmp_path: Path) -> None:
    ptxas = _ptxas()
    if ptxas is None:
        pytest.skip("needs ptxas: pip install nvidia-cuda-nvcc, or CUDA on the path")
    isa = ARCHITECTURES[arch]
    code = find_compiler().ptx(cuda_source(kernels[isa], arch), arch)
    (tmp_path / PTX).write_bytes(code)
    entries = re.split(r"\.entry ", code.decode())[1:]
    assert len(entries) == len(kernels[isa])
    instruction, other = (r"\bmma\.sync", r"\bdp4a\.") if isa == TENSOR_CORE else (r"\bdp4a\.", r"\bmma\.sync")
    for entry in entries:
        assert re.search(instruction, entry) and not re.search(other, entry)
        assert "ld.global" in entry and "v4" in entry and ".local" not in entry
        for piece in re.split(r"bar\.sync|bra\.uni|\bret\b", entry):
            assert "ld.global" not in piece.partition("st.shared")[2], "a load that waits for another one's store"
    command = [ptxas, "-v", f"-arch={arch}", PTX, "-o", "kernels.cubin"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    functions = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert functions == [("0", "0", "0")] * len(kernels[isa])
    assert max(int(count) for count in re.findall(r"Used (\d+) registers", said)) <= 128  # four blocks fit


def test_launches(kernels: dict[str, list[Kernel]], golden: Callable[[str, str], None]) -> None:
    """SqueezeNet 1.1: poolings in the convolutions that follow them, both halves of a fire side by side."""
    lines = [f"{'kernel':28}{'blocks':>7}{'shared':>7}{'in':>8}{'weights':>8}{'out':>8}{'MMAC':>7}"]
    for kernel in kernels[TENSOR_CORE]:
        constants = sum(array.nbytes for array in kernel.constants)
        sizes = f"{kernel.blocks:7}{kernel.shared * 4:7}{sum(kernel.inputs):8}{constants:8}{kernel.out[0]:8}"
        lines.append(f"{kernel.name:28}{sizes}{kernel.macs / 1e6:7.1f}")
    golden("squeezenet1_1.txt", "\n".join([*lines, ""]))
    assert [(kernel.blocks, kernel.shared) for kernel in kernels[DOT_PRODUCT]] == [
        (kernel.blocks, kernel.shared) for kernel in kernels[TENSOR_CORE]
    ]


@pytest.mark.parametrize("isa", [TENSOR_CORE, DOT_PRODUCT])
def test_source(isa: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{isa}.cu", cuda_source(lower(_small_graph(), isa).kernels, "sm_80"))


def test_only_what_a_pooling_allows_is_fused(every_kernel: IntegerGraph) -> None:
    """The pooling of the image, whose result is read by others too, is a kernel; the one before a 1x1 is not."""
    names = [kernel.name.partition("_")[2] for kernel in lower(every_kernel, TENSOR_CORE).kernels]
    assert names.count("max_pool") == 1


def test_listing(emulated: Emulated, tmp_path: Path) -> None:
    lines = list(TARGET.listing(emulated.artifact))
    assert any("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32" in line for line in lines)
    with pytest.raises(CorruptFileError, match="not readable as PTX"):
        TARGET.listing(tmp_path)


def _small_graph() -> IntegerGraph:
    import numpy as np

    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    return builder.finish(builder.conv("image", 16, (3, 3), (2, 2)), 10)
