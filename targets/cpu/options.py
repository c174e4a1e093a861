"""Options of the CPU target and what they choose on this machine; nothing heavy is imported."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from squeezeedge.errors import UnavailableError, UsageError

__all__ = [
    "FEATURES",
    "RESERVED",
    "TRIPLES",
    "CpuOptions",
    "architecture",
    "c_compiler",
    "check_prefix",
    "check_processor",
    "choose_isas",
    "host_features",
]

CPU_INFO = Path("/proc/cpuinfo")

FEATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "amx": ("x86_64", ("avx512bw", "avx512vl", "amx_tile", "amx_int8")),
    "avx512-vnni": ("x86_64", ("avx512bw", "avx512vl", "avx512_vnni")),
    "avx-vnni": ("x86_64", ("avx2", "avx_vnni")),
    "avx512bw": ("x86_64", ("avx512bw", "avx512vl")),
    "avx2": ("x86_64", ("avx2",)),
    "ssse3": ("x86_64", ("ssse3",)),
    "neon-i8mm": ("aarch64", ("i8mm",)),
    "neon-dotprod": ("aarch64", ("asimddp",)),
    "neon": ("aarch64", ()),
    "armv7-neon": ("arm", ("neon",)),
    "generic": ("", ()),
}
"""Instruction set -> (the architecture that has it; none: all, what its kernels may use beyond every such processor).

The names are those of /proc/cpuinfo. Best first; the last one runs on every processor of an architecture.
"""

TRIPLES: dict[str, str] = {
    "x86_64-linux-gnu": "gcc-x86-64-linux-gnu",
    "aarch64-linux-gnu": "gcc-aarch64-linux-gnu",
    "arm-linux-gnueabihf": "gcc-arm-linux-gnueabihf",
    "arm-linux-gnueabi": "gcc-arm-linux-gnueabi",
    "riscv64-linux-gnu": "gcc-riscv64-linux-gnu",
}
"""Triples that are known to work -> Debian's package of the compiler."""

RESERVED = frozenset("c dl gcc m mq pthread rt sem shm squeezeedge util".split())
"""No prefixes: libraries and functions of the system (``libm.so``, ``sem_open``), and the short names' own."""

_LONGEST_PREFIX = 64


@dataclass(frozen=True)
class CpuOptions:
    """What to compile for; the defaults mean this machine."""

    isa: str = field(
        default="auto",
        metadata={
            "help": f"Instruction set of the kernels: auto (this machine's best), {', '.join(FEATURES)}. Several with "
            "commas between them, or all: the library has kernels for each and takes the best that a processor has.",
            "values": ("auto", "all", *FEATURES),
        },
    )
    mtriple: str | None = field(
        default=None, metadata={"help": "Triple of another machine to compile for, such as aarch64-linux-gnu."}
    )
    mcpu: str | None = field(default=None, metadata={"help": "Processor to tune for, by LLVM's name."})
    prefix: str | None = field(
        default=None,
        metadata={"help": "First part of the names in C: PREFIX_open, libPREFIX.so. Default: the network's name."},
    )
    cc: str | None = field(
        default=None, metadata={"help": "C compiler that links the library. Default: cc; with --mtriple, TRIPLE-gcc."}
    )


def host_features() -> frozenset[str]:
    """What this machine's processor has, in Linux's words; empty where that is not known."""
    try:
        text = CPU_INFO.read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return frozenset(next((v.split() for k, _, v in lines if k.strip() in ("flags", "Features")), []))


def architecture(options: CpuOptions) -> str:
    """The processor's architecture, as :data:`FEATURES` names it; others by their own name."""
    machine = (options.mtriple or platform.machine()).lower().partition("-")[0]
    if machine in ("amd64", "arm64"):
        return {"amd64": "x86_64", "arm64": "aarch64"}[machine]
    return "arm" if re.match(r"(arm|thumb)(v[4-9]|$)", machine) else machine


