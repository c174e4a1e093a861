"""The instruction sets of ARM: matrix and dot products of bytes, and chains of widening multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.depthwise import (
    ChannelProducts,
    NeonProducts,
    SignedByteProducts,
    UnsignedDotProducts,
    WideProducts,
)
from squeezeedge.targets.cpu.instruction_set import InstructionSet, VectorSet
from squeezeedge.targets.cpu.loops import Expr, lanes, scratch
from squeezeedge.targets.cpu.neon_chains import HALF, check_chains, plan_chains, plan_table, widened_sums
from squeezeedge.targets.cpu.tiling import Accumulators, Operands, Tile, covers

__all__ = ["ArmNeonSet", "DotProductSet", "MatrixProductSet", "NeonSet"]

CHUNK = 16
"""Input bytes of a vector register."""

IN_FLIGHT = 8
"""Multiply instructions that must be independent to hide their latency."""

ADDRESSES = 6
"""Instructions of a step that find what it reads."""


@dataclass(frozen=True)
class _SaturatingSet(InstructionSet):
    """ARM narrows with saturation and keeps the order of the lanes."""

    narrowing: ClassVar[tuple[str, str, str]] = ("aarch64.neon.sqxtn", "aarch64.neon.sqxtn", "aarch64.neon.sqxtun")
    """LLVM's intrinsics, without the type: int32 to int16, int16 to int8, int16 to uint8."""

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """Narrow through 16 bits; saturation changes no value that clipping would keep."""
        words, signed, unsigned = self.narrowing
        quads = [
            T.Shuffle([vector], list(range(first, first + 4))) if self.lanes > 4 else vector
            for vector in vectors
            for first in range(0, self.lanes, 4)
        ]
        halves = [T.call_llvm_pure_intrin("int16x4", f"llvm.{words}.v4i16", quad) for quad in quads]
        size, found = self.lanes * len(vectors), []
        for first in range(0, len(halves), 2):
            eight = T.Shuffle([halves[first], halves[min(first + 1, len(halves) - 1)]], list(range(8)))
            name, dtype = (unsigned, "uint8x8") if zero_point == 0 else (signed, "int8x8")
            found.append(T.reinterpret("uint8x8", T.call_llvm_pure_intrin(dtype, f"llvm.{name}.v8i8", eight)))
        value = found[0] if size == 8 else T.Shuffle(found, list(range(size)))
        return value if zero_point == 0 else T.bitwise_xor(value, T.broadcast(T.uint8(rules.SIGN), size))

    def narrow_counts(self, blocks: int) -> list[int]:
        """As many as fill a register of bytes."""
        counts, most = [], CHUNK // self.lanes
        while most:
            counts += [most] * (blocks // most)
            blocks %= most
            most //= 2
        return counts


@dataclass(frozen=True)
class DotProductSet(_SaturatingSet, VectorSet):
    """AArch64 sdot: four int8 x int8 products a lane; the input is stored as R7 has it once it is in a register.

    A register has the input bytes of four steps; sdot takes those of one for all lanes.
    """

    @property
    def input_offset(self) -> int:
        """R7: sdot multiplies signed bytes."""
        return rules.SIGN

    @property
    def channels(self) -> ChannelProducts:
        """In signed bytes."""
        return SignedByteProducts(self.lanes, self.registers - 6)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile with the least work for a map."""
        tiles = []
        for q in (4, 3, 2, 1):
            if blocks % q == 0:
                for count, rows, pixels in covers(height, width, (self.registers - 2) // (q + 1)):
                    held = rows * pixels
                    tiles.append((count * _work(held * (1 + 4 * q), held + 4 * q) / q, rows, pixels, q))
        _, *best = min(tiles)
        return Tile(*best)

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Every sum in a register."""
        pixels = [(row, pixel) for row in range(tile.rows) for pixel in range(tile.pixels)]
        acc = scratch(len(pixels) * tile.blocks * 4, "int32")
        data = scratch(len(pixels) * 4, "int32")

        def at(row: int, pixel: int, block: int) -> Expr:
            return lanes(((row * tile.pixels + pixel) * tile.blocks + block) * 4, 4)

        for row, pixel in pixels:
            for block in range(tile.blocks):
                bias = operands.parameters[lanes(operands.parameter + block * 8, 4)]
                T.buffer_store(acc, bias, [at(row, pixel, block)])

        def chunk(window_row: Expr, k: Expr, steps: int) -> None:
            start = operands.start + window_row * operands.row + k * 4
            first = operands.weight + (window_row * operands.steps + k) * (tile.blocks * CHUNK)
            for place, (row, pixel) in enumerate(pixels):
                read = _signed_bytes(operands.data, start + row * operands.down + pixel * operands.right)
                T.buffer_store(data, T.reinterpret("int32x4", read), [lanes(place * 4, 4)])
            for step in range(steps):
                for block in range(tile.blocks):
                    weights = operands.weights[lanes(first + (step * tile.blocks + block) * CHUNK, CHUNK)]
                    for place, (row, pixel) in enumerate(pixels):
                        index = at(row, pixel, block)
                        word = T.reinterpret("int8x16", T.Shuffle([data[lanes(place * 4, 4)]], [step] * 4))
                        name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
                        total = T.call_llvm_pure_intrin("int32x4", name, acc[index], weights, word)
                        T.buffer_store(acc, total, [index])

        operands.reduce_chunks(4, chunk)
        return lambda *position: acc[at(*position)]


@dataclass(frozen=True)
class MatrixProductSet(_SaturatingSet, VectorSet):
    """AArch64 usmmla: eight uint8 x int8 products for each of two pixels and two output channels."""

    @property
    def products(self) -> int:
        """Of two pixels."""
        return 32

    @property
    def channels(self) -> ChannelProducts:
        """In bytes."""
        return UnsignedDotProducts(self.lanes, self.registers - 6)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile with the least work for a map."""
        tiles = []
        for q in (4, 3, 2, 1):
            if blocks % q == 0:
                for count, rows, pixels in covers(height, width, (self.registers - 2) // (2 * q + 1) * 2):
                    pairs = -(-rows * pixels // 2)
                    tiles.append((count * _work(pairs * (1 + 2 * q), 2 * (pairs + q)) / q, rows, pixels, q))
        _, *best = min(tiles)
        return Tile(*best)

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Every sum in a register, with that of the other channel and those of the other pixel of a pair."""
        pixels = [(row, pixel) for row in range(tile.rows) for pixel in range(tile.pixels)]
        pairs = [(pixels[i], pixels[min(i + 1, len(pixels) - 1)]) for i in range(0, len(pixels), 2)]
        acc = scratch(len(pairs) * tile.blocks * 8, "int32")

        def at(pair: int, block: int, half: int) -> Expr:
            return lanes(((pair * tile.blocks + block) * 2 + half) * 4, 4)

        for pair in range(len(pairs)):
            for block in range(tile.blocks):
                for half in range(2):
                    bias = operands.parameters[lanes(operands.parameter + block * 8 + half * 2, 2)]
                    T.buffer_store(acc, T.Shuffle([bias, bias], [0, 1, 2, 3]), [at(pair, block, half)])

        def step(window_row: Expr, k: Expr) -> None:
            start = operands.start + window_row * operands.row + k * 8
            first = operands.weight + (window_row * operands.steps + k) * (tile.blocks * 32)
            reads = []
            for pair in pairs:
                starts = [start + row * operands.down + pixel * operands.right for row, pixel in pair]
                reads.append(T.Shuffle([operands.data[lanes(address, 8)] for address in starts], list(range(16))))
            for block in range(tile.blocks):
                for half in range(2):
                    weights = operands.weights[lanes(first + (block * 2 + half) * 16, 16)]
                    for number, read in enumerate(reads):
                        index = at(number, block, half)
                        name = "llvm.aarch64.neon.usmmla.v4i32.v16i8"
                        total = T.call_llvm_pure_intrin("int32x4", name, acc[index], read, weights)
                        T.buffer_store(acc, total, [index])

        operands.reduce(step)

        def sums(row: int, pixel: int, block: int) -> Expr:
            pair, second = divmod(row * tile.pixels + pixel, 2)
            halves = [acc[at(pair, block, half)] for half in range(2)]
            return T.Shuffle(halves, [2 * second, 2 * second + 1, 4 + 2 * second, 5 + 2 * second])

        return sums


@dataclass(frozen=True)
class NeonSet(_SaturatingSet, VectorSet):
    """AArch64 smlal: eight int8 x int8 products in 16 bits, exact in the chains of :mod:`.neon_chains`.

    Attributes:
        together: output channels whose sums are made at a time, with a plan of their own.
        held: 16-bit sums, in registers.
    """

    together: int = 4
    held: int = 12

    chained = True

    @property
    def products(self) -> int:
        """Of bytes."""
        return HALF

    @property
    def input_offset(self) -> int:
        """R7: smlal multiplies signed bytes."""
        return rules.SIGN

    @property
    def channels(self) -> ChannelProducts:
        """Row by row."""
        return WideProducts(self.lanes, self.registers - 3)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile with the fewest instructions for a map: narrow processors start few a cycle."""
        _, rows, pixels = min(
            (count * (2 * held * self.together + self.together + 2 * held + ADDRESSES), rows, pixels)
            for count, rows, pixels in covers(height, width, self.held // self.together)
            for held in [rows * pixels]
        )
        return Tile(rows, pixels, 1)

    def plan(
        self, name: str, weights: NDArray[np.int8], places: NDArray[np.intp]
    ) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """One plan for the channels that are summed together."""
        parts = weights.reshape(-1, self.together, *weights.shape[2:])
        plans = plan_chains(parts)
        check_chains(name, plans, parts)
        ordered = [plan.weights.ravel() for plan in plans]
        return np.concatenate(ordered), plan_table(plans, places)

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """A few channels after the others."""
        return widened_sums(self.lanes, self.together, tile, operands, self)

    def multiply(self, first: Expr, second: Expr) -> Expr:
        """One smull; LLVM makes a smlal of it and the addition."""
        return T.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull.v8i16", first, second)

    def widen(self, total: Expr, sums: Expr) -> Expr:
        """One sadalp."""
        return total + T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", sums)

    def across(self, vectors: Sequence[Expr]) -> list[Expr]:
        """One addp for two vectors."""
        name = "llvm.aarch64.neon.addp.v4i32"
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        return [T.call_llvm_pure_intrin("int32x4", name, first, second) for first, second in pairs]


@dataclass(frozen=True)
class ArmNeonSet(NeonSet):
    """32-bit ARM's vmlal: the same, with half as many registers."""

    narrowing = ("arm.neon.vqmovns", "arm.neon.vqmovns", "arm.neon.vqmovnsu")

    @property
    def channels(self) -> ChannelProducts:
        """Widening multiplications of NEON."""
        return NeonProducts(self.lanes, self.registers - 3)

    def multiply(self, first: Expr, second: Expr) -> Expr:
        """One vmull; LLVM makes a vmlal of it and the addition."""
        return T.call_llvm_pure_intrin("int16x8", "llvm.arm.neon.vmulls.v8i16", first, second)

    def widen(self, total: Expr, sums: Expr) -> Expr:
        """One vpadal."""
        return T.call_llvm_pure_intrin("int32x4", "llvm.arm.neon.vpadals.v4i32.v8i16", total, sums)

    def across(self, vectors: Sequence[Expr]) -> list[Expr]:
        """One vpadd for a vector."""
        halves = [[T.Shuffle([vector], lanes) for lanes in ([0, 1], [2, 3])] for vector in vectors]
        sums = [T.call_llvm_pure_intrin("int32x2", "llvm.arm.neon.vpadd.v2i32", *half) for half in halves]
        return [T.Shuffle(pair, [0, 1, 2, 3]) for pair in zip(sums[::2], sums[1::2], strict=True)]


def _work(instructions: int, loads: int) -> float:
    """Time of a step: vector instructions, at least as many as hide the latency of one, and loads beside them."""
    return max(instructions, IN_FLIGHT) + loads / 4


def _signed_bytes(data: Expr, address: Expr) -> Expr:
    """A register of bytes as R7 stores them, int8."""
    read = T.bitwise_xor(data[lanes(address, CHUNK)], T.broadcast(T.uint8(rules.SIGN), CHUNK))
    return T.reinterpret(f"int8x{CHUNK}", read)
