"""Which instruction set and compiler are chosen."""

import platform
import re
from pathlib import Path

import pytest

from squeezeedge.errors import UnavailableError, UsageError
from squeezeedge.targets.cpu import TARGET, CpuOptions, options
from squeezeedge.targets.cpu.options import (
    TRIPLES,
    check_prefix,
    check_processor,
    choose_isas,
    host_features,
)


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
        ("sse2 ssse3", "ssse3"),
        ("ssse3 avx2", "avx2"),
        ("avx2 avx512bw", "avx2"),
        ("avx2 avx512bw avx512vl", "avx512bw"),
        ("avx2 avx_vnni", "avx-vnni"),
        ("avx2 avx512bw avx512vl avx512_vnni", "avx512-vnni"),
        ("avx2 avx512bw avx512vl avx512_vnni avx_vnni amx_tile amx_int8", "amx"),
    ],
)
def test_the_best_of_this_machine(machine: Path, flags: str, expected: str) -> None:
    machine.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert choose_isas(CpuOptions()) == (expected,)


def test_an_unknown_machine_gets_the_portable_kernels(machine: Path) -> None:
    assert host_features() == frozenset()
    assert choose_isas(CpuOptions()) == ("generic",)


def test_cross_compilation_does_not_look_at_this_machine(machine: Path) -> None:
    machine.write_text("flags : avx2 avx512bw avx512_vnni\n")
    assert choose_isas(CpuOptions(mtriple="aarch64-linux-gnu")) == ("neon",)
    assert choose_isas(CpuOptions(mtriple="x86_64-linux-gnu")) == ("generic",)
    assert choose_isas(CpuOptions(mtriple="aarch64-linux-gnu", isa="neon-dotprod")) == ("neon-dotprod",)


@pytest.mark.parametrize(
    ("triple", "expected"),
    [
        ("arm-linux-gnueabihf", "armv7-neon"),
        ("armv7l-linux-musleabihf", "armv7-neon"),
        ("thumbv7-linux-gnueabi", "armv7-neon"),
        ("armv6-linux-gnueabihf", "generic"),
        ("armv6l-linux-gnueabihf", "generic"),
        ("arm-linux-gnueabi", "generic"),
        ("arm64-linux-gnu", "neon"),
        ("amd64-linux-gnu", "generic"),
        ("riscv64-linux-gnu", "generic"),
    ],
)
def test_what_a_triple_promises(triple: str, expected: str) -> None:
    assert choose_isas(CpuOptions(mtriple=triple)) == (expected,)


def test_wrong_instruction_sets(machine: Path) -> None:
    with pytest.raises(UsageError, match="not known; there are: auto, all, amx"):
        choose_isas(CpuOptions(isa="mmx"))
    with pytest.raises(UsageError, match="aarch64-linux-gnu does not have it; use one of: auto, all, neon"):
        choose_isas(CpuOptions(isa="avx2", mtriple="aarch64-linux-gnu"))


def test_several_instruction_sets_stand_in_the_order_of_preference(machine: Path) -> None:
    assert choose_isas(CpuOptions(isa="generic,avx2,avx512-vnni,avx2")) == ("avx512-vnni", "avx2", "generic")
    everything = choose_isas(CpuOptions(isa="all"))
    assert everything[0] == "amx" and everything[-1] == "generic" and "neon" not in everything
    assert choose_isas(CpuOptions(isa="all", mtriple="arm-linux-gnueabihf")) == ("armv7-neon", "generic")
    refused = {"avx2,": "`isa` '': not known", "avx2,neon": "neon: x86_64 does not", "avx2,all": "avx2,all: all is no"}
    for wrong, said in refused.items():
        with pytest.raises(UsageError, match=said):
            choose_isas(CpuOptions(isa=wrong))


def test_a_missing_compiler_is_reported_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="cc is not on the path: install gcc"):
        TARGET.check_options(CpuOptions())
    with pytest.raises(UnavailableError, match=r"the C compiler mycc is not on the path: install it, or name another"):
        TARGET.check_options(CpuOptions(cc="mycc"))


@pytest.mark.parametrize("triple", TRIPLES)
def test_a_missing_cross_compiler_is_a_package_of_debian(triple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    package = f"gcc-{triple.replace('_', '-')}"
    with pytest.raises(UnavailableError, match=rf"{triple}-gcc is not on the path: install {package} \(Debian's"):
        TARGET.check_options(CpuOptions(mtriple=triple))


@pytest.mark.parametrize(
    "triple", ["aarch64-poky-linux", "armv7l-linux-musleabihf", "loongarch64-linux-gnu", "amd64-linux"]
)
def test_a_plausible_triple_without_a_compiler(triple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package is invented for it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        UnavailableError, match=r"-gcc is not on the path: put the compiler .*known to work: x86_64"
    ) as said:
        TARGET.check_options(CpuOptions(mtriple=triple))
    assert "install" not in str(said.value)


@pytest.mark.parametrize(
    ("triple", "text"),
    [
        ("foo-bar", "LLVM knows no architecture 'foo'; known to work: x86_64-linux-gnu, aarch64-linux-gnu, arm-"),
        ("", "LLVM knows no architecture ''"),
        ("aarch64", "the library is for Linux, as in ARCHITECTURE-linux-gnu; known to work"),
        ("aarch64-none-elf", "the library is for Linux"),
        ("x86_64-w64-mingw32", "the library is for Linux"),
        ("arch64-linux-gnu", "LLVM knows no architecture 'arch64'; did you mean aarch64-linux-gnu?"),
        ("aarch64-linux-gnu/../x", "the library is for Linux"),
        ("armvfoo-linux-gnu", "LLVM knows no architecture 'armvfoo'"),
        ("m68k-linux-gnu", "LLVM knows no architecture 'm68k'"),
    ],
)
def test_nonsense_triples(triple: str, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        TARGET.check_options(CpuOptions(mtriple=triple))
    assert capfd.readouterr() == ("", "")  # LLVM says nothing of its own


def test_processors_that_llvm_knows() -> None:
    TARGET.check_options(CpuOptions(isa="generic", mcpu="generic"))
    known = {"znver4": "x86_64-linux-gnu", "cortex-a53": "aarch64-linux-gnu", "cortex-a9": "armv7l-linux"}
    for name, triple in known.items():
        check_processor(CpuOptions(mcpu=name, mtriple=triple))


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (CpuOptions(mcpu="haswel", mtriple="x86_64-linux-gnu"), "for x86_64-linux-gnu; did you mean haswell"),
        (CpuOptions(mcpu="haswell", mtriple="aarch64-linux-gnu"), "no such processor for aarch64-linux-gnu; "),
        (CpuOptions(mcpu="Cortex A53", mtriple="aarch64-linux-gnu"), "did you mean cortex-a53"),
        (CpuOptions(mcpu="qqqqqq"), "LLVM knows no such processor for this machine; it knows "),
        (CpuOptions(mcpu=""), "LLVM knows no such processor for this machine"),
    ],
)
def test_processors_that_llvm_does_not_know(chosen: CpuOptions, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=text):
        TARGET.check_options(chosen)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("prefix", [None, "a", "Net_1", "x" * 64])
def test_prefixes(prefix: str | None) -> None:
    check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix", ["", "1a", "_a", "a-b", "a b", "ä", "a\n", "../a", "x" * 65, "m", "sem", "squeezeedge"]
)
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(UsageError, match="`prefix`"):
        TARGET.check_options(CpuOptions(prefix=prefix))
