"""Cycles of basic blocks on processors: by llvm-mca's simulation, and by the widths that the processors' guides state.

llvm-mca repeats a block; all data is in the first cache, and every branch is foreseen. The second figure only counts: a
block takes as long as the part of the processor which it keeps busy longest, whatever depends on what.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.executed import MATTR, TRIPLES, tool
from squeezeedge.errors import SqueezeEdgeError, UnavailableError

__all__ = ["PROCESSORS", "Processor", "bound_cycles", "classes", "simulated_cycles"]

ITERATIONS = 100
"""Of a block, whose mean is taken."""

_ARMV7 = ("armv7-neon",)
_NEON = ("neon",)
_DOTPROD = ("neon", "neon-dotprod")
_I8MM = (*_DOTPROD, "neon-i8mm")
_X86 = ("ssse3", "avx2", "avx-vnni")
_X86_512 = ("avx512bw", "avx512-vnni")


@dataclass(frozen=True)
class Processor:
    """What is predicted for.

    Attributes:
        name: as it is known.
        board: what has one.
        machine: architecture of the code.
        isas: instruction sets of which kernels are predicted.
        hertz: clock; 0: measured.
        mcpu: LLVM's name of the processor whose model is simulated.
        unit: how that model's units are named, as LLVM knows some processors by the name only.
        l2: bytes of a core's second cache.
        beyond: bytes a second that a core reads from behind it.
        width: instructions that are dispatched in a cycle; llvm-mca is told so, too.
        rates: class -> how many instructions of it in a cycle (:func:`classes`). Empty: there is no guide.
    """

    name: str
    board: str
    machine: str
    isas: Sequence[str]
    hertz: float
    mcpu: str
    unit: str
    l2: int
    beyond: float
    width: int
    rates: Mapping[str, float] = field(default_factory=dict)


_A72 = {"multiply": 1, "dot": 1, "vector": 2, "from core": 1, "load": 1, "store": 1, "core": 2}

PROCESSORS = (
    Processor(
        *("Cortex-A53", "Raspberry Pi 3 B+", "aarch64", _NEON, 1.4e9, "cortex-a53", "A53Unit", 512 << 10, 2e9, 2),
    ),
    Processor(  # Arm Cortex-A72 Software Optimization Guide, UAN 0016A
        *("Cortex-A72", "Raspberry Pi 4", "aarch64", _NEON, 1.5e9, "cortex-a72", "A57Unit", 1 << 20, 4e9, 3),
        _A72,
    ),
    Processor(  # llvm-mca 22 crashes on code for the Cortex-A9
        *("Cortex-A72 32-bit", "Raspberry Pi 4", "arm", _ARMV7, 1.5e9, "cortex-a72", "A57Unit", 1 << 20, 4e9, 3),
        _A72,
    ),
    Processor(  # Arm Cortex-A76 Software Optimization Guide, PJDOC-466751330-7215; LLVM's model is the Neoverse N1's
        *("Cortex-A76", "Raspberry Pi 5", "aarch64", _DOTPROD, 2.4e9, "neoverse-n1", "N1Unit", 512 << 10, 10e9, 4),
        {"multiply": 1, "dot": 2, "vector": 2, "from core": 1, "load": 2, "store": 2, "core": 3},
    ),
    Processor(  # Arm Neoverse N2 Software Optimization Guide, PJDOC-466751330-18256
        *("Neoverse N2", "Azure Cobalt 100", "aarch64", _I8MM, 3.4e9, "neoverse-n2", "N2Unit", 1 << 20, 20e9, 5),
        {"multiply": 1, "product": 2, "dot": 2, "vector": 2, "from core": 1, "load": 3, "store": 2, "core": 4},
    ),
    Processor(  # Intel 64 and IA-32 Architectures Optimization Reference Manual
        *("Golden Cove", "this machine", "x86_64", _X86, 0, "sapphirerapids", "SPRPort", 2 << 20, 10e9, 6),
        {"multiply": 2, "dot": 2, "vector": 3, "from core": 1, "load": 3, "store": 2, "core": 5},
    ),
    Processor(  # LLVM's model of it has one port for products of 512 bits; the Ice Lake's has two, as it has itself
        *(
            "Golden Cove 512",
            "this machine",
            "x86_64",
            _X86_512,
            0,
            "icelake-server",
            "ICXPort",
            2 << 20,
            10e9,
            6,
        ),
        {"multiply": 2, "dot": 2, "vector": 2, "from core": 1, "load": 2, "store": 1, "core": 4},
    ),
)
"""Clocks and caches are those of the boards; ``beyond`` is assumed, below what their memory is known to reach."""

_CLASSES = {
    "aarch64": (
        ("load", r"ld\w+ .*"),
        ("store", r"st\w+ .*"),
        ("dot", r"\w*dot .*|\w*mmla .*"),
        ("product", r"[su]mull2? v.*"),
        ("multiply", r"[su]?(q?r?d)?ml[as]l?2? .*|mul v.*"),
        ("from core", r"(dup|ins|mov) v[^,]*, [wx]\w+"),
        ("vector", r"\S+ \{? ?[vqdsh]\d.*"),
    ),
    "arm": (
        ("load", r"v?ld\S+ .*|pop .*"),
        ("store", r"v?st\S+ .*|push .*"),
        ("multiply", r"vq?r?d?m(ul|la|ls)\S* .*"),
        ("from core", r"v(dup|mov)\S* [qd][^,]*, r\d+"),
        ("vector", r"v\S+ .*"),
    ),
    "x86_64": (
        ("store", r".*, -?\w*\([^()]*\)"),
        ("dot", r"(\{vex\} )?vpdpbusds? .*"),
        ("multiply", r"vpm(add|ul)\S* .*"),
        ("from core", r"vp?(broadcast|mov)\w* %[er][^,]*, %[xyz]mm.*"),
        ("load", r"v?p?(mov|broadcast)\S* [^%]*\(.*"),
        ("vector", r"v\S+ .*"),
    ),
}
"""Architecture -> (class, what the instruction is like), the first that fits; all others are ``core``."""

_COMPILED = {machine: [(name, re.compile(form)) for name, form in forms] for machine, forms in _CLASSES.items()}
_PAIR = re.compile(r"(ld|st)n?p [qdx].*")


def classes(instructions: Sequence[str], machine: str) -> Counter[str]:
    """How many of a block's instructions are of each class; one that moves two registers counts twice.

    Args:
        instructions: as :class:`benchmarks.executed.Block` has them.
        machine: architecture.
    """
    found: Counter[str] = Counter()
    for text in instructions:
        kind = next((name for name, form in _COMPILED[machine] if form.fullmatch(text)), "core")
        found[kind] += 2 if _PAIR.fullmatch(text) and machine == "aarch64" else 1
        if machine == "x86_64" and kind not in ("load", "store") and re.search(r"\(.*\),", text):
            found["load"] += 1  # an operand in memory
    return found


def bound_cycles(instructions: Sequence[str], processor: Processor) -> float:
    """The fewest cycles that the widths allow a block."""
    found = classes(instructions, processor.machine)
    if "product" not in processor.rates:  # its pipe is that of multiplications which add
        found["multiply"] += found.pop("product", 0)
    busy = {name: found[name] / rate for name, rate in processor.rates.items() if name != "vector"}
    vector = sum(found[name] for name in ("vector", "multiply", "product", "dot"))
    busy["vector"] = vector / processor.rates["vector"]
    return max(*busy.values(), len(instructions) / processor.width)


def simulated_cycles(blocks: Sequence[Sequence[str]], processor: Processor) -> list[float]:
    """Cycles of each block, by llvm-mca.

    Args:
        blocks: their instructions.
        processor: which.

    Raises:
        UnavailableError: llvm-mca is missing, or its version has no model of the processor.
        SqueezeEdgeError: it refuses an instruction.
    """
    comment = "@" if processor.machine == "arm" else "#" if processor.machine == "x86_64" else "//"
    lines = []
    for number, block in enumerate(blocks):
        lines += [f"{comment} LLVM-MCA-BEGIN {number}", *block, f"{comment} LLVM-MCA-END"]
    name = tool("llvm-mca")
    simulated = [f"-mcpu={processor.mcpu}", f"-dispatch={processor.width}", f"-iterations={ITERATIONS}"]
    command = [
        name,
        f"-mtriple={TRIPLES[processor.machine]}",
        f"-mattr={MATTR[processor.machine]}",
        *simulated,
        "-json",
    ]
    done = subprocess.run(command, input="\n".join([*lines, ""]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if "error" in line]
        raise SqueezeEdgeError(f"{name} failed: {reasons[0] if reasons else done.stderr[:200]}")
    said = json.loads(done.stdout)
    if not any(unit.startswith(processor.unit) for unit in said["TargetInfo"]["Resources"]):
        raise UnavailableError(f"{name} has no model of {processor.mcpu}; install llvm-22 (Debian's package) or newer")
    found = {int(region["Name"]): region["SummaryView"] for region in said["CodeRegions"]}
    return [found[number]["TotalCycles"] / ITERATIONS for number in range(len(blocks))]
