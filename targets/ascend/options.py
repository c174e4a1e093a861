"""Options of the Ascend target; nothing heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from squeezeedge.errors import UsageError

__all__ = ["EMULATED", "ROUNDINGS", "AscendOptions", "check_options"]

EMULATED = "emulated"
"""The soc_version of an artifact for the emulation only: ATC is not asked."""

ROUNDINGS = ("exact", "fused")

EXAMPLES = "Ascend310 (Atlas 200/300), Ascend310P3 (Atlas 300I Pro/Duo), Ascend310B4 (Atlas 200I DK A2), Ascend910B3"


@dataclass(frozen=True)
class AscendOptions:
    """What to compile for."""

    soc_version: str = field(
        default="",
        metadata={
            "help": f"Chip, as `npu-smi info` names it behind 'Ascend'; required: {EXAMPLES}.",
            "emulated": EMULATED,
        },
    )
    rounding: str = field(
        default="exact",
        metadata={
            "help": "exact: every layer rounds as the integer graph does; fused: the layout of Ascend's own quantizer, "
            "which ATC fuses furthest and which rounds twice."
        },
    )


def check_options(options: AscendOptions) -> None:
    """Raise UsageError unless the options name a chip and a rounding."""
    if not options.soc_version:
        raise UsageError(f"--target ascend needs --soc-version: {EXAMPLES}, ...; `npu-smi info` on the device tells it")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", options.soc_version):
        raise UsageError(f"--soc-version {options.soc_version}: not a chip's name; there are: {EXAMPLES}, ...")
    if options.rounding not in ROUNDINGS:
        raise UsageError(f"--rounding {options.rounding}: not known; there are: {', '.join(ROUNDINGS)}")
