"""Which instruction set and compiler are chosen."""

import platform
from pathlib import Path

import pytest

from squeezeedge.errors import UnavailableError, UsageError
from squeezeedge.targets.cpu import TARGET, CpuOptions, options
from squeezeedge.targets.cpu.options import c_compiler, choose_isa, host_features


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that stands for /proc/cpuinfo of an x86-64 machine."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(options, "CPU_INFO", tmp_path / "cpuinfo")
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse2", "generic"),
        ("sse2 avx2", "avx2"),
        ("avx2 avx512bw", "avx512bw"),
        ("avx2 avx_vnni", "avx-vnni"),
        ("avx2 avx512bw avx512_vnni", "avx512-vnni"),
        ("avx2 avx512bw avx512_vnni avx_vnni amx_int8", "amx"),
    ],
)
def test_the_best_of_this_machine(machine: Path, flags: str, expected: str) -> None:
    machine.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert choose_isa(CpuOptions()) == expected


def test_an_unknown_machine_gets_the_portable_kernels(machine: Path) -> None:
    assert host_features() == frozenset()
    assert choose_isa(CpuOptions()) == "generic"


def test_cross_compilation_does_not_look_at_this_machine(machine: Path) -> None:
    machine.write_text("flags : avx2 avx512bw avx512_vnni\n")
    assert choose_isa(CpuOptions(mtriple="aarch64-linux-gnu")) == "neon"
    assert choose_isa(CpuOptions(mtriple="x86_64-linux-gnu")) == "generic"
    assert choose_isa(CpuOptions(mtriple="aarch64-linux-gnu", isa="neon-dotprod")) == "neon-dotprod"


def test_wrong_instruction_sets(machine: Path) -> None:
    with pytest.raises(UsageError, match="not known; there are: auto, amx"):
        choose_isa(CpuOptions(isa="mmx"))
    with pytest.raises(UsageError, match="aarch64-linux-gnu does not have it; use one of: auto, neon"):
        choose_isa(CpuOptions(isa="avx2", mtriple="aarch64-linux-gnu"))


def test_a_missing_compiler_is_reported_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="cc is not on the path: install gcc"):
        TARGET.check_options(CpuOptions())
    with pytest.raises(UnavailableError, match="install gcc-aarch64-linux-gnu"):
        c_compiler(CpuOptions(mtriple="aarch64-linux-gnu"))
