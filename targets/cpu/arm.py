"""The instruction sets of ARM."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.depthwise import ChannelProducts, NeonProducts, SignedByteProducts
from squeezeedge.targets.cpu.instruction_set import VectorSet
from squeezeedge.targets.cpu.loops import Expr

__all__ = ["ArmNeonSet", "DotProductSet"]


@dataclass(frozen=True)
class DotProductSet(VectorSet):
    """AArch64 sdot: four int8 x int8 products a lane; the input is stored as R7 has it once it is in a register."""

    @property
    def input_offset(self) -> int:
        """R7: sdot multiplies signed bytes."""
        return rules.SIGN

    @property
    def channels(self) -> ChannelProducts:
        """In signed bytes."""
        return SignedByteProducts(self.lanes, self.registers - 6)

    def activation(self, data: Expr, address: Expr) -> Expr:
        """Four bytes, broadcast, as R7 stores them."""
        word = T.reinterpret("int32", data[T.ramp(address, 1, 4)])
        signed = T.bitwise_xor(word, T.int32(rules.SIGN * 0x01010101 - 2**32))
        return T.reinterpret("int8x16", T.broadcast(signed, 4))

    def dot(self, acc: Expr, activation: Expr, weight: Expr) -> Expr:
        """One sdot."""
        return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, activation, weight)


@dataclass(frozen=True)
class ArmNeonSet(VectorSet):
    """Of 32-bit ARM."""

    @property
    def channels(self) -> ChannelProducts:
        """Widening multiplications of NEON."""
        return NeonProducts(self.lanes, self.registers - 3)
