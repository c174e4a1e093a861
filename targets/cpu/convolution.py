"""Convolution kernels: the loops around one instruction set's multiply, as TVM PrimFunc bodies.

Rules of thumb that were measured: accumulators that do not fit the registers cost a factor of two, and so do more than
four unrolled reduction steps; one tile width a row, the last tile overlapping its neighbour, beats mixed widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from squeezeedge.lower.patterns import Convolution
from squeezeedge.targets.cpu.isa import Expr, InstructionSet, MatrixSet, VectorSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import lanes, loop, scratch
from squeezeedge.targets.cpu.packing import Packed, Piece

__all__ = ["ConvolutionKernel", "Store"]

UNROLL = 4
CONFIG = 64
"""Bytes of an AMX tile configuration."""

Store = Callable[[int, int, int, list[Expr]], None]
"""Takes (row, pixel, first block, int32 vectors) of a tile, after the shift."""


@dataclass(frozen=True, eq=False)
class ConvolutionKernel:
    """One convolution of a stage.

    Attributes:
        conv: its parameters.
        isa: the instruction set.
        packed: its constants.
        source: layout of what it reads.
        data: buffer of what it reads, uint8.
        weights: buffer of the stage's weights, int8.
        parameters: buffer of the stage's biases and shifts, int32.
        weight_offset: where its weights start.
        parameter_offset: where its biases start.
    """

    conv: Convolution
    isa: InstructionSet
    packed: Packed
    source: Layout
    data: Expr
    weights: Expr
    parameters: Expr
    weight_offset: int
    parameter_offset: int

    def tile(self, piece: Piece, index: Expr, y: Expr, x: Expr, store: Store) -> None:
        """Compute the tile whose first output pixel is (y, x), of a piece's ``index``-th run of channels."""
        if isinstance(self.isa, MatrixSet):
            self._matrix_tile(piece, index, y, x, store)
        else:
            assert isinstance(self.isa, VectorSet)
            self._vector_tile(self.isa, piece, index, y, x, store)

    def _input_address(self, y: Expr, x: Expr) -> Expr:
        """Byte offset of the window of output pixel (y, x)."""
        top, left = self.conv.padding[:2]
        return self.source.address(y * self.conv.stride[0] - top, x * self.conv.stride[1] - left)

    def _offsets(self, piece: Piece, index: Expr) -> tuple[Expr, Expr]:
        """Where the weights and the parameters of a tile start."""
        kernel_h, blocks = self.conv.weight.shape[1], piece.tile.blocks
        weights = kernel_h * self.packed.steps * blocks * self.isa.lanes * self.packed.group
        return (
            self.weight_offset + piece.weight + index * weights,
            self.parameter_offset + piece.parameter + index * (blocks * 2 * self.isa.lanes),
        )

    def _reduce(self, step: Callable[[Expr, Expr], None]) -> None:
        """Call ``step(kernel row, step of the row)`` for the whole reduction, unrolled as far as it pays."""
        steps = self.packed.steps
        with loop(self.conv.weight.shape[1]) as row:
            whole = steps // UNROLL if steps > UNROLL else 0
            if whole:
                with loop(whole) as i:
                    for k in range(UNROLL):
                        step(row, i * UNROLL + k)
            for k in range(whole * UNROLL, steps):
                step(row, k)

    def _finish(
        self, piece: Piece, parameter: Expr, accumulators: Callable[[int, int, int], Expr], store: Store
    ) -> None:
        """Shift each pixel's accumulators and store them in the groups that are narrowed at once."""
        n = self.isa.lanes
        for row in range(piece.tile.rows):
            for pixel in range(piece.tile.pixels):
                first = 0
                for count in self.isa.narrow_counts(piece.tile.blocks):
                    vectors = [accumulators(row, pixel, first + b) for b in range(count)]
                    if self.conv.shift is not None:
                        at = [parameter + ((first + b) * 2 + 1) * n for b in range(count)]
                        vectors = [
                            T.shift_right(v, self.parameters[lanes(a, n)]) for v, a in zip(vectors, at, strict=True)
                        ]
                    store(row, pixel, first, vectors)
                    first += count

    def _vector_tile(self, isa: VectorSet, piece: Piece, index: Expr, y: Expr, x: Expr, store: Store) -> None:
        n, tile, group = isa.lanes, piece.tile, self.packed.group
        weight, parameter = self._offsets(piece, index)
        acc = scratch(tile.rows * tile.pixels * tile.blocks * n, "int32")

        def at(row: int, pixel: int, block: int) -> Expr:
            return lanes(((row * tile.pixels + pixel) * tile.blocks + block) * n, n)

        pixels = [(row, pixel) for row in range(tile.rows) for pixel in range(tile.pixels)]
        for row, pixel in pixels:
            for block in range(tile.blocks):
                bias = self.parameters[lanes(parameter + block * 2 * n, n)]
                T.buffer_store(acc, bias, [at(row, pixel, block)])
        base = self._input_address(y, x)
        down, right = (
            s * size for s, size in zip(self.conv.stride, (self.source.row, self.source.channels), strict=True)
        )

        def step(kernel_row: Expr, k: Expr) -> None:
            start = base + kernel_row * self.source.row + k * group
            first = weight + (kernel_row * self.packed.steps + k) * (tile.blocks * n * group)
            for row, pixel in pixels:
                activation = isa.activation(self.data, start + row * down + pixel * right)
                for block in range(tile.blocks):
                    weights = self.weights[lanes(first + block * n * group, n * group)]
                    index = at(row, pixel, block)
                    T.buffer_store(acc, isa.dot(acc[index], activation, weights), [index])

        self._reduce(step)
        self._finish(piece, parameter, lambda *position: acc[at(*position)], store)

    def configure(self, piece: Piece) -> None:
        """AMX: set the tile shapes for a piece; before its tiles, on every thread."""
        if isinstance(self.isa, MatrixSet):
            config = scratch(CONFIG, "uint8")
            T.buffer_store(config, T.broadcast(T.uint8(0), CONFIG), [T.ramp(0, 1, CONFIG)])
            T.buffer_store(config, T.uint8(1), [0])  # palette 1
            group = self.packed.group
            shapes = [(piece.tile.pixels, 64)] * 4 + [(piece.tile.pixels, group)] * 2 + [(group // 4, 64)] * 2
            for register, (rows, width) in enumerate(shapes):
                T.buffer_store(config, T.uint8(width), [16 + 2 * register])
                T.buffer_store(config, T.uint8(rows), [48 + register])
            _intrinsic("ldtilecfg", T.address_of(config[0]))

    def release(self) -> None:
        """AMX: give the tile registers back; after the last tile, on every thread."""
        if isinstance(self.isa, MatrixSet):
            _intrinsic("tilerelease")

    def _matrix_tile(self, piece: Piece, index: Expr, y: Expr, x: Expr, store: Store) -> None:
        """Tile registers: 0..3 accumulators, 4 and 5 input rows, 6 and 7 weights."""
        tile, group, source = piece.tile, self.packed.group, self.source
        weight, parameter = self._offsets(piece, index)
        held = scratch(tile.rows * tile.blocks * tile.pixels * 16, "int32")
        for block in range(tile.blocks):  # a stride of zero copies the bias into every row
            bias = T.address_of(self.parameters[parameter + block * 32])
            for row in range(tile.rows):
                _intrinsic("tileloadd64", T.int8(row * tile.blocks + block), bias, T.int64(0))
        base = self._input_address(y, x)
        stride = T.int64(self.conv.stride[1] * source.channels)

        def step(kernel_row: Expr, k: Expr) -> None:
            start = base + kernel_row * source.row + k * group
            first = weight + (kernel_row * self.packed.steps + k) * (tile.blocks * 16 * group)
            for row in range(tile.rows):
                pixels = T.address_of(self.data[start + row * self.conv.stride[0] * source.row])
                _intrinsic("tileloadd64", T.int8(4 + row), pixels, stride)
            for block in range(tile.blocks):
                register = T.int8(6 + block % 2)
                weights = T.address_of(self.weights[first + block * 16 * group])
                _intrinsic("tileloadd64", register, weights, T.int64(64))
                for row in range(tile.rows):
                    _intrinsic("tdpbusd", T.int8(row * tile.blocks + block), T.int8(4 + row), register)

        self._reduce(step)

        def at(row: int, pixel: int, block: int) -> int:
            return ((row * tile.blocks + block) * tile.pixels + pixel) * 16

        for row in range(tile.rows):
            for block in range(tile.blocks):
                out = T.address_of(held[at(row, 0, block)])
                _intrinsic("tilestored64", T.int8(row * tile.blocks + block), out, T.int64(64))
        self._finish(piece, parameter, lambda *position: held[lanes(at(*position), 16)], store)


def _intrinsic(name: str, *arguments: Expr) -> None:
    T.evaluate(T.call_llvm_intrin("void", f"llvm.x86.{name}", *arguments))
