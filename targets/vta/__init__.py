"""VTA: the whole network as one instruction stream for an FPGA accelerator, and the simulator of that accelerator.

The simulator is the accelerator's own source (hls/), compiled by g++. Profile ``vta-x`` is our core's instruction
set; profile ``vta`` the published one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.errors import UsageError
from squeezeedge.targets import Kind, Requirement, RunResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph
    from squeezeedge.targets.vta.program import VtaProgram

__all__ = ["TARGET", "VtaOptions", "VtaTarget"]

PROFILES = ("vta-x", "vta")


@dataclass(frozen=True)
class VtaOptions:
    """What to compile for."""

    profile: str = field(
        default="vta-x", metadata={"help": "Instructions: vta-x (this project's core) or vta (the published set only)."}
    )
    config: str = field(default="pynq-z2", metadata={"help": "Accelerator: a board's name or a JSON file."})
    clock: int = field(default=100, metadata={"help": "Clock of the accelerator in MHz, for latencies."})


class VtaTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "vta"
    summary = "FPGA accelerator, one program per network"
    devices: Mapping[str, Kind] = {"vta-sim": "simulator"}
    options = VtaOptions

    def requirements(self) -> list[Requirement]:
        """A C++ compiler builds the simulator; Vitis and Vivado would build a bitstream."""
        from squeezeedge.targets.vta.native import compiler

        return [Requirement("C++ compiler (simulator)", "run", compiler(), "install g++")]

    def check(self, graph: IntegerGraph, options: VtaOptions) -> None:
        """Compile in memory: whatever the accelerator can't hold is reported before anything is written."""
        _compiled(graph, options)

    def compile(self, graph: IntegerGraph, options: VtaOptions, out: Path) -> dict[str, Any]:
        """Write the program, its DRAM image and the board's run.py."""
        from squeezeedge.targets.vta.run import DRAM, PROGRAM

        program = _compiled(graph, options)
        (out / PROGRAM).write_text(json.dumps(program.to_json()) + "\n")
        (out / DRAM).write_bytes(program.image)
        shutil.copy(Path(__file__).with_name("run.py"), out / "run.py")
        return {
            "instructions": program.count,
            "dram_bytes": program.dram_bytes,
            "layers": [{"name": layer.name, "macs": layer.macs} for layer in program.layers],
            "macs": graph.macs,
        }

    def run(self, artifact: Path, images: NDArray[np.uint8], device: str) -> RunResult:
        """Run on the simulator; latency is its cycles at the artifact's clock plus the measured packing on the host.

        Raises:
            UnavailableError: there is no C++ compiler to build the simulator with.
        """
        import numpy as np

        from squeezeedge.targets.vta.program import VtaProgram
        from squeezeedge.targets.vta.run import DRAM, PROGRAM
        from squeezeedge.targets.vta.simulator import Registers, Simulator

        manifest = json.loads((artifact / "manifest.json").read_text())
        clock = int(manifest["options"]["clock"])
        record = json.loads((artifact / PROGRAM).read_text())
        program = VtaProgram.from_json(record, (artifact / DRAM).read_bytes())
        simulator, dram = Simulator(program.geometry), program.dram()
        sums = np.empty((len(images), program.sums.classes), np.int32)
        latency = np.empty(len(images))
        cycles, moved, packing = 0, 0, 0.0
        for index, image in enumerate(images):
            start = time.perf_counter()
            program.pack(image, dram)
            packing = time.perf_counter() - start
            report = simulator.run(dram, Registers(**program.registers()))
            sums[index] = program.unpack(dram)
            cycles, moved = report.cycles, report.dram_bytes
            latency[index] = cycles / (clock * 1e3) + packing * 1e3
        macs, array = int(manifest["compiled"]["macs"]), program.geometry.block**2
        return RunResult(
            sums,
            latency,
            {
                "cycles": cycles,
                "gemm_utilization": macs / array / cycles,
                "dram_bytes": moved,
                "clock_mhz": clock,
                "profile": program.profile,
                "host_packing_ms": packing * 1e3,
            },
        )


@lru_cache(maxsize=1)
def _compiled(graph: IntegerGraph, options: VtaOptions) -> VtaProgram:
    """Compile a graph; ``compile`` takes what ``check`` has made.

    Raises:
        UsageError: an unknown profile, configuration or a clock out of range.
        UnsupportedError: the accelerator can't hold a layer.
    """
    from squeezeedge.lower.patterns import partition, stages
    from squeezeedge.lower.relax_module import to_relax
    from squeezeedge.targets.vta.bitstream import CLOCKS_MHZ
    from squeezeedge.targets.vta.compiler import FUSIONS, compile_program
    from squeezeedge.targets.vta.geometry import load_config

    if options.profile not in PROFILES:
        raise UsageError(f"--profile {options.profile}: not known; there are: {', '.join(PROFILES)}")
    if options.clock not in CLOCKS_MHZ:
        raise UsageError(f"--clock {options.clock}: must lie in {CLOCKS_MHZ[0]}..{CLOCKS_MHZ[-1]} MHz")
    geometry = load_config(options.config).geometry
    profile: Any = options.profile
    return compile_program(stages(partition(to_relax(graph), FUSIONS)), geometry, profile)


TARGET = VtaTarget()
