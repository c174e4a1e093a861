"""Generates the header of the accelerator's C++ with geometry, numbers and field positions.

The layout of an instruction is thus declared once, in its dataclass. The C++ includes the header as ``vta_config.h``.
"""

from __future__ import annotations

import re
from pathlib import Path

import squeezeedge.hls
from squeezeedge.graph import rules
from squeezeedge.targets.vta.isa.encoding import SHIFT_BITS, slots
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS

__all__ = ["CONFIG_HEADER", "HLS", "config_header", "hardware_sources"]

HLS = Path(squeezeedge.hls.__file__).parent
"""Folder of the accelerator's C++."""

CONFIG_HEADER = "vta_config.h"
"""Name under which the C++ includes :func:`config_header`."""


def hardware_sources() -> list[Path]:
    """The C++ files that Vitis HLS synthesizes; the one that is not a header has the top function."""
    return sorted([*HLS.glob("*.h"), *HLS.glob("*.cpp")])


def config_header(geometry: Geometry) -> str:
    """The header's text for one geometry."""
    lines = [
        "// Generated from the geometry and the instruction classes.",
        "#ifndef SQUEEZEEDGE_VTA_CONFIG_H",
        "#define SQUEEZEEDGE_VTA_CONFIG_H",
        "",
        f"#define VTA_BLOCK {geometry.block}",
        f"#define VTA_BUS_BYTES {geometry.bus_bytes}",
        f"#define VTA_DSP_PACKING {int(geometry.dsp_packing)}",
        f"#define VTA_SIGN {rules.SIGN}",
        f"#define VTA_SHIFT_BITS {SHIFT_BITS}",
    ]
    for memory in (Memory.UOP, Memory.INP, Memory.WGT, Memory.ACC, Memory.PAR):
        lines.append(f"#define VTA_{memory.name}_BITS {geometry.depth(memory).bit_length() - 1}")
    lines += ["", "// Fields: word, lowest bit, bits."]
    for instruction in INSTRUCTIONS.values():
        for slot in slots(instruction, geometry):
            if re.match("(pop|push)_", slot.name):
                continue  # the same bits everywhere: isa.h has them
            name = f"VTA_{instruction.mnemonic}_{slot.name}".upper()
            lines.append(f"#define {name} {slot.word}, {slot.low}, {slot.width}")
    return "\n".join([*lines, "", "#endif  // SQUEEZEEDGE_VTA_CONFIG_H", ""])
