"""Runs programs on the accelerator's own C++ source, compiled for this machine, with its cycle model.

    simulator = Simulator(load_config().geometry)
    dram = np.zeros(1 << 20, np.uint8)               # program, micro-ops, weights, activations
    ...                                              # fill it; encode() makes the program's words
    report = simulator.run(dram, Registers(count=len(program), program=0, inp=4096, ...))
    report.cycles, report.gemm_steps                 # and dram holds what was stored

The results are those of the hardware source; the reference bodies in :mod:`.isa` are not used. The cycle model is
described in hls/sim/timing.h. A run holds no lock, so simulators in several threads run at the same time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.targets.vta.isa.encoding import Module
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.sim.native import load_simulator

__all__ = ["ModuleReport", "Registers", "Report", "SimulationError", "Simulator", "Timing"]

ALIGNMENT = 16
"""Bytes: what every base address and the size of the DRAM are a multiple of."""

MESSAGE_BYTES = 256


class SimulationError(SqueezeEdgeError):
    """A program did something that hangs or damages a board: deadlock, access outside of the DRAM, no end."""


@dataclass(frozen=True)
class Registers:
    """The accelerator's registers: what a driver writes before it starts a program.

    Attributes:
        count: instructions.
        program: byte address of the first instruction.
        uop: byte address of element 0 of the micro-ops in DRAM; the other bases likewise.
        inp: of the inputs.
        wgt: of the weights.
        acc: of the accumulators.
        out: of the outputs.
        par: of the parameters.
    """

    count: int
    program: int
    uop: int = 0
    inp: int = 0
    wgt: int = 0
    acc: int = 0
    out: int = 0
    par: int = 0


@dataclass(frozen=True)
class Timing:
    """What the cycle model assumes about the memory system.

    Attributes:
        bytes_per_cycle: of the DRAM, reads and writes together.
        latency: cycles from a request to its first data, and from a write to its confirmation.
        cycle_limit: a program that is not finished by then is an error; ``None``: as many as a program of its size may
            take (``most_cycles`` in hls/sim/timing.h).
    """

    bytes_per_cycle: int = 8
    latency: int = 64
    cycle_limit: int | None = None


@dataclass(frozen=True)
class ModuleReport:
    """One module's share of a run.

    Attributes:
        instructions: executed.
        busy: cycles with an instruction at work.
        token_stall: cycles in which its next instruction waited for a token.
        fetch_stall: cycles in which it had no instruction while there were some to come.
        bytes: over the bus.
    """

    instructions: int
    busy: int
    token_stall: int
    fetch_stall: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """What a run took.

    Attributes:
        cycles: from the start to the last confirmed write.
        gemm_steps: cycles in which the array multiplied.
        bus_busy: cycles in which the bus carried data.
        modules: per module; fetch counts instructions and bytes only.
        events: uint64 [instructions, 3]: cycle in which each was taken from its queue, began, and ended.
    """

    cycles: int
    gemm_steps: int
    bus_busy: int
    modules: Mapping[Module, ModuleReport]
    events: NDArray[np.uint64]

    @property
    def dram_bytes(self) -> int:
        """Bytes read and written."""
        return sum(module.bytes for module in self.modules.values())


class _Limits(ctypes.Structure):
    _fields_ = [(f.name, ctypes.c_uint64) for f in fields(Timing)]


class _Registers(ctypes.Structure):
    _fields_ = [(f.name, ctypes.c_uint64) for f in fields(Registers)]


class _ModuleCounters(ctypes.Structure):
    _fields_ = [(f.name, ctypes.c_uint64) for f in fields(ModuleReport)]


class _Counters(ctypes.Structure):
    _fields_ = [
        ("cycles", ctypes.c_uint64),
        ("gemm_steps", ctypes.c_uint64),
        ("bus_busy", ctypes.c_uint64),
        ("modules", _ModuleCounters * len(Module)),
    ]


class Simulator:
    """One accelerator; its on-chip memories keep their contents from run to run, as a board's do.

    Args:
        geometry: what is built.

    Raises:
        UnavailableError: no C++ compiler.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._library = load_simulator(geometry)
        self._library.vta_create.restype = ctypes.c_void_p
        self._library.vta_memory.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._library.vta_create())

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.vta_destroy(self._handle)

    def run(self, dram: NDArray[np.uint8], registers: Registers, timing: Timing | None = None) -> Report:
        """Run a program to its end.

        Args:
            dram: uint8 [bytes], contiguous; stores change it, also those before an error.
            registers: count and byte addresses in ``dram``.
            timing: assumptions of the cycle model; ``None``: 8 bytes a cycle, 64 cycles latency.

        Raises:
            SimulationError: deadlock, tokens left over, an access outside of ``dram``, an undefined instruction, or no
                end; the text names the instruction.
            UsageError: addresses or sizes that no driver would give.
        """
        limits = timing or Timing()
        self._check(dram, registers, limits)
        counters = _Counters()
        events = np.zeros((registers.count, 3), np.uint64)
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        failed = self._library.vta_run(
            self._handle,
            ctypes.byref(_Registers(**vars(registers))),
            ctypes.c_void_p(dram.ctypes.data),
            ctypes.c_uint64(dram.nbytes),
            ctypes.byref(_Limits(limits.bytes_per_cycle, limits.latency, limits.cycle_limit or 0)),
            ctypes.byref(counters),
            ctypes.c_void_p(events.ctypes.data),
            message,
        )
        if failed:
            raise SimulationError(f"VTA program: {message.value.decode()}")
        modules = {}
        for module in Module:
            record = counters.modules[module.value]
            modules[module] = ModuleReport(**{f.name: getattr(record, f.name) for f in fields(ModuleReport)})
        return Report(counters.cycles, counters.gemm_steps, counters.bus_busy, modules, events)

    def memory(self, memory: Memory) -> NDArray[np.uint8]:
        """A view of an on-chip memory: uint8 [depth, bytes of an element as in DRAM]; it lives as long as ``self``."""
        shape = (self.geometry.depth(memory), self.geometry.element_bytes(memory))
        address = self._library.vta_memory(self._handle, ctypes.c_uint32(memory))
        view = np.ctypeslib.as_array((ctypes.c_uint8 * (shape[0] * shape[1])).from_address(address))
        return view.reshape(shape)

    def _check(self, dram: NDArray[np.uint8], registers: Registers, limits: Timing) -> None:
        if dram.dtype != np.uint8 or dram.ndim != 1 or not dram.flags.c_contiguous or not dram.flags.writeable:
            raise UsageError("the DRAM must be a contiguous, writeable uint8 array of one dimension")
        for name, value in {**vars(registers), "size": dram.nbytes}.items():
            if name != "count" and (value % ALIGNMENT or not 0 <= value <= dram.nbytes):
                raise UsageError(f"DRAM address {name} = {value}: must be in the DRAM and a multiple of {ALIGNMENT}")
        if not 0 <= registers.count * ALIGNMENT <= dram.nbytes - registers.program:
            raise UsageError(f"{registers.count} instructions do not fit into the DRAM")
        if min(limits.bytes_per_cycle, limits.latency + 1) < 1:
            raise UsageError("the DRAM needs at least one byte per cycle and no negative latency")
        if limits.cycle_limit is not None and limits.cycle_limit < 1:
            raise UsageError(f"limit of {limits.cycle_limit} cycles: must be at least 1")
