"""The compiler's view of the cycle model in hls/sim/timing.h: what an instruction takes when it waits for nobody."""

from __future__ import annotations

from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import Alu, Gemm, Load, Store

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


def compute_cycles(instruction: Instruction) -> int:
    """Cycles of an instruction of the compute module."""
    if isinstance(instruction, Gemm | XGemm):
        return GEMM_START + instruction.steps
    if isinstance(instruction, Alu):
        return ALU_START + 2 * instruction.steps
    if isinstance(instruction, XAdd):
        return ALU_START + 2 * instruction.blocks * instruction.count
    if isinstance(instruction, Load) and instruction.x_size:
        size = 4 if instruction.memory == Memory.UOP else 64
        return DECODE + LATENCY + instruction.y_size * instruction.x_size * size // BYTES_PER_CYCLE
    return DECODE


def row_cycles(elements: int, block: int) -> int:
    """Cycles of one row of activations."""
    return ROW + -(-elements * block // BYTES_PER_CYCLE)


def transfer_cycles(instruction: Store | XPool, geometry: Geometry) -> int:
    """Cycles until a store is confirmed."""
    cycles = row_cycles(instruction.x_size, geometry.block)
    if isinstance(instruction, XPool):
        taps = max(instruction.kernel_h, geometry.block // BYTES_PER_CYCLE)
        cycles = ROW + 2 + taps * ((instruction.x_size - 1) * instruction.stride_w + instruction.kernel_w)
    return DECODE + instruction.y_size * cycles + LATENCY


def load_cycles(instruction: Load, geometry: Geometry) -> int:
    """Cycles of an instruction of the load module."""
    row = ROW + -(-instruction.x_size * geometry.element_bytes(instruction.memory) // BYTES_PER_CYCLE)
    row += instruction.x_pad_0 + instruction.x_pad_1
    return DECODE + LATENCY + instruction.y_size * row
