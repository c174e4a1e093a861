"""The code of every architecture: instructions, registers; and CUDA C as text."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cuda.grid import Block, Kernel
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.lower import graph_launches
from squeezeedge.targets.cuda.options import ARCHITECTURES, DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.source import cuda_source, most_images, parameters
from squeezeedge.targets.cuda.toolchain import find_compiler
from tests.graphs import GraphBuilder, squeezenet_graph
from tests.targets.cuda.channels import channel_kernel, layer


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """SqueezeNet 1.1 at full size."""
    return [launch.kernel for launch in graph_launches(squeezenet_graph("squeezenet1_1"))]


def _ptxas() -> str | None:
    """The assembler of NVIDIA's wheel, or one on the path."""
    try:
        files = metadata.files("nvidia-cuda-nvcc") or []
    except metadata.PackageNotFoundError:
        files = []
    return next((str(file.locate()) for file in files if file.name == "ptxas"), shutil.which("ptxas"))


def _assembled(kernels: Sequence[Kernel], arch: str, folder: Path) -> list[str]:
    """PTX of each kernel; none spills registers, and four blocks fit a multiprocessor."""
    ptxas = _ptxas()
    if ptxas is None:
        pytest.skip("needs ptxas: pip install nvidia-cuda-nvcc, or CUDA on the path")
    compiler = find_compiler()
    if arch not in compiler.architectures():
        pytest.skip(f"{compiler.version} does not know {arch}")
    code = compiler.ptx(cuda_source(kernels, INSTRUCTION_SETS[ARCHITECTURES[arch]], arch), arch)
    (folder / "kernels.ptx").write_bytes(code)
    entries = re.split(r"\.entry ", code.decode())[1:]
    assert len(entries) == len(kernels)
    command = [ptxas, "-v", f"-arch={arch}", "kernels.ptx", "-o", "kernels.cubin"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
    functions = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert functions == [("0", "0", "0")] * len(kernels)
    assert max(int(count) for count in re.findall(r"Used (\d+) registers", said)) <= 128
    return entries


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("arch", ["sm_72", "sm_75", "sm_80", "sm_90", "sm_120"])
def test_instructions_and_spills(kernels: list[Kernel], arch: str, tmp_path: Path) -> None:
    tensor_core = ARCHITECTURES[arch] == TENSOR_CORE
    instruction, other = (r"\bmma\.sync", r"\bdp4a\.") if tensor_core else (r"\bdp4a\.", r"\bmma\.sync")
    for entry in _assembled(kernels, arch, tmp_path):
        assert re.search(instruction, entry) and not re.search(other, entry)
        assert "ld.global" in entry and "v4" in entry and ".local" not in entry
        for piece in re.split(r"bar\.sync|bra\.uni|\bret\b", entry):
            assert "ld.global" not in piece.partition("st.shared")[2], "a load that waits for another one's store"


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("arch", ["sm_75", "sm_80"])
def test_instructions_of_depthwise_convolutions(arch: str, tmp_path: Path) -> None:
    """EfficientNet-Lite0's shapes, and averages over a whole map: four channels a load, four taps a product."""
    layers = [(112, 32, 3, 1), (112, 96, 3, 2), (56, 144, 3, 1), (56, 144, 5, 2), (28, 240, 5, 1), (14, 672, 5, 2)]
    kernels = [
        channel_kernel(*layer((size, size), channels, (side, side), (stride, stride), (side // 2,) * 4), name=f"k{i}")[
            0
        ]
        for i, (size, channels, side, stride) in enumerate(layers)
    ]
    kernels += [channel_kernel(*layer((size, size), 64, (size, size)), name=f"whole{size}")[0] for size in (7, 56)]
    for entry in _assembled(kernels, arch, tmp_path):
        products, permuted = (len(re.findall(rf"\b{name}\.", entry)) for name in ("dp4a", "prmt"))
        assert products and permuted and ".local" not in entry
        assert not re.search(r"ld\.global\S*\.[us]8", entry), "bytes are never loaded one by one"
        assert ("bar.sync" in entry) == ("st.shared" in entry)


@pytest.mark.parametrize("isa", [TENSOR_CORE, DOT_PRODUCT])
def test_source(isa: str, golden: Callable[[str, str], None]) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (9, 9))
    graph = builder.finish(builder.conv("image", 16, (3, 3), (2, 2)), 10)
    kernels = [launch.kernel for launch in graph_launches(graph)]
    golden(f"{isa}.cu", cuda_source(kernels, INSTRUCTION_SETS[isa], "sm_80"))


def _kernel(body: Callable[[Block], None], out: int) -> Kernel:
    return Kernel("test", 1, 64, 64, (64,), (), (out, "int32"), body)


def _copy(block: Block) -> None:
    with block.region(barrier=False), block.threads() as thread:
        with block.strided(4, thread) as item:
            words = T.reinterpret("int32x4", block.inputs[0].load(block.image * 64 + item * 16, 16))
            block.out.store(block.image * 16 + item * 4, words, 4)


def test_the_source_needs_no_headers() -> None:
    source = cuda_source([_kernel(_copy, 16)], INSTRUCTION_SETS[DOT_PRODUCT], "sm_80")
    assert "#include" not in source
    assert parameters(source) == {"test_kernel": ("x0", "y")}
    assert "blockIdx.z" in source and "__launch_bounds__(64)" in source


def test_largest_batch() -> None:
    assert most_images([_kernel(_copy, 16)]) == 65535
    huge = Kernel("test", 1, 64, 64, (2**20,), (), (16, "int32"), _copy)
    assert most_images([huge]) == 2**11 - 1
