"""VTA: the whole network as one instruction stream for an FPGA accelerator, and the simulator of that accelerator.

The simulator is the accelerator's own source (hls/), compiled by g++. A core executes the published VTA instructions
and this project's extended ones.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import CorruptFileError, UnavailableError, UsageError
from squeezeedge.lower.feature import Feature
from squeezeedge.targets.protocol import Kind, Lowered, NetworkOpener, Profile, Requirement
from squeezeedge.targets.vta.options import VtaOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph

__all__ = ["TARGET", "VtaOptions", "VtaTarget"]


class VtaTarget:
    """The protocol of :class:`squeezeedge.targets.protocol.Target`."""

    name = "vta"
    summary = "FPGA accelerator, one program per network"
    devices: Mapping[str, Kind] = {"vta": "hardware", "vta-sim": "simulator"}
    remote: Collection[str] = ("vta",)
    needs_root = True
    options: type[VtaOptions] = VtaOptions
    device_module = "squeezeedge.targets.vta.device"
    supports = frozenset({Feature.GROUPS, Feature.DEPTHWISE})

    def requirements(self) -> list[Requirement]:
        """A C++ compiler builds the simulator; Vitis HLS and Vivado a bitstream; ssh reaches a board."""
        from squeezeedge.targets.vta.board.bitstream import bitstream_tools
        from squeezeedge.targets.vta.sim.native import compiler

        return [
            Requirement("C++ compiler (simulator)", "run", compiler(), "install g++"),
            Requirement("C++ compiler (TVM module)", "option", compiler(), "install g++; only `tvm_module` needs it"),
            Requirement("ssh (board)", "option", shutil.which("ssh"), "install an OpenSSH client"),
            *(
                Requirement(f"{tool} (bitstream)", "option", path, "install Vitis; only `bitstream` needs it")
                for tool, path in bitstream_tools().items()
            ),
        ]

    def check_options(self, options: VtaOptions) -> None:
        """Instructions, configuration and clock must exist, and the tools and files that the options ask for."""
        from squeezeedge.targets.vta.board.bitstream import CLOCKS_MHZ, check_bitstream
        from squeezeedge.targets.vta.device import check_bitstream as check_bitstream_file
        from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS
        from squeezeedge.targets.vta.isa.geometry import load_config
        from squeezeedge.targets.vta.sim.native import require_compiler

        if options.instructions not in INSTRUCTION_SETS:
            known = ", ".join(INSTRUCTION_SETS)
            raise UsageError(f"`instructions` {options.instructions}: not known; there are: {known}")
        config = load_config(options.config)
        clock = config.clock_mhz if options.clock is None else options.clock
        if clock not in CLOCKS_MHZ:
            raise UsageError(f"`clock` {clock}: must lie in {CLOCKS_MHZ[0]}..{CLOCKS_MHZ[-1]} MHz")
        if options.tvm_module:
            require_compiler("`tvm_module`")
        if options.bitstream and options.bitstream_file is not None:
            raise UsageError("`bitstream` and `bitstream_file` exclude each other")
        if options.bitstream:
            check_bitstream(config, clock)
        elif options.bitstream_file is not None:
            for path in (options.bitstream_file, options.bitstream_file.with_suffix(".hwh")):
                if not path.is_file():
                    raise UsageError(f"`bitstream_file`: {path} does not exist")
            try:
                check_bitstream_file(options.bitstream_file)
            except ValueError as error:
                raise CorruptFileError(str(error)) from error

    def check_device(self, device: str, board: str | None, options: VtaOptions | None = None) -> None:
        """A board must be named, or be this machine, and needs a bitstream; the simulator needs a C++ compiler."""
        from squeezeedge.targets.vta.device import NO_BITSTREAM
        from squeezeedge.targets.vta.sim.native import SIMULATOR, require_compiler

        if device == "vta" and board is None and importlib.util.find_spec("pynq") is None:
            raise UnavailableError(
                "`device` vta runs on a board: name one with `board` user@host, or use `device` vta-sim"
            )
        if device == "vta" and options is not None and not (options.bitstream or options.bitstream_file):
            raise UnavailableError(f"`device` vta: {NO_BITSTREAM}")
        if device == "vta-sim":
            require_compiler(SIMULATOR)

    def lower(self, graph: IntegerGraph, options: VtaOptions) -> Lowered:
        """Compile in memory, and prove the program.

        Raises:
            UnsupportedError: the accelerator can't hold a layer; the text names the layer, the reason and the fix.
        """
        from squeezeedge.targets.vta.lower.network import lower

        return lower(graph, options, self.supports)

    def network(self, device: str) -> NetworkOpener:
        """The FPGA of this machine, or the simulator."""
        if device == "vta":
            from squeezeedge.targets.vta.device import Network

            return Network
        from squeezeedge.targets.vta.sim.session import SimulatorNetwork

        return SimulatorNetwork

    def profile(self, artifact: Path, image: NDArray[np.uint8], runs: int = 1) -> Profile:
        """Cycles of every layer on the simulator; one run is made, as all runs take the same cycles."""
        from squeezeedge.targets.vta.sim.session import profile_on_simulator

        return profile_on_simulator(artifact, image)

    def listing(self, artifact: Path, layer: str | None = None) -> Iterator[str]:
        """The instructions, disassembled, each with its layer.

        Raises:
            UsageError: the program has no such layer.
            CorruptFileError: the program is damaged.
        """
        from squeezeedge.targets.vta.listing import listing

        return listing(artifact, layer)


TARGET = VtaTarget()
