"""The two phases of the target: a graph becomes a program in memory, and that becomes files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from squeezeedge.graph import IntegerGraph
from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import legalize
from squeezeedge.targets.vta.board.bitstream import build_bitstream
from squeezeedge.targets.vta.device import BITSTREAM, DRAM, HANDOFF, PROGRAM
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.isa.geometry import load_config
from squeezeedge.targets.vta.lower.byoc import LoweredNetwork, export_module, lower_graph
from squeezeedge.targets.vta.options import VtaOptions

__all__ = ["MODULE", "VtaLowered", "lower"]

MODULE = "model.so"


@dataclass(frozen=True, eq=False)
class VtaLowered:
    """A network that the accelerator can run, verified.

    Attributes:
        network: program and TVM module.
        options: that it was compiled with.
        macs: multiply-accumulates of the graph.
    """

    network: LoweredNetwork
    options: VtaOptions
    macs: int

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the program, its DRAM image, where its tensors lie and, if asked for, bitstream and TVM module.

        Raises:
            UnavailableError: a tool is missing or fails to build the TVM module.
            SqueezeEdgeError: a tool of the bitstream fails.
        """
        config, options, program = load_config(self.options.config), self.options, self.network.program
        clock_mhz = options.clock if options.clock is not None else config.clock_mhz
        (folder / PROGRAM).write_text(json.dumps(program.to_json()) + "\n")
        (folder / DRAM).write_bytes(program.image)
        assert program.trace is not None
        program.trace.write(folder)
        if options.bitstream:
            build_bitstream(config, clock_mhz, folder)
        elif options.bitstream_file is not None:
            shutil.copy(options.bitstream_file, folder / BITSTREAM)
            shutil.copy(options.bitstream_file.with_suffix(".hwh"), folder / HANDOFF)
        if options.tvm_module:
            export_module(self.network, folder / MODULE)
        return {
            "clock_mhz": clock_mhz,
            "instruction_count": program.count,
            "dram_bytes": program.dram_bytes,
            "layers": [{"name": layer.name, "macs": layer.macs} for layer in program.layers],
            "macs": self.macs,
        }


def lower(graph: IntegerGraph, options: VtaOptions, supports: Collection[Feature]) -> VtaLowered:
    """Compile a graph in memory, and prove the program.

    Args:
        graph: the network.
        options: checked.
        supports: what needs no legalization.

    Raises:
        UnsupportedError: the accelerator can't hold a layer; the text names the layer, the reason and the fix.
        VerificationError: a defect of this compiler.
    """
    geometry = load_config(options.config).geometry
    instructions = cast(InstructionSet, options.instructions)
    return VtaLowered(lower_graph(legalize(graph, supports), geometry, instructions), options, graph.macs)
