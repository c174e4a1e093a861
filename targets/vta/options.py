"""What a user chooses for the accelerator."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["VtaOptions"]

CONFIGS = tuple(sorted(path.stem for path in (Path(__file__).parent / "configs").glob("*.json")))
"""Boards whose configurations are here."""
OLD_INSTRUCTIONS = {"vta-x": "extended", "vta": "published"}
"""What the values of ``instructions`` were called before."""


@dataclass(frozen=True)
class VtaOptions:
    """What to compile for."""

    instructions: str = field(
        default="extended",
        metadata={
            "help": "Instructions: extended (this project's core) or published (VTA's own only).",
            "names": ("--instructions", "--profile"),
            "values": ("extended", "published"),
        },
    )
    config: str = field(
        default="pynq-z2",
        metadata={"help": "Accelerator: a board's name or a JSON file.", "values": CONFIGS},
    )
    clock: int | None = field(
        default=None,
        metadata={"help": "Clock of the accelerator in MHz, also of the cycle model. Default: the configuration's."},
    )
    bitstream: bool = field(
        default=False, metadata={"help": "Build the FPGA's bitstream too (Vitis HLS and Vivado, about an hour)."}
    )
    bitstream_file: Path | None = field(
        default=None, metadata={"help": "Use this .bit file, with its .hwh beside it, instead of building one."}
    )
    tvm_module: bool = field(
        default=False,
        metadata={
            "help": "Also write model.so, a TVM module that runs the program on the simulator through the driver."
        },
    )

    def __post_init__(self) -> None:
        name = OLD_INSTRUCTIONS.get(self.instructions)
        if name is not None:
            warnings.warn(
                f"the {self.instructions!r} instructions are called {name!r} now: `instructions` {name}",
                FutureWarning,
                stacklevel=3,
            )
            object.__setattr__(self, "instructions", name)
