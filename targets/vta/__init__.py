"""VTA: the whole network as one instruction stream for an FPGA accelerator, and the simulator of that accelerator.

The simulator is the accelerator's own source (hls/), compiled by g++. Profile ``vta-x`` is our core's instruction
set; profile ``vta`` the published one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.errors import CorruptFileError, UnavailableError, UsageError
from squeezeedge.targets.protocol import Kind, Profile, Requirement, Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph
    from squeezeedge.targets.vta.isa.geometry import Config
    from squeezeedge.targets.vta.lower.byoc import LoweredNetwork

__all__ = ["TARGET", "VtaOptions", "VtaTarget"]

PROFILES = ("vta-x", "vta")

LISTING_WIDTH = 160
"""Columns of an instruction; its layer's name follows."""


@dataclass(frozen=True)
class VtaOptions:
    """What to compile for."""

    profile: str = field(
        default="vta-x", metadata={"help": "Instructions: vta-x (this project's core) or vta (the published set only)."}
    )
    config: str = field(default="pynq-z2", metadata={"help": "Accelerator: a board's name or a JSON file."})
    clock: int | None = field(
        default=None,
        metadata={"help": "Clock of the accelerator in MHz, also of the cycle model. Default: the configuration's."},
    )
    bitstream: bool = field(
        default=False, metadata={"help": "Build the FPGA's bitstream too (Vitis HLS and Vivado, about an hour)."}
    )
    bitstream_file: Path | None = field(
        default=None, metadata={"help": "Take this .bit file, with its .hwh beside it, instead of building one."}
    )
    tvm_module: bool = field(
        default=False,
        metadata={
            "help": "Also write model.so, a TVM module that runs the program on the simulator through the driver."
        },
    )


class VtaTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "vta"
    summary = "FPGA accelerator, one program per network"
    devices: Mapping[str, Kind] = {"vta": "hardware", "vta-sim": "simulator"}
    remote = ("vta",)
    options = VtaOptions

    def requirements(self) -> list[Requirement]:
        """A C++ compiler builds the simulator; Vitis HLS and Vivado a bitstream; ssh reaches a board."""
        from squeezeedge.targets.vta.board.bitstream import bitstream_tools
        from squeezeedge.targets.vta.sim.native import compiler

        return [
            Requirement("C++ compiler (simulator)", "run", compiler(), "install g++"),
            Requirement("C++ compiler (TVM module)", "option", compiler(), "install g++; only --tvm-module needs it"),
            Requirement("ssh (board)", "option", shutil.which("ssh"), "install an OpenSSH client"),
            *(
                Requirement(f"{tool} (bitstream)", "option", path, "install Vitis; only --bitstream needs it")
                for tool, path in bitstream_tools().items()
            ),
        ]

    def check_options(self, options: VtaOptions) -> None:
        """Profile, configuration and clock must exist, and the tools and files that the options ask for."""
        from squeezeedge.targets.vta.board.bitstream import CLOCKS_MHZ, check_bitstream
        from squeezeedge.targets.vta.isa.geometry import load_config
        from squeezeedge.targets.vta.run import check_bitstream as check_bitstream_file
        from squeezeedge.targets.vta.sim.native import require_compiler

        if options.profile not in PROFILES:
            raise UsageError(f"--profile {options.profile}: not known; there are: {', '.join(PROFILES)}")
        config = load_config(options.config)
        clock = _clock_mhz(options, config)
        if clock not in CLOCKS_MHZ:
            raise UsageError(f"--clock {clock}: must lie in {CLOCKS_MHZ[0]}..{CLOCKS_MHZ[-1]} MHz")
        if options.tvm_module:
            require_compiler("--tvm-module")
        if options.bitstream and options.bitstream_file is not None:
            raise UsageError("--bitstream and --bitstream-file exclude each other")
        if options.bitstream:
            check_bitstream(config, clock)
        elif options.bitstream_file is not None:
            for path in (options.bitstream_file, options.bitstream_file.with_suffix(".hwh")):
                if not path.is_file():
                    raise UsageError(f"--bitstream-file: {path} does not exist")
            try:
                check_bitstream_file(options.bitstream_file)
            except ValueError as error:
                raise CorruptFileError(str(error)) from error

    def check_device(self, device: str, board: str | None) -> None:
        """A board must be named; the simulator needs a C++ compiler."""
        from squeezeedge.targets.vta.sim.native import SIMULATOR, require_compiler

        if device == "vta" and board is None:
            raise UnavailableError("--device vta runs on a board: name one with --board user@host, or use vta-sim")
        if device == "vta-sim":
            require_compiler(SIMULATOR)

    def check(self, graph: IntegerGraph, options: VtaOptions) -> None:
        """Compile in memory: whatever the accelerator can't hold is reported before anything is written."""
        _compiled(graph, options)

    def compile(self, graph: IntegerGraph, options: VtaOptions, out: Path) -> dict[str, Any]:
        """Write the program, its DRAM image, the board's run.py and, if asked for, the bitstream."""
        from squeezeedge.targets.vta.board.bitstream import build_bitstream
        from squeezeedge.targets.vta.isa.geometry import load_config
        from squeezeedge.targets.vta.lower.byoc import export_module
        from squeezeedge.targets.vta.run import BITSTREAM, DRAM, PROGRAM

        config = load_config(options.config)
        clock = _clock_mhz(options, config)
        network = _compiled(graph, options)
        program = network.program
        (out / PROGRAM).write_text(json.dumps(program.to_json()) + "\n")
        (out / DRAM).write_bytes(program.image)
        shutil.copy(Path(__file__).with_name("run.py"), out / "run.py")
        if options.bitstream:
            build_bitstream(config, clock, out)
        elif options.bitstream_file is not None:
            shutil.copy(options.bitstream_file, out / BITSTREAM)
            shutil.copy(options.bitstream_file.with_suffix(".hwh"), (out / BITSTREAM).with_suffix(".hwh"))
        if options.tvm_module:
            export_module(network, out / "model.so")
        return {
            "clock_mhz": clock,
            "instructions": program.count,
            "dram_bytes": program.dram_bytes,
            "layers": [{"name": layer.name, "macs": layer.macs} for layer in program.layers],
            "macs": graph.macs,
        }

    def open(self, artifact: Path, device: str, board: str | None = None) -> AbstractContextManager[Runner]:
        """A board over ssh, or the simulator: there, latency is cycles at the clock plus measured packing.

        Raises:
            UnavailableError: no board, or there is no C++ compiler to build the simulator with.
        """
        self.check_device(device, board)
        if board is not None:
            from squeezeedge.targets.vta.board.board import open_board

            return open_board(artifact, board)
        from squeezeedge.targets.vta.sim.session import open_simulator

        return open_simulator(artifact)

    def profile(self, artifact: Path, image: NDArray[np.uint8]) -> Profile:
        """Cycles of every layer on the simulator."""
        from squeezeedge.targets.vta.sim.session import profile_on_simulator

        return profile_on_simulator(artifact, image)

    def listing(self, artifact: Path) -> Iterator[str]:
        """The instructions, disassembled, each with its layer.

        Raises:
            CorruptFileError: the program is damaged.
        """
        from squeezeedge.targets.vta.isa.program import disassemble
        from squeezeedge.targets.vta.sim.session import open_program

        program = open_program(artifact).program
        lines = disassemble(program.words(), program.geometry, program.profile).splitlines()
        for line, layer in zip(lines, program.instruction_layers, strict=True):
            yield f"{line:<{LISTING_WIDTH}}  ; {program.layers[layer].name}"


def _clock_mhz(options: VtaOptions, config: Config) -> int:
    """The clock that was asked for, or the configuration's."""
    return config.clock_mhz if options.clock is None else options.clock


@lru_cache(maxsize=1)
def _compiled(graph: IntegerGraph, options: VtaOptions) -> LoweredNetwork:
    """Compile a graph; ``compile`` takes what ``check`` has made.

    Raises:
        UnsupportedError: the accelerator can't hold a layer.
    """
    from squeezeedge.targets.vta.isa.geometry import load_config
    from squeezeedge.targets.vta.lower.byoc import lower_graph

    profile: Any = options.profile
    return lower_graph(graph, load_config(options.config).geometry, profile)


TARGET = VtaTarget()