def choose_isas(options: CpuOptions) -> tuple[str, ...]:
    """The instruction sets to compile for, the best first.

    Raises:
        UsageError: one is not known, or not one of the processor's architecture.
    """
    machine = options.mtriple or platform.machine()
    known = architecture(options)
    fitting = {name: features for name, (needed, features) in FEATURES.items() if needed in ("", known)}
    if options.isa == "auto":
        has = _promised(options.mtriple) if options.mtriple else host_features()
        return (next(name for name, features in fitting.items() if has.issuperset(features)),)
    if options.isa == "all":
        return tuple(fitting)
    wanted = options.isa.split(",")
    for name in wanted:
        if name in ("auto", "all"):
            raise UsageError(f"`isa` {options.isa}: {name} is no name in a list; give it alone")
        if name not in FEATURES:
            raise UsageError(f"`isa` {name!r}: not known; there are: auto, all, {', '.join(FEATURES)}")
        if name not in fitting:
            raise UsageError(f"`isa` {name}: {machine} does not have it; use one of: auto, all, {', '.join(fitting)}")
    return tuple(name for name in fitting if name in wanted)


def _promised(triple: str) -> frozenset[str]:
    """Features that nearly all boards of a triple have; on others the library reports an error when it is opened."""
    return frozenset(["neon"] if re.match(r"(arm|thumb)v[78]|arm-.*hf$", triple) else [])


def check_prefix(prefix: str | None) -> None:
    """Raise UsageError unless a prefix, if one is given, can begin names in C and be a library's name."""
    if prefix is None:
        return
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix) or len(prefix) > _LONGEST_PREFIX:
        text = f"must be a letter and then letters, digits and _, at most {_LONGEST_PREFIX} in all"
        raise UsageError(f"`prefix` {prefix!r}: {text}")
    if prefix in RESERVED:
        raise UsageError(f"`prefix` {prefix}: libraries of the system have names that begin with it; choose another")


def check_processor(options: CpuOptions) -> None:
    """Ask LLVM for the triple and the processor, if they are given.

    Raises:
        UsageError: LLVM does not know them, or the triple is not Linux's.
    """
    if options.mtriple is None and options.mcpu is None:
        return
    from tvm.target import Target, codegen

    target = {"kind": "llvm"}
    if options.mtriple is not None:
        _check_triple(options.mtriple, set(map(str, codegen.llvm_get_targets())))
        target["mtriple"] = options.mtriple
    if options.mcpu is not None:
        known = [str(name) for name in codegen.llvm_get_cpu_archlist(Target(target))]
        if options.mcpu not in known:
            near = get_close_matches(options.mcpu, known, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(known)}"
            machine = options.mtriple or "this machine"
            raise UsageError(f"`mcpu` {options.mcpu}: LLVM knows no such processor for {machine}; {hint}")


def _check_triple(triple: str, targets: set[str]) -> None:
    """Raise UsageError unless it is ARCHITECTURE-...linux...; ``targets``: LLVM's names of architectures.

    LLVM itself must not be asked about others: it crashes.
    """
    architecture, *rest = triple.split("-")
    aliases = r"amd64|arm64|i[3-6]86|ppc64le|arm(v[4-9][a-z]*)|thumb(v[4-9][a-z]*)"
    known = architecture in targets or re.fullmatch(aliases, architecture) is not None
    wrong = None if known else f"LLVM knows no architecture {architecture!r}"
    if known and not re.fullmatch(r"([A-Za-z0-9_.]+-)?linux(-[A-Za-z0-9_.]+)?", "-".join(rest)):
        wrong = "the library is for Linux, as in ARCHITECTURE-linux-gnu"
    if wrong is not None:
        near = get_close_matches(triple, TRIPLES, 1, 0.7)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"`mtriple` {triple}: {wrong}; {hint}known to work: {', '.join(TRIPLES)}")


def c_compiler(options: CpuOptions) -> str:
    """Path of the C compiler.

    Raises:
        UnavailableError: it is not installed.
    """
    name = options.cc or (f"{options.mtriple}-gcc" if options.mtriple else "cc")
    found = shutil.which(name)
    if found is not None:
        return found
    if options.cc:
        fix = "install it, or name another with `cc`"
    elif options.mtriple in TRIPLES:
        fix = f"install {TRIPLES[options.mtriple]} (Debian's package), or name another with `cc`"
    elif options.mtriple:
        fix = "put the compiler of that machine's toolchain there, or name it with `cc`; "
        fix += f"known to work: {', '.join(TRIPLES)}"
    else:
        fix = "install gcc or clang, or name another with `cc`"
    raise UnavailableError(f"the C compiler {name} is not on the path: {fix}")
