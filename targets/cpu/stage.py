"""One stage of the network -> one PrimFunc and its constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from squeezeedge.lower.patterns import Convolution, Pattern, Stage
from squeezeedge.targets.cpu.convolution import ConvolutionKernel, Store
from squeezeedge.targets.cpu.elementwise import add_rows, copy_rows, fill_border, pool_row
from squeezeedge.targets.cpu.isa import Expr, InstructionSet
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import clamped_tiles, lanes, loop, scratch
from squeezeedge.targets.cpu.packing import Packed, Piece, pack

__all__ = ["StageFunction", "copy_function", "stage_function"]

ROW_PARALLEL = 20
"""Maps with more rows are divided among threads by rows, smaller ones by output channels."""

POOL_TASKS = 4
"""Bands of a convolution fused with a pooling; neighbours compute the rows between them twice."""


@dataclass(frozen=True, eq=False)
class StageFunction:
    """A stage as TVM sees it.

    Attributes:
        function: takes the inputs' buffers (uint8), the constants and the output's buffer.
        constants: 1-D arrays.
        out: length and dtype of the output's buffer.
    """

    function: PrimFunc
    constants: tuple[NDArray[Any], ...]
    out: tuple[int, str]


def copy_function(source: Layout, target: Layout, pad: Sequence[int]) -> StageFunction:
    """Copies the image to where it has a border of pad values and may be read beyond its end."""

    def body(inputs: list[Expr], constants: list[Expr], out: Expr) -> None:
        fill_border(target, out, pad)
        with loop(source.height) as y:
            copy_rows(source, inputs[0], target, out, 0, y)

    image = (source.height * source.width * source.channels,)
    return _function("image", [image], (), (target.size, "uint8"), body)


def stage_function(
    stage: Stage, name: str, isa: InstructionSet, sources: Sequence[Layout], target: Layout | None, pad: int
) -> StageFunction:
    """Write a stage's kernel.

    Args:
        stage: what to compute.
        name: symbol of the function.
        isa: the instruction set.
        sources: layouts of the stage's inputs.
        target: layout of the output; ``None`` for the head, which writes int32 sums.
        pad: the q around the output.
    """
    sizes = [(layout.size,) for layout in sources]
    if target is None:
        return _head(stage, name, isa, sources[0])
    height = 1 if stage.pattern is Pattern.CONVOLUTION_POOL else stage.out[0]
    packed = [pack(conv, isa, height) for conv in stage.convolutions]
    constants: tuple[NDArray[Any], ...] = ()
    if packed:
        constants = (np.concatenate([p.weights for p in packed]), np.concatenate([p.parameters for p in packed]))
    if stage.addition is not None:
        constants = (np.stack([stage.addition.offset, stage.addition.shift], 1).astype(np.int32).ravel(),)

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        fill_border(target, out, [pad] * target.channels)
        if packed:
            kernels = _kernels(stage.convolutions, packed, isa, sources, inputs, arrays)
            if stage.pattern is Pattern.CONVOLUTION_POOL:
                _convolution_pool(stage, kernels[0], target, out)
            else:
                _convolutions(kernels, target, out)
            return
        with T.parallel(0, target.height) as y:
            if stage.addition is not None:
                add_rows(sources, inputs, target, out, arrays[0], stage.addition.zero_point, y)
            elif stage.pooling is not None:
                pool_row(stage.pooling, sources[0], inputs[0], target, out, y)
            else:
                channel = 0
                for layout, data in zip(sources, inputs, strict=True):
                    copy_rows(layout, data, target, out, channel, y)
                    channel += layout.channels

    return _function(name, sizes, constants, (target.size, "uint8"), body)


def _function(
    name: str,
    inputs: Sequence[tuple[int]],
    constants: tuple[NDArray[Any], ...],
    out: tuple[int, str],
    body: Callable[[list[Expr], list[Expr], Expr], None],
) -> StageFunction:
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        data = [T.arg(f"x{i}", T.Buffer(size, "uint8")) for i, size in enumerate(inputs)]
        arrays = [T.arg(f"c{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(constants)]
        body(data, arrays, T.arg("y", T.Buffer(out[:1], out[1])))
    return StageFunction(builder.get(), constants, out)


def _kernels(
    convolutions: Sequence[Convolution],
    packed: Sequence[Packed],
    isa: InstructionSet,
    sources: Sequence[Layout],
    inputs: list[Expr],
    arrays: list[Expr],
) -> list[ConvolutionKernel]:
    kernels, weight, parameter = [], 0, 0
    for conv, constants in zip(convolutions, packed, strict=True):
        source, data = sources[conv.input], inputs[conv.input]
        weights, parameters = arrays
        kernels.append(ConvolutionKernel(conv, isa, constants, source, data, weights, parameters, weight, parameter))
        weight += constants.weights.size
        parameter += constants.parameters.size
    return kernels


def _store(
    kernel: ConvolutionKernel, piece: Piece, index: Expr, target: Layout, out: Expr, channel: int, y: Expr, x: Expr
) -> Store:
    """Clip to 8 bits and store a tile at pixel (y, x), the convolution's channels beginning at ``channel``."""
    isa, zero_point = kernel.isa, kernel.conv.zero_point
    width = piece.tile.blocks * isa.lanes

    def store(row: int, pixel: int, first: int, vectors: list[Expr]) -> None:
        at = target.address(y + row, x + pixel, channel + piece.channel + index * width + first * isa.lanes)
        value = isa.narrow(vectors, zero_point)
        if piece.valid == width:
            T.buffer_store(out, value, [lanes(at, len(vectors) * isa.lanes)])
            return
        block = scratch(isa.lanes, "uint8")
        T.buffer_store(block, value, [lanes(0, isa.lanes)])
        with loop(piece.valid) as i:
            T.buffer_store(out, block[i], [at + i])

    return store


