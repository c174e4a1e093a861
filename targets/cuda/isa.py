"""How a warp multiplies: tensor cores or dot products, on the same tiles, weights and registers.

Both take unsigned activations and signed weights as they are (``mma .u8.s8``, ``dp4a.u32.s32``; CUDA C's ``__dp4a``
has no mixed form), so nothing is stored as q - 128 (R7). A tensor core does 8 to 16 times as much a cycle as the dot
products of the same multiprocessor and loses at most half of it to padding: it is taken wherever there is one for
this shape. sm_75 has not: its tensor cores take smaller matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from squeezeedge.targets.cuda.grid import WARP, Block, Expr, Registers
from squeezeedge.targets.cuda.options import DOT_PRODUCT, TENSOR_CORE
from squeezeedge.targets.cuda.tiling import GROUP_WORDS, STEP_WORDS, Tile

__all__ = ["INSTRUCTION_SETS", "DotProduct", "InstructionSet", "Operands", "TensorCore"]


@dataclass(frozen=True)
class Operands:
    """Where a block's operands lie in shared memory, in 32-bit words.

    Pixels are rows of ``pitch`` words; weights are [group of 16 bytes][channel][16 bytes].

    Attributes:
        pixels: word of the first pixel.
        pitch: from one pixel to the next.
        weights: word of the first weight.
    """

    pixels: int
    pitch: int
    weights: int


class InstructionSet(ABC):
    """One way to multiply.

    Lane 4g + t of a warp owns, of each 16 pixels, g and g + 8, and 2 of each 8 weight columns: 2t and 2t + 1.
    Accumulator (i * column_tiles + j) * 4 + 2r + e is pixel 16i + 8r + g, column 8j + 2t + e.
    """

    name: str

    @abstractmethod
    def step(self, block: Block, tile: Tile, acc: Registers, operands: Operands, round_: Expr) -> None:
        """Multiply 32 bytes of each pixel of a warp's tile, in each warp's turn of a round; inside a region."""


def _lane(thread: Expr, tile: Tile, round_: Expr) -> tuple[Expr, Expr, Expr, Expr, Expr]:
    """(first pixel of the warp, its first column, its step in a round, g, t)."""
    row, column, step = tile.warp(thread // WARP)
    lane = thread % WARP
    return (
        row * (16 * tile.row_tiles),
        column * (8 * tile.column_tiles),
        round_ * tile.warp_steps + step,
        lane // 4,
        lane % 4,
    )


class TensorCore(InstructionSet):
    """``mma.m16n8k32``; the loads are free of bank conflicts."""

    name = TENSOR_CORE

    def step(self, block: Block, tile: Tile, acc: Registers, operands: Operands, round_: Expr) -> None:
        """Load the fragments of all tiles, then multiply each pair."""
        rows, columns = tile.row_tiles, tile.column_tiles
        a = block.registers(4 * rows, "uint32")
        b = block.registers(2 * columns, "uint32")
        with block.threads() as thread:
            row, column, step, g, t = _lane(thread, tile, round_)
            with block.unrolled(rows) as i, block.unrolled(2) as half, block.unrolled(2) as r:
                pixel = row + i * 16 + r * 8 + g
                at = operands.pixels + pixel * operands.pitch + step * STEP_WORDS + half * GROUP_WORDS + t
                a[i * 4 + half * 2 + r] = block.shared.load(at)
            with block.unrolled(columns) as j, block.unrolled(2) as half:
                position = (step * 2 + half) * tile.columns + column + j * 8 + g
                b[j * 2 + half] = block.shared.load(operands.weights + position * GROUP_WORDS + t)
        with block.unrolled(rows) as i, block.unrolled(columns) as j:
            block.multiply(acc, (i * columns + j) * 4, a, i * 4, b, j * 2)


class DotProduct(InstructionSet):
    """``dp4a``, four products a lane and instruction."""

    name = DOT_PRODUCT

    def step(self, block: Block, tile: Tile, acc: Registers, operands: Operands, round_: Expr) -> None:
        """For each 16 bytes: hold the lane's pixels in registers, stream its columns."""
        rows, columns = tile.row_tiles, tile.column_tiles
        a = block.registers(2 * rows * GROUP_WORDS, "uint32")
        b = block.registers(GROUP_WORDS, "uint32")
        with block.threads() as thread, block.unrolled(2) as half:
            row, column, step, g, t = _lane(thread, tile, round_)
            with block.unrolled(2 * rows) as r:
                at = operands.pixels + (row + r * 8 + g) * operands.pitch + step * STEP_WORDS + half * GROUP_WORDS
                a.load(r * GROUP_WORDS, GROUP_WORDS, block.shared.load(at, GROUP_WORDS))
            with block.unrolled(columns) as j, block.unrolled(2) as e:
                position = (step * 2 + half) * tile.columns + column + j * 8 + t * 2 + e
                words = block.shared.load(operands.weights + position * GROUP_WORDS, GROUP_WORDS)
                b.load(0, GROUP_WORDS, words)
                with block.unrolled(rows) as i, block.unrolled(2) as r, block.unrolled(GROUP_WORDS) as word:
                    at = (i * columns + j) * 4 + r * 2 + e
                    acc[at] = block.dot(a[(i * 2 + r) * GROUP_WORDS + word], b[word], acc[at])


INSTRUCTION_SETS: Mapping[str, InstructionSet] = MappingProxyType(
    {isa.name: isa for isa in (TensorCore(), DotProduct())}
)
"""By name."""
