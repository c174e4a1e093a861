"""Micro-ops: the steps that the instructions of the compute module loop over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Geometry

__all__ = ["MicroOp"]


@dataclass(frozen=True)
class MicroOp:
    """One step of a GEMM or ALU instruction: 32 bits.

    Attributes:
        dst: accumulator index.
        src: input index (GEMM) or accumulator index (ALU).
        wgt: weight index (GEMM).
    """

    dst: int = 0
    src: int = 0
    wgt: int = 0

    def encode(self, geometry: Geometry) -> int:
        """The 32-bit word: dst, src, wgt from bit 0 up.

        Raises:
            UnsupportedError: an index is outside of its memory.
        """
        word, low = 0, 0
        for name, width in _micro_op_widths(geometry):
            value: int = getattr(self, name)
            if not 0 <= value < 1 << width:
                raise UnsupportedError(f"micro-op: {name} = {value} does not fit into {width} bits; use smaller tiles")
            word |= value << low
            low += width
        return word

    @classmethod
    def decode(cls, word: int, geometry: Geometry) -> MicroOp:
        """The micro-op of a 32-bit word."""
        values = {}
        for name, width in _micro_op_widths(geometry):
            values[name] = word & ((1 << width) - 1)
            word >>= width
        return cls(**values)


@cache
def _micro_op_widths(geometry: Geometry) -> tuple[tuple[str, int], ...]:
    return ("dst", geometry.acc_bits), ("src", max(geometry.acc_bits, geometry.inp_bits)), ("wgt", geometry.wgt_bits)
