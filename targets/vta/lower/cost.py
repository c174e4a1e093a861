"""The compiler's form of the cycle model in hls/sim/timing.h: the cycles of an instruction that never waits."""

from __future__ import annotations

from squeezeedge.graph.dispatch import Table
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import Alu, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS

__all__ = [
    "ALU_START",
    "GEMM_START",
    "LATENCY",
    "ROW",
    "compute_cycles",
    "load_cycles",
    "row_cycles",
    "transfer_cycles",
]

DECODE = 4
GEMM_START = DECODE + 16
"""Cycles of a matrix instruction beside its steps: decoding, fill and drain of the pipeline."""

ALU_START = DECODE + 8
"""The same of a vector instruction; its steps take two cycles."""

LATENCY = 64
"""Cycles until the first data of a read, or until a write is confirmed."""

ROW = 4
"""Cycles between two rows of a transfer."""

BYTES_PER_CYCLE = 8


compute_cycles: Table[Instruction, int] = Table("VTA compute module", INSTRUCTIONS.values())
"""Cycles of an instruction of the compute module."""

transfer_cycles: Table[Instruction, int] = Table("VTA store module", INSTRUCTIONS.values())
"""Cycles until a store is confirmed; takes the geometry, too."""


@compute_cycles.implements(Gemm, XGemm)
def _gemm(instruction: Gemm | XGemm) -> int:
    return GEMM_START + instruction.steps


@compute_cycles.implements(Alu, XAdd)
def _alu(instruction: Alu | XAdd) -> int:
    return ALU_START + 2 * instruction.steps


@compute_cycles.implements(Load)
def _own_load(load: Load) -> int:
    size = 4 if load.memory == Memory.UOP else 64
    return DECODE + (LATENCY + load.y_size * load.x_size * size // BYTES_PER_CYCLE if load.x_size else 0)


@compute_cycles.implements(Store, Finish)
def _decoding(instruction: Store | Finish) -> int:
    return DECODE


compute_cycles.refuses(XPool, why="the store module executes it")


@transfer_cycles.implements(Store)
def _store(store: Store, geometry: Geometry) -> int:
    return DECODE + store.y_size * row_cycles(store.x_size, geometry.block) + LATENCY


@transfer_cycles.implements(XPool)
def _pool(pool: XPool, geometry: Geometry) -> int:
    taps = max(pool.kernel_h, geometry.block // BYTES_PER_CYCLE)
    cycles = ROW + 2 + taps * ((pool.x_size - 1) * pool.stride_w + pool.kernel_w)
    return DECODE + pool.y_size * cycles + LATENCY


transfer_cycles.refuses(Load, Gemm, XGemm, Alu, XAdd, Finish, why="another module executes it")


def row_cycles(elements: int, block: int) -> int:
    """Cycles of one row of activations."""
    return ROW + -(-elements * block // BYTES_PER_CYCLE)


def load_cycles(instruction: Load, geometry: Geometry) -> int:
    """Cycles of an instruction of the load module."""
    row = ROW + -(-instruction.x_size * geometry.element_bytes(instruction.memory) // BYTES_PER_CYCLE)
    row += instruction.x_pad_0 + instruction.x_pad_1
    return DECODE + LATENCY + instruction.y_size * row
