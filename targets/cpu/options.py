"""Options of the CPU target and what they choose on this machine; nothing heavy is imported."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from squeezeedge.errors import UnavailableError, UsageError

__all__ = ["FEATURES", "CpuOptions", "c_compiler", "choose_isa", "host_features"]

CPU_INFO = Path("/proc/cpuinfo")

FEATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "amx": (("x86_64", "amd64"), ("avx512bw", "avx512_vnni", "amx_int8")),
    "avx512-vnni": (("x86_64", "amd64"), ("avx512bw", "avx512_vnni")),
    "avx-vnni": (("x86_64", "amd64"), ("avx2", "avx_vnni")),
    "avx512bw": (("x86_64", "amd64"), ("avx512bw",)),
    "avx2": (("x86_64", "amd64"), ("avx2",)),
    "neon-dotprod": (("aarch64", "arm64"), ("asimddp",)),
    "neon": (("aarch64", "arm64"), ()),
    "generic": ((), ()),
}
"""Instruction set -> (beginnings of the target triples that have it; none: all, what /proc/cpuinfo must list).

Best first; the last one runs on every processor.
"""


@dataclass(frozen=True)
class CpuOptions:
    """What to compile for; the defaults mean this machine."""

    isa: str = field(
        default="auto",
        metadata={"help": f"Instruction set of the kernels: auto (this machine's best), {', '.join(FEATURES)}."},
    )
    mtriple: str | None = field(
        default=None, metadata={"help": "Another machine's triple, as aarch64-linux-gnu: compile for it."}
    )
    mcpu: str | None = field(default=None, metadata={"help": "LLVM's name of the processor to tune for."})
    cc: str | None = field(
        default=None, metadata={"help": "C compiler that links the library. Default: cc, with --mtriple TRIPLE-gcc."}
    )


def host_features() -> frozenset[str]:
    """What this machine's processor has, in Linux's words; empty where that is not known."""
    try:
        text = CPU_INFO.read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return frozenset(next((v.split() for k, _, v in lines if k.strip() in ("flags", "Features")), []))


def choose_isa(options: CpuOptions) -> str:
    """The instruction set to compile for.

    Raises:
        UsageError: it is not known, or not one of the processor's architecture.
    """
    machine = (options.mtriple or platform.machine()).lower()
    fitting = {
        name: features
        for name, (architectures, features) in FEATURES.items()
        if not architectures or machine.startswith(architectures)
    }
    if options.isa == "auto":
        has = frozenset() if options.mtriple else host_features()
        return next(name for name, features in fitting.items() if has.issuperset(features))
    if options.isa not in FEATURES:
        raise UsageError(f"--isa {options.isa}: not known; there are: auto, {', '.join(FEATURES)}")
    if options.isa not in fitting:
        raise UsageError(f"--isa {options.isa}: {machine} does not have it; use one of: auto, {', '.join(fitting)}")
    return options.isa


def c_compiler(options: CpuOptions) -> str:
    """Path of the C compiler.

    Raises:
        UnavailableError: it is not installed.
    """
    name = options.cc or (f"{options.mtriple}-gcc" if options.mtriple else "cc")
    found = shutil.which(name)
    if found is None:
        fix = f"install gcc-{options.mtriple}" if options.mtriple else "install gcc or clang"
        raise UnavailableError(f"the C compiler {name} is not on the path: {fix}, or name another with --cc")
    return found
