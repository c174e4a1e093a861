"""Depthwise convolutions: how an instruction set multiplies channel by channel, one dataclass a kind.

An accumulator lane is a channel, so nothing is broadcast and no sum goes across lanes. One multiply instruction takes
``taps`` rows of a window's column, whose bytes of a channel have to lie side by side. They are brought there in
registers, once for all output pixels of a tile; where one of these does not read a row, its weight is zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import rules
from squeezeedge.targets.cpu.loops import Expr, lanes, loop, scratch
from squeezeedge.targets.cpu.tiling import Accumulators, Tile

__all__ = [
    "PAIR_PRODUCTS",
    "ByteProducts",
    "ChannelOperands",
    "ChannelProducts",
    "NeonProducts",
    "PairProducts",
    "SignedByteProducts",
    "UnsignedDotProducts",
    "WideProducts",
]

UNROLLED = 256
"""Multiply instructions that are written one after the other, at most."""

WEIGHT_COST = 4
"""Instructions in whose time a vector of weights comes from the second-level cache or beyond, once a map."""

PAIR_PRODUCTS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""LLVM's intrinsic for pmaddwd on so many lanes of 32 bits: the sum of two products of 16 bits in each."""


@dataclass(frozen=True, eq=False)
class ChannelOperands:
    """What the sums of one tile are made of: buffers, and offsets in them.

    Attributes:
        kernel: height, width.
        stride: vertical, horizontal.
        data: buffer of the input, uint8.
        start: byte of the first channel of the first pixel's window.
        row: bytes from one input row to the next.
        pixel: bytes from one input pixel to the next.
        weights: buffer of weights, int8.
        weight: the tile's first.
        parameters: buffer of biases and shifts, int32.
        parameter: the tile's first.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    data: Expr
    start: Expr
    row: int
    pixel: int
    weights: Expr
    weight: Expr
    parameters: Expr
    parameter: Expr


@dataclass(frozen=True)
class ChannelProducts(ABC):
    """What all kinds share.

    Attributes:
        lanes: int32 accumulators of one block.
        held: blocks of accumulators that fit the registers beside what is multiplied.
    """

    lanes: int
    held: int

    taps: ClassVar[int]
    """Rows that one multiply instruction reduces."""
    dtype: ClassVar[str]
    """Of the weights as they are multiplied; they are stored as their bytes."""
    data_type: ClassVar[str]
    """Of what they are multiplied with."""
    blocks: ClassVar[tuple[int, ...]]
    """How many blocks can be brought side by side at a time, the most first."""
    costs: ClassVar[tuple[int, int]]
    """Instructions for the products of a block, and to bring its rows side by side."""

    @property
    def input_offset(self) -> int:
        """The multiply instruction sees q - input_offset."""
        return 0

    @abstractmethod
    def side_by_side(self, rows: Sequence[Expr], blocks: int) -> list[Expr]:
        """For each block, ``taps`` bytes of each lane side by side; missing rows count as zero.

        Args:
            rows: uint8 vectors of all blocks' channels, at most ``taps`` of them.
            blocks: of the tile.
        """

    @abstractmethod
    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """The accumulators (int32 vector) plus every lane's products."""

    def lane_order(self, blocks: int) -> NDArray[np.intp]:
        """Channel of the tile that each accumulator lane holds."""
        return np.arange(blocks * self.lanes)

    def in_order(self, value: Expr, blocks: int) -> Expr:
        """Restore the channel order of what :meth:`.instruction_set.InstructionSet.narrow` returns."""
        return value

    def tile(self, height: int, width: int, blocks: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Tile:
        """The tile with the fewest instructions for a map of height x width output pixels."""
        best, least = Tile(1, 1, blocks), float("inf")
        for rows in range(1, min(height, self.held // blocks) + 1):
            groups, reads = self._groups(rows, kernel, stride), len(self._reads(rows, kernel, stride))
            for pixels in range(1, min(width, self.held // (blocks * rows)) + 1):
                products = reads * pixels * kernel[1] * blocks
                if products > UNROLLED * (groups if rows == 1 else 1) and (rows, pixels) != (1, 1):
                    break
                columns = (pixels - 1) * stride[1] + kernel[1]
                instructions = products * self.costs[0] + columns * groups * blocks * self.costs[1]
                tiles = -(-height // rows) * -(-width // pixels)
                total = instructions * tiles + products // pixels * WEIGHT_COST
                if total < least:
                    best, least = Tile(rows, pixels, blocks), total
        return best

    def arrange(self, weights: NDArray[np.int8], rows: int, stride: tuple[int, int]) -> NDArray[np.int8]:
        """Weights in the order in which :meth:`accumulate` reads them.

        Args:
            weights: [tile, block, lane, kernel_h, kernel_w].
            rows: of a tile.
            stride: vertical, horizontal.

        Returns:
            [tile, (group, row), kernel_w, block, lane, bytes of ``taps`` weights].
        """
        kernel_h, kernel_w = weights.shape[3:]
        reads = self._reads(rows, (kernel_h, kernel_w), stride)
        placed = np.zeros((len(reads), self.taps, kernel_w, *weights.shape[:3]), self.dtype)
        for index, (group, row) in enumerate(reads):
            for tap in range(self.taps):
                y = group * self.taps + tap - row * stride[0]
                if 0 <= y < kernel_h:
                    placed[index, tap] = weights[..., y, :].transpose(3, 0, 1, 2)
        return np.ascontiguousarray(placed.transpose(3, 0, 2, 4, 5, 1)).view(np.int8)

    def weight_bytes(self, tile: Tile, kernel: tuple[int, int], stride: tuple[int, int]) -> int:
        """Bytes of a tile's weights."""
        vectors = len(self._reads(tile.rows, kernel, stride)) * kernel[1] * tile.blocks
        return vectors * self.lanes * self.taps * np.dtype(self.dtype).itemsize

    def accumulate(self, tile: Tile, operands: ChannelOperands) -> Accumulators:
        """Write the sums of a tile, which begin with the biases."""
        code, kernel, stride = _Writer(self, tile, operands), operands.kernel, operands.stride

        def columns(group: Expr, height: int, reads: Sequence[tuple[Expr, int]]) -> None:
            """Of ``height`` rows of a group; ``reads``: (which weights, output row)."""
            if tile.rows == tile.pixels == 1:
                with loop(kernel[1]) as x:
                    code.load(group, height, x)
                    code.multiply(group, x, 0, 0)
                return
            for x in range((tile.pixels - 1) * stride[1] + kernel[1]):
                behind = [(pixel, x - pixel * stride[1]) for pixel in range(tile.pixels)]
                inside = [(pixel, kernel_x) for pixel, kernel_x in behind if 0 <= kernel_x < kernel[1]]
                if inside:
                    code.load(group, height, x)
                for (read, row), (pixel, kernel_x) in product(reads, inside):
                    code.multiply(read, kernel_x, row, pixel)

        if tile.rows == 1:
            whole, rest = divmod(kernel[0], self.taps)
            if whole:
                with loop(whole) as group:
                    columns(group, self.taps, [(group, 0)])
            if rest:
                columns(whole, rest, [(whole, 0)])
        else:
            reads = self._reads(tile.rows, kernel, stride)
            for group in range(self._groups(tile.rows, kernel, stride)):
                left = (tile.rows - 1) * stride[0] + kernel[0] - group * self.taps
                own = [(index, row) for index, (of, row) in enumerate(reads) if of == group]
                columns(group, min(left, self.taps), own)
        return code.sums

    def _groups(self, rows: int, kernel: tuple[int, int], stride: tuple[int, int]) -> int:
        """Groups of ``taps`` input rows that lie in the windows of so many output rows."""
        return -(-((rows - 1) * stride[0] + kernel[0]) // self.taps)

    def _reads(self, rows: int, kernel: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
        """(group, output row whose window has rows of it), in order."""
        return [
            (group, row)
            for group in range(self._groups(rows, kernel, stride))
            for row in range(rows)
            if row * stride[0] < (group + 1) * self.taps and group * self.taps < row * stride[0] + kernel[0]
        ]


class _Writer:
    """Writes the steps of a tile: the accumulators and what is multiplied are in registers."""

    def __init__(self, products: ChannelProducts, tile: Tile, operands: ChannelOperands) -> None:
        self._products, self._tile, self._operands = products, tile, operands
        self._size = products.lanes * products.taps
        self._acc = scratch(tile.rows * tile.pixels * tile.blocks * products.lanes, "int32")
        self._side = scratch(tile.blocks * self._size, products.data_type)
        for row, pixel, block in product(range(tile.rows), range(tile.pixels), range(tile.blocks)):
            bias = lanes(operands.parameter + block * 2 * products.lanes, products.lanes)
            T.buffer_store(self._acc, operands.parameters[bias], [self._sum(row, pixel, block)])

    def sums(self, row: int, pixel: int, block: int) -> Expr:
        return self._acc[self._sum(row, pixel, block)]

    def load(self, group: Expr, height: int, x: Expr) -> None:
        """Bring ``height`` rows of a group in an input column side by side."""
        operands, blocks = self._operands, self._tile.blocks
        first = operands.start + group * (self._products.taps * operands.row) + x * operands.pixel
        width = blocks * self._products.lanes
        rows = [operands.data[lanes(first + row * operands.row, width)] for row in range(height)]
        for block, vector in enumerate(self._products.side_by_side(rows, blocks)):
            T.buffer_store(self._side, vector, [lanes(block * self._size, self._size)])

    def multiply(self, read: Expr, kernel_x: Expr, row: int, pixel: int) -> None:
        """Add the products of what was loaded and a kernel column of some weights to an output pixel."""
        operands, blocks = self._operands, self._tile.blocks
        size = self._size * np.dtype(self._products.dtype).itemsize
        step = read * operands.kernel[1] + kernel_x
        for block in range(blocks):
            stored = operands.weights[lanes(operands.weight + (step * blocks + block) * size, size)]
            weights = T.reinterpret(f"{self._products.dtype}x{self._size}", stored)
            data, at = self._side[lanes(block * self._size, self._size)], self._sum(row, pixel, block)
            T.buffer_store(self._acc, self._products.dot(self._acc[at], data, weights), [at])

    def _sum(self, row: int, pixel: int, block: int) -> Expr:
        n, tile = self._products.lanes, self._tile
        return lanes(((row * tile.pixels + pixel) * tile.blocks + block) * n, n)


@dataclass(frozen=True)
class WideProducts(ChannelProducts):
    """Row by row in int16, widened by the multiplication, for which LLVM chooses the instructions."""

    taps = 1
    dtype = data_type = "int16"
    blocks = (1,)
    costs = (2, 2)

    def side_by_side(self, rows: Sequence[Expr], blocks: int) -> list[Expr]:
        """Widened."""
        (row,) = rows
        return [T.cast(row, f"int16x{self.lanes}")]

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """One product a lane."""
        wide = f"int32x{self.lanes}"
        return acc + T.cast(data, wide) * T.cast(weights, wide)


@dataclass(frozen=True)
class NeonProducts(WideProducts):
    """vmlal of 32-bit ARM, which LLVM does not select by itself; an instruction multiplies half of the lanes."""

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """Multiplied in halves."""
        halves = []
        for first in range(0, self.lanes, 4):
            operands = (T.Shuffle([vector], list(range(first, first + 4))) for vector in (data, weights))
            halves.append(T.call_llvm_pure_intrin("int32x4", "llvm.arm.neon.vmulls.v4i32", *operands))
        return acc + T.Shuffle(halves, list(range(self.lanes)))


@dataclass(frozen=True)
class PairProducts(ChannelProducts):
    """vpmaddwd: two int16 products a lane."""

    taps = 2
    dtype = data_type = "int16"
    blocks = (2, 1)
    costs = (2, 3)

    def side_by_side(self, rows: Sequence[Expr], blocks: int) -> list[Expr]:
        """The bytes first, by halves of every 128 bits, then widened."""
        pair = [*rows, T.broadcast(T.uint8(0), blocks * self.lanes)][:2]
        orders = self.lane_order(blocks).reshape(blocks, self.lanes)
        return [T.cast(_zipped(pair, order, blocks * self.lanes), f"int16x{2 * self.lanes}") for order in orders]

    def lane_order(self, blocks: int) -> NDArray[np.intp]:
        """A block has one half of every 16 channels: widened in place, they fill a register."""
        order = np.arange(blocks * self.lanes)
        return order.reshape(-1, blocks, min(self.lanes, 8)).swapaxes(0, 1).ravel() if blocks > 1 else order

    def in_order(self, value: Expr, blocks: int) -> Expr:
        """Undo the packs, which take four channels of one block and then four of the other: of 128 bits, all."""
        if blocks == 1 or self.lanes == 4:
            return value
        return T.Shuffle([value], np.arange(blocks * self.lanes).reshape(-1, 2, 2, 4).swapaxes(1, 2).ravel().tolist())

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """Two products a lane."""
        return acc + T.call_llvm_pure_intrin(f"int32x{self.lanes}", PAIR_PRODUCTS[self.lanes], data, weights)


@dataclass(frozen=True)
class ByteProducts(ChannelProducts):
    """Four products of bytes a lane: vpdpbusd."""

    taps = 4
    dtype, data_type = "int8", "uint8"
    blocks = (4, 2, 1)
    costs = (1, 3)

    def side_by_side(self, rows: Sequence[Expr], blocks: int) -> list[Expr]:
        """Pairs of bytes, then pairs of these, in every 128 bits."""
        count = blocks * self.lanes
        unit, half = min(count, 16), min(count, 8)
        none = T.broadcast(T.cast(0, self.data_type), count)
        four = [*rows, *[none] * (self.taps - len(rows))]
        parts = []  # four channels of every unit each
        for first in range(0, unit, half):
            order = [start + first + c for start in range(0, count, unit) for c in range(half)]
            pairs = [T.reinterpret(f"int16x{len(order)}", _zipped(four[i : i + 2], order, count)) for i in (0, 2)]
            for quad in range(0, half, 4):
                places = [start + quad + c for start in range(0, len(order), half) for c in range(4)]
                parts.append(T.reinterpret(f"int32x{len(places)}", _zipped(pairs, places, len(order))))
        size = count // unit * 4
        found = []
        for block in range(blocks):
            own = parts[block::blocks]
            mixed = [size * i + start + c for start in range(0, size, 4) for i in range(len(own)) for c in range(4)]
            value = own[0] if len(own) == 1 else T.Shuffle(own, mixed)
            found.append(T.reinterpret(f"{self.data_type}x{4 * self.lanes}", value))
        return found

    def lane_order(self, blocks: int) -> NDArray[np.intp]:
        """As the packs of x86 take them; in vectors of 128 bits, in order."""
        return np.arange(blocks * self.lanes).reshape(-1, blocks, 4).swapaxes(0, 1).ravel()

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """Four products a lane."""
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        return T.call_llvm_pure_intrin(f"int32x{self.lanes}", name, acc, data, weights)


@dataclass(frozen=True)
class SignedByteProducts(ByteProducts):
    """AArch64 sdot; the input is stored as R7 has it once it is in a register."""

    data_type = "int8"

    @property
    def input_offset(self) -> int:
        """Of signed storage."""
        return rules.SIGN

    def side_by_side(self, rows: Sequence[Expr], blocks: int) -> list[Expr]:
        """Convert to signed storage (R7), then proceed as for unsigned bytes."""
        count = blocks * self.lanes
        signed = [T.bitwise_xor(row, T.broadcast(T.uint8(rules.SIGN), count)) for row in rows]
        return super().side_by_side([T.reinterpret(f"int8x{count}", row) for row in signed], blocks)

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """Four products a lane."""
        return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, data, weights)


@dataclass(frozen=True)
class UnsignedDotProducts(ByteProducts):
    """AArch64 usdot."""

    def dot(self, acc: Expr, data: Expr, weights: Expr) -> Expr:
        """Four products a lane."""
        return T.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.usdot.v4i32.v16i8", acc, data, weights)


def _zipped(pair: Sequence[Expr], order: Iterable[int], count: int) -> Expr:
    """Some elements of two vectors of ``count``, in turn."""
    return T.Shuffle(pair, [int(place) for element in order for place in (element, count + element)])
