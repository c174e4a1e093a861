"""Finding nvcc or NVRTC, and what is said when they are missing or fail."""

import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.targets.cuda import TARGET, CudaOptions, toolchain
from squeezeedge.targets.cuda.source import PREAMBLE
from squeezeedge.targets.cuda.toolchain import Nvcc, Nvrtc, find_compiler

SOURCE = PREAMBLE + (
    'extern "C" __global__ void copy(uchar* x, int64_t n) { if (threadIdx.x < n) x[threadIdx.x] = dp4a_u8s8(1, 2, 3); }'
)


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(toolchain, "DEFAULT_NVCC", Path("/nowhere/nvcc"))


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)


@pytest.mark.usefixtures("no_nvcc", "no_wheel")
def test_neither_is_installed() -> None:
    with pytest.raises(UnavailableError, match="neither nvcc nor NVRTC is here; install the CUDA toolkit"):
        TARGET.check_options(CudaOptions())
    found = next(entry for entry in TARGET.requirements() if entry.needed_for == "compile")
    assert found.found is None and "pip install nvidia-cuda-nvrtc" in found.fix


@pytest.mark.usefixtures("no_nvcc")
def test_the_wheel_is_found_wherever_it_puts_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "nvidia_cuda_nvrtc-13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cuda-nvrtc\nVersion: 13.0\n")
    (info / "RECORD").write_text("nvidia/cu13/lib/libnvrtc-builtins.so.13.0,,\nnvidia/cu13/lib/libnvrtc.so.13,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnavailableError, match=r"cu13/lib/libnvrtc\.so\.13 can't be loaded"):
        find_compiler()


def test_an_architecture_that_the_compiler_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any work."""
    fake = tmp_path / "nvcc"
    said = "case $1 in --version) echo release 13.0, V13.0.88;; --list-gpu-code) printf 'sm_%s\\n' 80 75 120;; esac"
    fake.write_text(f"#!/bin/sh\n{said}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert Nvcc(str(fake)).architectures() == {"sm_75", "sm_80", "sm_120"}
    with pytest.raises(
        UnavailableError, match=r"nvcc 13\.0\.88 makes no code for sm_72, only for sm_75, sm_80, sm_120; install"
    ):
        TARGET.check_options(CudaOptions(arch="sm_72"))
    TARGET.check_options(CudaOptions())


def test_a_failing_nvcc_is_reported(tmp_path: Path) -> None:
    fake = tmp_path / "nvcc"
    fake.write_text("#!/bin/sh\necho 'kernels.cu(3): error: no such thing' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(SqueezeEdgeError, match=r"nvcc failed: kernels.cu\(3\): error: no such thing"):
        Nvcc(str(fake)).cubin(SOURCE, "sm_80")
    fake.write_text("no program")
    with pytest.raises(UnavailableError, match="can't be started"):
        Nvcc(str(fake)).ptx(SOURCE, "sm_80")


@pytest.mark.slow
@pytest.mark.tool
def test_nvcc() -> None:
    try:
        found = find_compiler()
    except UnavailableError as error:
        pytest.skip(str(error))
    if not isinstance(found, Nvcc):
        pytest.skip("nvcc is not installed")
    assert found.version.startswith("nvcc ")
    _check(found)


@pytest.mark.tool
def test_nvrtc() -> None:
    library = os.environ.get("NVRTC_LIBRARY") or toolchain._nvrtc_library()
    if not library:
        pytest.skip("needs nvidia-cuda-nvrtc, or NVRTC_LIBRARY, the path of its library")
    found = Nvrtc(Path(library))
    assert found.version.startswith("NVRTC ")
    _check(found)
    with pytest.raises(SqueezeEdgeError, match=r"NVRTC failed for sm_80: .*error"):
        found.cubin("nonsense", "sm_80")


def _check(found: Nvcc | Nvrtc) -> None:
    assert found.cubin(SOURCE, "sm_80").startswith(b"\x7fELF")
    assert {"sm_80", "sm_87", "sm_90"} <= found.architectures()
    ptx = found.ptx(SOURCE, "sm_90").decode()
    assert ".target sm_90" in ptx and ".entry copy" in ptx and "dp4a.u32.s32" in ptx
