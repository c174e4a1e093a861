"""The CPU's instruction sets, by name."""

from __future__ import annotations

from squeezeedge.targets.cpu.arm import ArmNeonSet, DotProductSet, MatrixProductSet, NeonSet
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.portable import PortableSet
from squeezeedge.targets.cpu.x86 import ChainedSet, MatrixSet, VnniSet

__all__ = ["INSTRUCTION_SETS"]

INSTRUCTION_SETS: dict[str, InstructionSet] = {
    isa.name: isa
    for isa in (
        MatrixSet(
            "amx",
            lanes=16,
            group=64,
            tuned="sapphirerapids",
        ),
        VnniSet(
            "avx512-vnni",
            lanes=16,
            group=4,
            tuned="icelake-server",
            registers=30,
            in_flight=10,
        ),
        VnniSet(
            "avx-vnni",
            lanes=8,
            group=4,
            tuned="alderlake",
            registers=15,
            in_flight=10,
        ),
        ChainedSet(
            "avx512bw",
            lanes=16,
            group=4,
            tuned="skylake-avx512",
            registers=30,
            in_flight=10,
        ),
        ChainedSet(
            "avx2",
            lanes=8,
            group=4,
            tuned="haswell",
            registers=15,
            in_flight=10,
        ),
        ChainedSet(
            "ssse3",
            lanes=4,
            group=4,
            tuned="core2",
            registers=15,
            in_flight=10,
        ),
        MatrixProductSet(
            "neon-i8mm",
            lanes=4,
            group=8,
            registers=26,
        ),
        DotProductSet(
            "neon-dotprod",
            lanes=4,
            group=4,
            registers=30,
            in_flight=8,
        ),
        NeonSet("neon", lanes=8, group=16, registers=13),
        ArmNeonSet("armv7-neon", lanes=8, group=16, registers=8, held=8),
        PortableSet("generic", lanes=8, group=4, registers=8, in_flight=4),
    )
}
"""By the names of :data:`squeezeedge.targets.cpu.options.FEATURES`."""