def _map(
    kernel: ConvolutionKernel,
    piece: Piece,
    index: Expr,
    rows: tuple[Expr, int],
    target: Layout,
    out: Expr,
    channel: int,
) -> None:
    """Compute ``rows`` (first, number) of one run of channels."""
    first, height = rows
    down, row = clamped_tiles(height, piece.tile.rows)
    across, pixel = clamped_tiles(kernel.conv.out[1], piece.tile.pixels)
    with loop(down) as i, loop(across) as j:
        y, x = first + row(i), pixel(j)
        kernel.tile(piece, index, y, x, _store(kernel, piece, index, target, out, channel, y, x))


def _channels(kernels: Sequence[ConvolutionKernel]) -> list[int]:
    """First channel of each convolution in their concatenation."""
    return [0, *np.cumsum([kernel.conv.out[2] for kernel in kernels])[:-1].tolist()]


def _convolutions(kernels: Sequence[ConvolutionKernel], target: Layout, out: Expr) -> None:
    """Convolutions side by side in the channels of one output."""
    placed = list(zip(kernels, _channels(kernels), strict=True))
    height = target.height
    if height > ROW_PARALLEL:
        band = max(piece.tile.rows for kernel in kernels for piece in kernel.packed.pieces)
        bands, first = clamped_tiles(height, band)
        with loop(bands, parallel=True) as i:
            for kernel, channel in placed:
                for piece in kernel.packed.pieces:
                    kernel.configure(piece)
                    with loop(piece.count) as index:
                        _map(kernel, piece, index, (first(i), band), target, out, channel)
            kernels[0].release()
        return
    runs = [(kernel, piece, channel) for kernel, channel in placed for piece in kernel.packed.pieces]
    together = len({piece.count for _, piece, _ in runs}) == 1
    for group in [runs] if together else [[run] for run in runs]:
        with loop(group[0][1].count, parallel=True) as index:
            for kernel, piece, channel in group:
                kernel.configure(piece)
                _map(kernel, piece, index, (0, height), target, out, channel)
            kernels[0].release()


