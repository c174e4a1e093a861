"""The simulator as a device: several images at a time, and the cycles of one as a profile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.protocol import Peak, Profile
from squeezeedge.targets.vta import device
from squeezeedge.targets.vta.isa.program import NUMBER_LIMIT, VtaProgram, read_program
from squeezeedge.targets.vta.sim.native import load_simulator
from squeezeedge.targets.vta.sim.profile import COLUMNS, layer_profiles
from squeezeedge.targets.vta.sim.simulator import Registers, Report, Simulator, Timing
from squeezeedge.targets.vta.sim.timeline import chrome_trace

__all__ = ["Board", "SimulatorNetwork", "profile_on_simulator"]


class Board:
    """A simulator with its memory. Boards pack in turn, so that each measures the time of packing alone.

    Args:
        program: what it runs.

    Attributes:
        dram: uint8 [dram_bytes]; after a run, every tensor is where it was written.

    Raises:
        UnavailableError: no C++ compiler.
    """

    _packing = threading.Lock()

    def __init__(self, program: VtaProgram) -> None:
        self._host = program.host()
        self._simulator, self.dram = Simulator(program.geometry), np.zeros(program.dram_bytes, np.uint8)
        self._registers = Registers(**program.registers())
        self._host.load(self.dram)

    def run(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Report, float]:
        """Class sums int32 [classes], the report, and seconds that packing the image took.

        Raises:
            SimulationError: the program does something that hangs or damages a board.
        """
        with self._packing:
            start = time.perf_counter()
            self._host.pack(image, self.dram)
            packing = time.perf_counter() - start
        report = self._simulator.run(self.dram, self._registers, Timing())
        return self._host.result(self.dram), report, packing


class SimulatorNetwork:
    """The simulator, for as many images at a time as there are processors.

    Latency is the cycles at the artifact's clock plus the measured packing.

    Args:
        artifact: its files.

    Raises:
        CorruptFileError: a file is damaged.
        UnavailableError: no C++ compiler.
    """

    tolerance = 0.0

    def __init__(self, artifact: Artifact) -> None:
        self._artifact, self._shape = artifact, artifact.shape
        self._program = read_program(artifact)
        self._clock_mhz, self._macs = _facts(artifact)
        load_simulator(self._program.geometry)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._last: Report | None = None

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        """Images uint8 [N, height, width, 3] -> int32 [N, classes], and latency_ms and pack_ms, float64 [N] each.

        Raises:
            ValueError: images of another shape.
            SimulationError: the program does something that hangs or damages a board.
        """
        device.check_images(images, self._shape)
        results = list(self._pool.map(self._one, images))
        if results:
            self._last = results[-1][1]
        pack_ms = np.array([seconds * 1e3 for _, _, seconds in results], np.float64)
        run_ms = np.array([report.cycles / (self._clock_mhz * 1e3) for _, report, _ in results], np.float64)
        sums = np.array([sums for sums, _, _ in results], np.int32).reshape(len(images), self._program.sums.classes)
        return sums, {"latency_ms": run_ms + pack_ms, "pack_ms": pack_ms}

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Image uint8 [height, width, 3] -> (name, uint8 [height, width, channels]) of each tensor; last the sums.

        Raises:
            ValueError: an image of another shape, or trace.json is damaged or of another program.
            SimulationError: the program does something that hangs or damages a board.
        """
        said = self._artifact.trace()
        device.check_images(image[None], self._shape)
        device.check_places(said.places, self._program.host(), self._artifact)
        board = self._board()
        sums, self._last, _ = board.run(image)
        for place in said.places:
            yield place.name, place.values(board.dram[place.begin : place.end])
        yield said.head, sums

    def unseen(self) -> Mapping[str, str]:
        """The tensors that stay on the chip -> why."""
        return self._artifact.trace().unseen

    def about(self) -> Mapping[str, Any]:
        """Instructions and clock; after a run, cycles, bytes over the bus and the array's share of them."""
        facts: dict[str, Any] = {"clock_mhz": self._clock_mhz, "instructions": self._program.instructions}
        if self._last is not None:
            facts |= {
                "cycles": self._last.cycles,
                "gemm_utilization": _utilization(self._program, self._macs, self._last),
                "dram_bytes": self._last.dram_bytes,
            }
        return facts

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _one(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Report, float]:
        return self._board().run(image)

    def _board(self) -> Board:
        """This thread's own."""
        if not hasattr(self._own, "board"):
            self._own.board = Board(self._program)
        board: Board = self._own.board
        return board


def profile_on_simulator(folder: Path, image: NDArray[np.uint8]) -> Profile:
    """Run one image (uint8 [H, W, 3]) of an artifact and tell where its cycles go.

    Raises:
        As :class:`SimulatorNetwork`.
    """
    try:
        artifact = Artifact(folder)
    except ValueError as error:
        raise CorruptFileError(str(error)) from error
    program, (clock_mhz, _) = read_program(artifact), _facts(artifact)
    try:
        device.check_images(image[None], artifact.shape)
        instructions = program.decoded()
    except (ValueError, CorruptFileError) as error:
        raise CorruptFileError(f"{folder}: {error}; compile the model again") from error
    sums, report, _ = Board(program).run(image)
    names = [program.layers[owner].name for owner in program.instruction_layers]
    block = program.geometry.block
    return Profile(
        device="vta-sim",
        kind="simulator",
        unit="cycles",
        unit_ms=1e-3 / clock_mhz,
        time=report.cycles,
        runs=1,
        moved="DRAM kB",
        layers=layer_profiles(program, instructions, report, Timing()),
        columns=COLUMNS,
        peak=Peak(block**2, f"the array's {block} x {block} multipliers"),
        facts={"clock_mhz": clock_mhz},
        notes=[f"the clock: {clock_mhz} MHz"],
        sums=sums,
        timeline=chrome_trace(instructions, report, clock_mhz, names),
    )


def _facts(artifact: Artifact) -> tuple[int, int]:
    """Clock in MHz, and multiply-accumulates of the network.

    Raises:
        CorruptFileError: the manifest does not give them.
    """
    values: list[Any] = [artifact.compiled.get(name) for name in ("clock_mhz", "macs")]
    if not all(type(value) is int and 0 < value < NUMBER_LIMIT for value in values):
        raise CorruptFileError(f"{artifact.folder}: the manifest's clock_mhz or macs is damaged; compile again")
    return values[0], values[1]


def _utilization(program: VtaProgram, macs: int, report: Report) -> float:
    """Share of the multiply-accumulates that the array could do in the run's cycles."""
    return macs / program.geometry.block**2 / report.cycles
