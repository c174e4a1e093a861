"""TVM's target for an instruction set: it names every feature that kernels may use and switches off all others.

LLVM's processor names enable more features than wanted. Kernels tuned for one processor thus run on every processor
that has the named features.
"""

from __future__ import annotations

import re
from typing import Any

from tvm.target import Target, codegen

from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.options import FEATURES, CpuOptions, architecture

__all__ = ["llvm_target"]

LLVM_NAMES = {
    "amx_int8": ("amx-int8",),
    "amx_tile": ("amx-tile",),
    "asimddp": ("dotprod",),
    "avx512_vnni": ("avx512vnni",),
    "avx_vnni": ("avxvnni",),
    "neon": ("armv7-a", "neon"),  # there is none on anything older
}
"""Names of :data:`FEATURES` that LLVM has other names for."""

TUNING = re.compile(
    r"(fast|faster|slow|prefer|no-bypass|false-deps|tuning|use|fuse|muxed|addr|alu)-.*"
    r"|.*(fusion|-hazards|-forwarding)|allow-light-256-bit|balance-fp-ops|enable-select-opt|idivq-to-divl"
    r"|predictable-select-expensive|sbb-dep-breaking|vzeroupper"
)
"""What LLVM lists among the features, but changes only which of the allowed instructions are taken, and their order."""


def llvm_target(isa: InstructionSet, options: CpuOptions) -> dict[str, Any]:
    """TVM's target; it takes no command-line form.

    Args:
        isa: the instruction set.
        options: the triple, and the processor to tune for instead of the instruction set's own.
    """
    machine = architecture(options)
    base: dict[str, Any] = {"kind": "llvm"}
    if options.mtriple is not None:
        base["mtriple"] = options.mtriple
        if machine == "arm" and options.mtriple.endswith("hf"):
            base["mfloat-abi"] = "hard"
    named = [name for feature in FEATURES[isa.name][1] for name in LLVM_NAMES.get(feature, (feature,))]
    if machine == "riscv64":  # RV64GC, for which Linux's distributions and their compilers are
        base["mabi"] = "lp64d"
        named += ["m", "a", "f", "d", "c"]
    wanted = [f"+{name}" for name in named]
    allowed = _features({**base, **({"mcpu": "x86-64"} if machine == "x86_64" else {}), "mattr": wanted})
    if machine == "arm" and not named:
        allowed = frozenset(name for name in allowed if not re.match(r"neon|d32|v?fp", name))
    target = dict(base)
    tuned = options.mcpu or isa.tuned
    if tuned is not None:
        target["mcpu"] = tuned
    unwanted = _features({**target, "mattr": wanted}) - allowed
    switches = [*wanted, *(f"-{name}" for name in sorted(unwanted) if not TUNING.fullmatch(name))]
    return {**target, "mattr": switches} if switches else target


def _features(target: dict[str, Any]) -> frozenset[str]:
    """All features that LLVM has for a target, with those that others imply."""
    return frozenset(map(str, codegen.llvm_get_cpu_features(Target(target))))
