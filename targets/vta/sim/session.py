"""Runs an artifact on the simulator."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.protocol import Profile, Runner, RunResult
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.run import DRAM, MANIFEST, PROGRAM
from squeezeedge.targets.vta.sim.profile import layer_profiles
from squeezeedge.targets.vta.sim.simulator import Registers, Report, Simulator, Timing
from squeezeedge.targets.vta.sim.timeline import chrome_trace

__all__ = ["ProgramFiles", "open_program", "open_simulator", "profile_on_simulator"]


@dataclass(frozen=True)
class ProgramFiles:
    """What an artifact says.

    Attributes:
        program: to run.
        clock_mhz: that it was compiled for.
        macs: multiply-accumulates of the network.
    """

    program: VtaProgram
    clock_mhz: int
    macs: int

    def utilization(self, cycles: int) -> float:
        """Share of the multiply-accumulates that the array could do in these cycles."""
        return self.macs / self.program.geometry.block**2 / cycles


def open_program(artifact: Path) -> ProgramFiles:
    """Read an artifact's program.

    Raises:
        CorruptFileError: it is damaged; the text names the file.
    """
    try:
        manifest = json.loads((artifact / MANIFEST).read_text())
        clock, macs = int(manifest["compiled"]["clock_mhz"]), int(manifest["compiled"]["macs"])
        record = json.loads((artifact / PROGRAM).read_text())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"{artifact}: manifest or program is damaged ({error!r}); compile again") from error
    try:
        return ProgramFiles(VtaProgram.from_json(record, (artifact / DRAM).read_bytes()), clock, macs)
    except CorruptFileError as error:
        raise CorruptFileError(f"{artifact}: {error}") from error


class _Board:
    """A simulator with its memory. Boards pack one after the other, so that each measures what packing takes alone."""

    _packing = threading.Lock()

    def __init__(self, program: VtaProgram) -> None:
        self._program = program
        self._simulator, self._dram = Simulator(program.geometry), program.dram()

    def run(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Report, float]:
        """Class sums int32 [classes], the report, and seconds that packing the image took."""
        with self._packing:
            start = time.perf_counter()
            self._program.pack(image, self._dram)
            packing = time.perf_counter() - start
        report = self._simulator.run(self._dram, Registers(**self._program.registers()), Timing())
        return self._program.unpack(self._dram), report, packing


@contextmanager
def open_simulator(artifact: Path) -> Iterator[Runner]:
    """The simulator, for as many images at a time as there are processors.

    Latency is the cycles at the artifact's clock plus the measured packing.

    Args:
        artifact: folder that ``compile`` made.

    Raises:
        CorruptFileError: the artifact is damaged.
        UnavailableError: no C++ compiler.
        SimulationError: the program does something that hangs or damages a board.
    """
    files = open_program(artifact)
    own = threading.local()
    packing: list[float] = []

    def run_one(image: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Report, float]:
        if not hasattr(own, "board"):
            own.board = _Board(files.program)
        board: _Board = own.board
        return board.run(image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def run(images: NDArray[np.uint8]) -> RunResult:
            results = list(pool.map(run_one, images))
            pack_ms = np.array([seconds * 1e3 for _, _, seconds in results])
            packing.extend(pack_ms)
            report = results[-1][1]
            return RunResult(
                np.stack([sums for sums, _, _ in results]),
                np.array([report.cycles / (files.clock_mhz * 1e3) for _, report, _ in results]) + pack_ms,
                {
                    "cycles": report.cycles,
                    "gemm_utilization": files.utilization(report.cycles),
                    "dram_bytes": report.dram_bytes,
                    "clock_mhz": files.clock_mhz,
                    "profile": files.program.profile,
                    "host_packing_ms": float(np.median(packing)),
                },
            )

        yield run


def profile_on_simulator(artifact: Path, image: NDArray[np.uint8]) -> Profile:
    """Run one image (uint8 [H, W, 3]) and tell where its cycles go.

    Raises:
        As :func:`open_simulator`.
    """
    files = open_program(artifact)
    program = files.program
    _, report, _ = _Board(program).run(image)
    instructions = program.instructions()
    names = [program.layers[owner].name for owner in program.instruction_layers]
    return Profile(
        device="vta-sim",
        kind="simulator",
        cycles=report.cycles,
        clock_mhz=files.clock_mhz,
        utilization=files.utilization(report.cycles),
        layers=layer_profiles(program, instructions, report, Timing()),
        timeline=chrome_trace(instructions, report, files.clock_mhz, names),
    )
