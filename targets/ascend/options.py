"""Options of the Ascend target; nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from squeezeedge.errors import UsageError

__all__ = ["CHIPS", "EMULATED", "ROUNDINGS", "AscendOptions", "check_options"]

EMULATED = "emulated"
"""The soc_version of an artifact for the emulation only: ATC is not asked."""

ROUNDINGS = ("exact", "fused")

EXAMPLES = "Ascend310 (Atlas 200/300), Ascend310P3 (Atlas 300I Pro/Duo), Ascend310B4 (Atlas 200I DK A2), Ascend910B3"

CHIPS = tuple(
    f"Ascend{chip}"
    for chip in (
        *("310", "310P1", "310P3", "310P5", "310P7", "310B1", "310B2", "310B3", "310B4", "610", "610Lite"),
        *("910", "910A", "910B", "910ProA", "910ProB", "910PremiumA"),
        *("910B1", "910B2", "910B2C", "910B3", "910B4", "910B4-1"),
        *("910_9361", "910_9362", "910_9372", "910_9381", "910_9382", "910_9391", "910_9392"),
    )
)
"""What CANN's tools call them (their maps of SOC_VERSION, and the ATC guide)."""

VIRTUAL = r"vir[0-9]{2}(_[0-9]+c(_[0-9]+g)?)?"
"""A part of a chip, behind its name."""


@dataclass(frozen=True)
class AscendOptions:
    """What to compile for."""

    soc_version: str = field(
        default="",
        metadata={
            "help": f"Chip, as `npu-smi info` names it behind 'Ascend'; required: {EXAMPLES}. One that is not known "
            "here is written with '=' before it: =Ascend950.",
            "emulated": EMULATED,
            "values": CHIPS,
        },
    )
    rounding: str = field(
        default="exact",
        metadata={
            "help": "exact: every layer rounds as the integer graph does; fused: the layout of Ascend's own quantizer, "
            "which ATC fuses furthest and which rounds twice.",
            "values": ("exact", "fused"),
        },
    )
    debug: bool = field(
        default=False,
        metadata={"help": "Give the model every layer's tensor as an output, for `compare`; ATC may fuse less then."},
    )

    @property
    def chip(self) -> str:
        """What ATC is told."""
        return self.soc_version.removeprefix("=")


def check_options(options: AscendOptions) -> None:
    """Raise UsageError unless the options name a chip and a rounding."""
    asked, chip = options.soc_version, options.chip
    if not asked:
        raise UsageError(f"`target` ascend needs `soc_version`: {EXAMPLES}, ...; `npu-smi info` on the device tells it")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", chip):
        raise UsageError(f"`soc_version` {asked}: not a chip's name; there are: {EXAMPLES}, ...")
    known = re.sub(f"{VIRTUAL}$", "", chip)
    if asked == chip and known not in (*CHIPS, EMULATED):
        names = {name.lower(): name for name in CHIPS}
        lower = known.lower() if known.lower().startswith("ascend") else f"ascend{known.lower()}"
        near = [names[name] for name in difflib.get_close_matches(lower, names, 3, 0.75)]
        likely = f"did you mean {' or '.join(near)}?" if near else f"there are: {EXAMPLES}, ..."
        raise UsageError(
            f"`soc_version` {asked}: not known; {likely} If it is a new chip, write `soc_version` ={asked}"
        )
    if options.rounding not in ROUNDINGS:
        raise UsageError(f"`rounding` {options.rounding}: not known; there are: {', '.join(ROUNDINGS)}")