def _convolution_pool(stage: Stage, kernel: ConvolutionKernel, target: Layout, out: Expr) -> None:
    """A convolution whose rows only live until they are pooled."""
    pooling = stage.pooling
    assert pooling is not None
    height, width, channels = kernel.conv.out
    kernel_h, stride = pooling.kernel[0], pooling.stride[0]
    held = Layout(kernel_h, width, channels)
    band = -(-target.height // POOL_TASKS)
    bands, first = clamped_tiles(target.height, band)
    with loop(bands, parallel=True) as task:
        ring = scratch(held.size, "uint8")

        def convolve(piece: Piece, row: Expr) -> None:
            y = T.min(T.max(row, 0), height - 1)
            across, pixel = clamped_tiles(width, piece.tile.pixels)
            with loop(piece.count) as index, loop(across) as j:
                x = pixel(j)
                store = _store(kernel, piece, index, held, ring, 0, y % kernel_h, x)
                kernel.tile(piece, index, y, x, store)

        start = first(task) * stride - pooling.padding[0]
        fresh = min(stride, kernel_h)
        for piece in kernel.packed.pieces:
            kernel.configure(piece)
            with loop(kernel_h - fresh) as i:
                convolve(piece, start + i)
        with loop(band) as i:
            row = start + i * stride + kernel_h - fresh
            for piece in kernel.packed.pieces:
                if len(kernel.packed.pieces) > 1:
                    kernel.configure(piece)
                with loop(fresh) as j:
                    convolve(piece, row + j)
            pool_row(pooling, held, ring, target, out, first(task) + i, ring=kernel_h)
        kernel.release()


def _head(stage: Stage, name: str, isa: InstructionSet, source: Layout) -> StageFunction:
    """The last convolution, clipped at zero where the network has that ReLU, summed over the map (R6)."""
    (conv,) = stage.convolutions
    if conv.weight.shape[1:3] == conv.stride == (1, 1) and source.contiguous:  # all pixels as one row
        pixels = source.height * source.width
        source = Layout(1, pixels, source.channels)
        conv = replace(conv, source=source.shape, out=(1, pixels, conv.out[2]))
    packed = pack(conv, isa, conv.out[0])
    (piece,) = packed.pieces
    width = piece.tile.blocks * isa.lanes
    constants = (packed.weights, packed.parameters)

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        (kernel,) = _kernels([conv], [packed], isa, [source], inputs, arrays)
        with loop(piece.count, parallel=True) as index:
            kernel.configure(piece)
            sums = scratch(width, "int32")
            zeros = T.broadcast(T.int32(0), isa.lanes)
            for block in range(piece.tile.blocks):
                T.buffer_store(sums, zeros, [lanes(block * isa.lanes, isa.lanes)])
            for rows, old_rows in _disjoint(conv.out[0], piece.tile.rows):
                for columns, old_columns in _disjoint(conv.out[1], piece.tile.pixels):
                    store = _accumulate(isa, conv.relu, sums, old_rows, old_columns)
                    with loop(rows[1]) as i, loop(columns[1]) as j:
                        y, x = rows[0] + i * piece.tile.rows, columns[0] + j * piece.tile.pixels
                        kernel.tile(piece, index, y, x, store)
            for block in range(piece.tile.blocks):
                at = lanes(block * isa.lanes, isa.lanes)
                T.buffer_store(out, sums[at], [lanes(index * width + block * isa.lanes, isa.lanes)])
            kernel.release()

    size = piece.count * width
    return _function(name, [(source.size,)], constants, (size, "int32"), body)


def _accumulate(isa: InstructionSet, relu: bool, sums: Expr, old_rows: int, old_pixels: int) -> Store:
    """Add a tile's new pixels to the sums of its channels."""

    def store(row: int, pixel: int, first: int, vectors: list[Expr]) -> None:
        if row < old_rows or pixel < old_pixels:
            return
        for block, vector in enumerate(vectors):
            at = lanes((first + block) * isa.lanes, isa.lanes)
            value = T.max(vector, T.broadcast(T.int32(0), isa.lanes)) if relu else vector
            T.buffer_store(sums, sums[at] + value, [at])

    return store


def _disjoint(extent: int, size: int) -> list[tuple[tuple[int, int], int]]:
    """Tiles over an extent as ((start, number of tiles), how many of a tile's first elements are not new)."""
    whole, rest = divmod(extent, size)
    tiles = [((0, whole), 0)] if whole else []
    return [*tiles, ((extent - size, 1), size - rest)] if rest else tiles
