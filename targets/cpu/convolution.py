"""Convolution kernels: where each tile reads and stores, whatever the instruction set, as TVM PrimFunc bodies.

Rules of thumb that were measured: accumulators that do not fit the registers cost a factor of two, and so do more than
four unrolled reduction steps; one tile width a row, the last tile overlapping its neighbour, beats mixed widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from squeezeedge.graph import Conv, Head
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.packing import Packed, Piece
from squeezeedge.targets.cpu.tiling import Operands

__all__ = ["ConvolutionKernel", "Store"]

Store = Callable[[int, int, int, list[Expr], list[Expr]], None]
"""Takes (row, pixel, first block, accumulators, shifts) of some blocks of a tile; int32 vectors."""


@dataclass(frozen=True, eq=False)
class ConvolutionKernel:
    """One convolution of a stage.

    Attributes:
        conv: its node.
        out: shape of its output as the kernel goes through it: the node's, or all pixels as one row.
        isa: the instruction set.
        packed: its constants.
        source: layout of what it reads.
        data: buffer of what it reads, uint8.
        weights: buffer of the stage's weights, int8.
        parameters: buffer of the stage's biases and shifts, int32.
        weight_offset: where its weights start.
        parameter_offset: where its biases start.
    """

    conv: Conv | Head
    out: Shape
    isa: InstructionSet
    packed: Packed
    source: Layout
    data: Expr
    weights: Expr
    parameters: Expr
    weight_offset: int
    parameter_offset: int

    def configure(self, piece: Piece) -> None:
        """What the instruction set needs before a piece's tiles, on every thread."""
        self.isa.configure(piece.tile, self.packed.group)

    def release(self) -> None:
        """What it needs after the last tile, on every thread."""
        self.isa.release()

    def tile(self, piece: Piece, index: Expr, y: Expr, x: Expr, store: Store) -> None:
        """Compute the tile whose first output pixel is (y, x), of a piece's ``index``-th run of channels."""
        n, tile = self.isa.lanes, piece.tile
        operands = self._operands(piece, index, y, x)
        accumulators = self.isa.accumulate(tile, operands)
        for row in range(tile.rows):
            for pixel in range(tile.pixels):
                first = 0
                for count in self.isa.narrow_counts(tile.blocks):
                    vectors = [accumulators(row, pixel, first + b) for b in range(count)]
                    at = [operands.parameter + ((first + b) * 2 + 1) * n for b in range(count)]
                    store(row, pixel, first, vectors, [self.parameters[lanes(a, n)] for a in at])
                    first += count

    def _operands(self, piece: Piece, index: Expr, y: Expr, x: Expr) -> Operands:
        _, kernel_h, _, _ = self.conv.weight.shape
        (top, left), (down, right) = self.conv.padding[:2], self.conv.stride
        source, blocks, lanes_ = self.source, piece.tile.blocks, self.isa.lanes
        weights = kernel_h * self.packed.steps * blocks * lanes_ * self.packed.group
        return Operands(
            data=self.data,
            start=source.address(y * down - top, x * right - left),
            down=down * source.row,
            right=right * source.channels,
            row=source.row,
            rows=kernel_h,
            steps=self.packed.steps,
            group=self.packed.group,
            weights=self.weights,
            weight=self.weight_offset + piece.weight + index * weights,
            parameters=self.parameters,
            parameter=self.parameter_offset + piece.parameter + index * (blocks * 2 * lanes_),
        )
