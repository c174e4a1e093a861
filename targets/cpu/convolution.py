"""Convolution kernels as TVM PrimFunc bodies: where each tile reads and stores, for every instruction set.

Measured rules of thumb: accumulators that do not fit the registers cost a factor of two, and so do more than four
unrolled reduction steps. One tile width a row is faster than mixed widths; the last tile overlaps its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from squeezeedge.graph import Conv, Head
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cpu.depthwise import ChannelOperands
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.packing import Packed, Piece
from squeezeedge.targets.cpu.tiling import Accumulators, Operands

__all__ = ["ConvolutionKernel", "DepthwiseKernel", "Store", "kernel_class"]

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

    together: ClassVar[int] = 1
    """Tiles along the channels, at most, that go through the map as a group, row by row."""

    def runs(self, piece: Piece) -> int:
        """How many such groups a piece has."""
        return -(-piece.count // self.together)

    def configure(self, piece: Piece) -> None:
        """What the instruction set needs before a piece's tiles, on every thread."""
        self.isa.configure(piece.tile, self.packed.group)

    def release(self) -> None:
        """What it needs after the last tile, on every thread."""
        self.isa.release()

    def tile(self, piece: Piece, index: Expr, y: Expr, x: Expr, store: Store) -> None:
        """Compute the tile whose first output pixel is (y, x), of a piece's ``index``-th run of channels."""
        n, tile = self.isa.lanes, piece.tile
        parameter = self.parameter_offset + piece.parameter + index * (tile.blocks * 2 * n)
        accumulators = self.accumulate(piece, index, y, x, parameter)
        for row in range(tile.rows):
            for pixel in range(tile.pixels):
                first = 0
                for count in self.isa.narrow_counts(tile.blocks):
                    vectors = [accumulators(row, pixel, first + b) for b in range(count)]
                    at = [parameter + ((first + b) * 2 + 1) * n for b in range(count)]
                    store(row, pixel, first, vectors, [self.parameters[lanes(a, n)] for a in at])
                    first += count

    def accumulate(self, piece: Piece, index: Expr, y: Expr, x: Expr, parameter: Expr) -> Accumulators:
        """Write the sums of a tile; ``parameter`` is the first of its parameters."""
        source, kernel_h = self.source, self.conv.weight.shape[1]
        down, right = self.conv.stride
        step = piece.tile.blocks * self.isa.lanes * self.packed.group * self.isa.weight_size
        weights = 0 if self.isa.chained else kernel_h * self.packed.steps * step
        operands = Operands(
            data=self.data,
            start=self._window(y, x),
            down=down * source.row,
            right=right * source.channels,
            row=source.row,
            rows=kernel_h,
            steps=self.packed.steps,
            group=self.packed.group,
            weights=self.weights,
            weight=self.weight_offset + piece.weight + index * weights,
            parameters=self.parameters,
            parameter=parameter,
            plan=self.parameter_offset + piece.plan,
            index=index,
        )
        return self.isa.accumulate(piece.tile, operands)

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """clip(v + zero_point, 0, Q_MAX) of some blocks of a tile, in the channels' order."""
        return self.isa.narrow(vectors, zero_point)

    def _window(self, y: Expr, x: Expr) -> Expr:
        """Where the window of an output pixel begins."""
        (top, left), (down, right) = self.conv.padding[:2], self.conv.stride
        return self.source.address(y * down - top, x * right - left)


@dataclass(frozen=True, eq=False)
class DepthwiseKernel(ConvolutionKernel):
    """A depthwise convolution: a tile reads only a part of a cache line, and its neighbours read the rest."""

    together = 4

    def configure(self, piece: Piece) -> None:
        """Nothing: its registers are always there."""

    def accumulate(self, piece: Piece, index: Expr, y: Expr, x: Expr, parameter: Expr) -> Accumulators:
        """Write the sums of a tile; ``parameter`` is the first of its parameters."""
        products, tile = self.isa.channels, piece.tile
        kernel = self.conv.weight.shape[1:3]
        weights = products.weight_bytes(tile, kernel, self.conv.stride)
        operands = ChannelOperands(
            kernel=kernel,
            stride=self.conv.stride,
            data=self.data,
            start=self._window(y, x) + piece.channel + index * (tile.blocks * self.isa.lanes),
            row=self.source.row,
            pixel=self.source.channels,
            weights=self.weights,
            weight=self.weight_offset + piece.weight + index * weights,
            parameters=self.parameters,
            parameter=parameter,
        )
        return products.accumulate(tile, operands)

    def narrow(self, vectors: Sequence[Expr], zero_point: int) -> Expr:
        """clip(v + zero_point, 0, Q_MAX) of some blocks of a tile, in the channels' order."""
        return self.isa.channels.in_order(super().narrow(vectors, zero_point), len(vectors))


def kernel_class(conv: Conv | Head) -> type[ConvolutionKernel]:
    """Which of them computes a convolution."""
    return DepthwiseKernel if is_depthwise(conv) else ConvolutionKernel
