"""The instruction sets of x86: dot products of bytes (VNNI), chains of vpmaddubsw, and AMX's tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.chains import LENGTHS, chained_sums, check_chains, plan_chains, plan_table
from squeezeedge.targets.cpu.depthwise import ByteProducts, ChannelProducts, PairProducts
from squeezeedge.targets.cpu.instruction_set import InstructionSet, VectorSet
from squeezeedge.targets.cpu.loops import Expr, broadcast_word, lanes, scratch
from squeezeedge.targets.cpu.tiling import Accumulators, Operands, Tile, covers

__all__ = ["ChainedSet", "MatrixSet", "VnniSet"]

CONFIG = 64
"""Bytes of an AMX tile configuration."""


@dataclass(frozen=True)
class _PackingSet(InstructionSet):
    """x86: its saturating packs interleave their operands every 128 bits; the lane order compensates for that."""

    def _pack(self, name: str, dtype: str, first: Expr, second: Expr) -> Expr:
        full = {4: f"sse2.{name}.128", 8: f"avx2.{name}", 16: f"avx512.{name}.512"}[self.lanes]
        return T.call_llvm_pure_intrin(dtype, f"llvm.x86.{full}", first, second)

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """Narrow four or two blocks at once through 16 bits; saturation changes no value that clipping would keep."""
        if len(vectors) == 1:
            return super().narrow(vectors, zero_point)
        half = f"int16x{2 * self.lanes}"
        halves = [self._pack("packssdw", half, *vectors[i : i + 2]) for i in range(0, len(vectors), 2)]
        width = self.lanes * len(vectors)
        if len(halves) == 1:
            bounds = (-zero_point, rules.Q_MAX - zero_point, zero_point)
            low, high, zero = (T.broadcast(T.int16(v), width) for v in bounds)
            return T.cast(T.max(T.min(halves[0], high), low) + zero, f"uint8x{width}")
        if zero_point == 0:
            return T.reinterpret(f"uint8x{width}", self._pack("packuswb", f"int8x{width}", *halves))
        signed = self._pack("packsswb", f"int8x{width}", *halves)
        return T.reinterpret(f"uint8x{width}", T.bitwise_xor(signed, T.broadcast(T.int8(-rules.SIGN), width)))

    def narrow_counts(self, blocks: int) -> list[int]:
        return [4] * (blocks // 4) + [2] * (blocks % 4 // 2) + [1] * (blocks % 2)

    def lane_order(self, blocks: int) -> NDArray[np.intp]:
        order, first = [], 0
        for count in self.narrow_counts(blocks):
            block, quad, lane = np.ogrid[:count, : self.lanes // 4, :4]
            order.append(first + (4 * count * quad + 4 * block + lane).ravel())
            first += count * self.lanes
        return np.concatenate(order)


@dataclass(frozen=True)
class VnniSet(_PackingSet, VectorSet):
    """vpdpbusd: four uint8 x int8 products a lane, exact (the sum enters 32 bits without saturation)."""

    @property
    def channels(self) -> ChannelProducts:
        """In bytes."""
        return ByteProducts(self.lanes, self.registers - 3)

    def activation(self, data: Expr, address: Expr) -> Expr:
        """Four bytes, broadcast."""
        return T.reinterpret(f"uint8x{4 * self.lanes}", broadcast_word(data, address, self.lanes))

    def dot(self, acc: Expr, activation: Expr, weight: Expr) -> Expr:
        """One vpdpbusd."""
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        return T.call_llvm_pure_intrin(f"int32x{self.lanes}", name, acc, activation, weight)


@dataclass(frozen=True)
class ChainedSet(_PackingSet, VectorSet):
    """vpmaddubsw: two uint8 x int8 products in 16 bits, exact in the chains of :mod:`.chains`; vpmaddwd widens them.

    A tile has one block of output channels, which has a plan of its own: the loops are as long for all pixels of a map.
    """

    chained = paired = True

    @property
    def channels(self) -> ChannelProducts:
        """In pairs of 16 bits."""
        return PairProducts(self.lanes, self.registers - 3)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """The tile with the fewest loads; registers also hold a chain's weights, a one and two sums."""
        limit = self.registers - max(LENGTHS) - 2
        found = covers(height, width, limit)
        _, rows, pixels = min((count * (rows * pixels + 0.5), rows, pixels) for count, rows, pixels in found)
        return Tile(rows, pixels, 1)

    def plan(
        self, name: str, weights: NDArray[np.int8], places: NDArray[np.intp]
    ) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """One plan a block."""
        plans = plan_chains(weights)
        check_chains(name, plans, weights)
        return np.concatenate([plan.weights for plan in plans]), plan_table(plans, places)

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Chain by chain."""
        return chained_sums(self.lanes, tile, operands)


@dataclass(frozen=True)
class MatrixSet(_PackingSet):
    """AMX: tiles of 16 rows x 64 bytes; one tdpbusd is a 16 x 64 by 64 x 16 product of uint8 and int8.

    A row of the first operand is one output pixel's window, contiguous in memory because NHWC is; the stride between
    rows is the convolution's. One ``group`` is one instruction's reduction, at most 64 bytes.
    """

    @property
    def channels(self) -> ChannelProducts:
        """In vectors of AVX-512."""
        return PairProducts(self.lanes, 27)

    def tile(self, height: int, width: int, blocks: int) -> Tile:
        """2 x 2 accumulator tiles where there are two rows, else one row of up to four."""
        tiles = -(-width // 16)
        pixels = -(-width // tiles)
        if height >= 2 and blocks % 2 == 0:
            return Tile(2, pixels, 2)
        return Tile(1, pixels, next(q for q in (4, 3, 2, 1) if blocks % q == 0))

    def steps(self, row: int) -> tuple[int, int]:
        """Of equal size, in whole words."""
        steps = -(-row // self.group)
        return steps, -(-row // (4 * steps)) * 4

    def arrange(self, weights: NDArray[np.int8]) -> NDArray[np.int8]:
        """Rows of four bytes a lane."""
        group = weights.shape[-1]
        return weights.reshape(*weights.shape[:-1], group // 4, 4).transpose(0, 3, 4, 1, 5, 2, 6)

    def configure(self, tile: Tile, group: int) -> None:
        """The shapes of the tile registers."""
        config = scratch(CONFIG, "uint8")
        T.buffer_store(config, T.broadcast(T.uint8(0), CONFIG), [T.ramp(0, 1, CONFIG)])
        T.buffer_store(config, T.uint8(1), [0])  # palette 1
        shapes = [(tile.pixels, 64)] * 4 + [(tile.pixels, group)] * 2 + [(group // 4, 64)] * 2
        for register, (rows, width) in enumerate(shapes):
            T.buffer_store(config, T.uint8(width), [16 + 2 * register])
            T.buffer_store(config, T.uint8(rows), [48 + register])
        _intrinsic("ldtilecfg", T.address_of(config[0]))

    def release(self) -> None:
        """Give the tile registers back."""
        _intrinsic("tilerelease")

    def accumulate(self, tile: Tile, operands: Operands) -> Accumulators:
        """Tile registers: 0..3 accumulators, 4 and 5 input rows, 6 and 7 weights."""
        group = operands.group
        held = scratch(tile.rows * tile.blocks * tile.pixels * 16, "int32")
        for block in range(tile.blocks):  # a stride of zero copies the bias into every row
            bias = T.address_of(operands.parameters[operands.parameter + block * 32])
            for row in range(tile.rows):
                _intrinsic("tileloadd64", T.int8(row * tile.blocks + block), bias, T.int64(0))
        stride = T.int64(operands.right)

        def step(window_row: Expr, k: Expr) -> None:
            start = operands.start + window_row * operands.row + k * group
            first = operands.weight + (window_row * operands.steps + k) * (tile.blocks * 16 * group)
            for row in range(tile.rows):
                pixels = T.address_of(operands.data[start + row * operands.down])
                _intrinsic("tileloadd64", T.int8(4 + row), pixels, stride)
            for block in range(tile.blocks):
                register = T.int8(6 + block % 2)
                weights = T.address_of(operands.weights[first + block * 16 * group])
                _intrinsic("tileloadd64", register, weights, T.int64(64))
                for row in range(tile.rows):
                    _intrinsic("tdpbusd", T.int8(row * tile.blocks + block), T.int8(4 + row), register)

        operands.reduce(step)

        def at(row: int, pixel: int, block: int) -> int:
            return ((row * tile.blocks + block) * tile.pixels + pixel) * 16

        for row in range(tile.rows):
            for block in range(tile.blocks):
                out = T.address_of(held[at(row, 0, block)])
                _intrinsic("tilestored64", T.int8(row * tile.blocks + block), out, T.int64(64))
        return lambda *position: held[lanes(at(*position), 16)]


def _intrinsic(name: str, *arguments: Expr) -> None:
    T.evaluate(T.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments))
