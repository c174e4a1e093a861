"""One stage of the network -> the call of one PrimFunc with its constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Head, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.call_plan import ALIGNMENT, KernelCall
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.cpu.convolution import ConvolutionKernel, Store, kernel_class
from squeezeedge.targets.cpu.elementwise import add_rows, copy_rows, fill_border, pool_row
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.layout import CACHE_LINE, Layout
from squeezeedge.targets.cpu.loops import Expr, clamped_tiles, lanes, loop, scratch
from squeezeedge.targets.cpu.packing import Piece, checked_shift, pack
from squeezeedge.targets.cpu.windows import Windows, windows_size

__all__ = ["Site", "copy_image", "scratch_bytes", "stage_call"]

ROW_PARALLEL = 20
"""Maps with more rows are divided among threads by rows, smaller ones by output channels."""

POOL_TASKS = 4
"""Bands of a convolution fused with a pooling; threads compute the rows between theirs twice."""

Constants = tuple[NDArray[Any], ...]
Body = Callable[[list[Expr], list[Expr], Expr], None]
"""Writes a function's code; takes the buffers of its inputs, of its constants and of its output."""


@dataclass(frozen=True, eq=False)
class Site:
    """Where a kernel stands in the network.

    Attributes:
        symbol: of its function.
        inputs: names of the tensors that it reads.
        sources: their layouts.
        out: name of the tensor that it makes.
        target: the layout of that, except of the head's class sums.
        pad: the q of each channel around it.
    """

    symbol: str
    inputs: tuple[str, ...]
    sources: tuple[Layout, ...]
    out: str
    target: Layout
    pad: Sequence[int]


stage_call: Table[Stage, KernelCall] = Table("CPU kernels", tuple(Pattern), key=lambda stage: stage.pattern)
"""``stage_call(stage, site, isa)``: write a stage's kernel.

Raises:
    UnsupportedError: it has none for this stage.
"""


def copy_image(site: Site) -> KernelCall:
    """Copies the image to where it has a border of pad values and may be read beyond its end."""
    source = Layout(*site.target.shape)

    def body(inputs: list[Expr], constants: list[Expr], out: Expr) -> None:
        fill_border(site.target, out, site.pad)
        with loop(source.height, parallel=True) as y:
            copy_rows(source, inputs[0], site.target, out, 0, y)

    size = source.height * source.width * source.channels
    return _call(site, [size], (), site.target.size, "uint8", body, align=1)  # it lies where the caller has it


@stage_call.implements(Pattern.MAX_POOL)
def _max_pool(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    (source,), pooling = site.sources, stage.pooling
    assert pooling is not None

    def row(inputs: list[Expr], constants: list[Expr], out: Expr, y: Expr) -> None:
        pool_row(pooling, source.height, source, inputs[0], site.target, out, y)

    return _rows(site, (), row)


@stage_call.implements(Pattern.ADD)
def _add(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    node = stage.addition
    assert node is not None
    shift = checked_shift(node.name, node.shift)
    zero_points = np.array([[stage.tensors[name].zero_point] for name in node.inputs], np.int32)
    constants = np.stack([rules.rounding_term(shift) - zero_points, shift], 1).ravel()

    def row(inputs: list[Expr], arrays: list[Expr], out: Expr, y: Expr) -> None:
        add_rows(site.sources, inputs, site.target, out, arrays[0], node.zero_point, y)

    return _rows(site, (constants,), row)


@stage_call.implements(Pattern.CONCAT)
def _concat(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    def row(inputs: list[Expr], constants: list[Expr], out: Expr, y: Expr) -> None:
        channel = 0
        for layout, data in zip(site.sources, inputs, strict=True):
            copy_rows(layout, data, site.target, out, channel, y)
            channel += layout.channels

    return _rows(site, (), row)


@stage_call.implements(Pattern.CONVOLUTION, Pattern.CONCAT_CONVOLUTIONS)
def _convolutions(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    """Convolutions side by side in the channels of one output."""
    constants, kernels_of = _packed(stage, site, isa, [stage.shape(conv.name) for conv in stage.convolutions])
    channels = [0, *np.cumsum([len(conv.bias) for conv in stage.convolutions])[:-1].tolist()]
    target, height = site.target, site.target.height

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        fill_border(target, out, site.pad)
        kernels = kernels_of(inputs, arrays)
        placed = [
            (kernel, _store(stage, kernel, target, out, channel))
            for kernel, channel in zip(kernels, channels, strict=True)
        ]
        if height > ROW_PARALLEL:
            band = max(piece.tile.rows for kernel in kernels for piece in kernel.packed.pieces)
            bands, first = clamped_tiles(height, band)
            with loop(bands, parallel=True) as i:
                for kernel, store in placed:
                    for piece in kernel.packed.pieces:
                        kernel.configure(piece)
                        with loop(kernel.runs(piece)) as run:
                            _map(kernel, piece, run, (first(i), band), store)
                kernels[0].release()
            return
        runs = [(kernel, piece, store) for kernel, store in placed for piece in kernel.packed.pieces]
        together = len({kernel.runs(piece) for kernel, piece, _ in runs}) == 1
        for group in [runs] if together else [[run] for run in runs]:
            with loop(group[0][0].runs(group[0][1]), parallel=True) as run:
                for kernel, piece, store in group:
                    kernel.configure(piece)
                    _map(kernel, piece, run, (0, height), store)
                kernels[0].release()

    return _call(site, [layout.size for layout in site.sources], constants, target.size, "uint8", body)


@stage_call.implements(Pattern.CONVOLUTION_POOL)
def _convolution_pool(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    """A convolution whose rows only live until they are pooled, in a ring of rows for each band."""
    (conv,), pooling, target = stage.convolutions, stage.pooling, site.target
    assert pooling is not None
    height, width, channels = stage.shape(conv.name)
    windows = Windows.of(conv, isa, width)
    constants, kernels_of = _packed(stage, site, isa, [Shape(1, width, channels)], windows)
    kernel_h, stride = pooling.kernel[0], pooling.stride[0]
    held = _ring(stage)
    assert target.scratch == scratch_bytes(stage, isa)
    apart = scratch_bytes(stage, isa) // POOL_TASKS

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        fill_border(target, out, site.pad)
        with _each_thread():
            state = scratch(2, "int32")  # where this thread's rows are, the first row that it has not computed
            T.buffer_store(state, T.int32(-1), [0])
            T.buffer_store(state, T.int32(0), [1])
            with loop(POOL_TASKS, parallel=True) as task:
                T.buffer_store(state, T.Select(state[0] < 0, task * apart, state[0]), [0])
                ring = T.decl_buffer((apart,), "uint8", data=out.data, elem_offset=target.end + state[0])
                placed = T.decl_buffer((apart,), "uint8", data=out.data, elem_offset=target.end + state[0] + held.size)
                (kernel,) = kernels_of([placed] if windows else inputs, arrays)
                store = _store(stage, kernel, held, ring, 0)
                pieces = kernel.packed.pieces
                if len(pieces) == 1:
                    kernel.configure(pieces[0])

                def convolve(y: Expr) -> None:
                    if windows:
                        windows.write(site.sources[0], inputs[0], placed, y)
                    for piece in pieces:
                        if len(pieces) > 1:
                            kernel.configure(piece)
                        across, pixel = clamped_tiles(width, piece.tile.pixels)
                        with loop(piece.count) as index, loop(across) as j:
                            x = pixel(j)
                            at = 0 if windows else y
                            kernel.tile(piece, index, at, x, store(piece, index, y % kernel_h, x))

                first, end = (number * target.height // POOL_TASKS for number in (task, task + 1))
                with T.serial(
                    0, end - first
                ) as i:  # from 0: TVM does not move other loops' bounds into what is in them
                    row = first + i
                    top = row * stride - pooling.padding[0]
                    start, stop = T.max(state[1], T.max(top, 0)), T.min(top + kernel_h, height)
                    with T.serial(0, stop - start) as j:
                        convolve(start + j)
                    T.buffer_store(state, stop, [1])
                    pool_row(pooling, height, held, ring, target, out, row, ring=kernel_h)
                kernel.release()

    return _call(site, [layout.size for layout in site.sources], constants, target.size, "uint8", body)


def _ring(stage: Stage) -> Layout:
    """The rows of a convolution that its pooling reads at a time."""
    (conv,), pooling = stage.convolutions, stage.pooling
    assert pooling is not None
    _, width, channels = stage.shape(conv.name)
    return Layout(pooling.kernel[0], width, channels)


def scratch_bytes(stage: Stage, isa: InstructionSet) -> int:
    """Bytes of work space behind a stage's tensor. They grow with the image, too large for a thread's stack."""
    if stage.pattern is not Pattern.CONVOLUTION_POOL:
        return 0
    ring = _ring(stage)
    size = ring.size + windows_size(stage.convolutions[0], isa, ring.width)
    return POOL_TASKS * (-(-size // CACHE_LINE) * CACHE_LINE)


@contextmanager
def _each_thread() -> Iterator[None]:
    """What is written runs on every thread; these share the iterations of a parallel loop in it."""
    with T.attr(T.int32(0), "pragma_parallel_launch_point", T.int32(1)):
        yield


@stage_call.implements(Pattern.HEAD)
def _head(stage: Stage, site: Site, isa: InstructionSet) -> KernelCall:
    """The last convolution, clipped at zero where the network has that ReLU, summed over the map (R6)."""
    head, (source,) = stage.head, site.sources
    assert head is not None
    out_shape = stage.shape(head.name)
    if head.weight.shape[1:3] == head.stride == (1, 1) and source.contiguous:  # all pixels as one row
        source = replace(source, height=1, width=source.height * source.width)
        out_shape = Shape(1, source.width, out_shape.channels)
    row = source.row
    packed = pack(head, stage.tensors[head.input], isa, out_shape.height, out_shape.width, row, whole_blocks=True)
    (piece,) = packed.pieces
    width = piece.tile.blocks * isa.lanes

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        weights, parameters = arrays
        kernel = kernel_class(head)(head, out_shape, isa, packed, source, inputs[0], weights, parameters, 0, 0)
        with loop(piece.count, parallel=True) as index:
            kernel.configure(piece)
            sums = scratch(width, "int32")
            zeros = T.broadcast(T.int32(0), isa.lanes)
            for block in range(piece.tile.blocks):
                T.buffer_store(sums, zeros, [lanes(block * isa.lanes, isa.lanes)])
            for rows, old_rows in _disjoint(out_shape.height, piece.tile.rows):
                for columns, old_columns in _disjoint(out_shape.width, piece.tile.pixels):
                    store = _accumulate(isa, head.relu, sums, old_rows, old_columns)
                    with loop(rows[1]) as i, loop(columns[1]) as j:
                        y, x = rows[0] + i * piece.tile.rows, columns[0] + j * piece.tile.pixels
                        kernel.tile(piece, index, y, x, store)
            for block in range(piece.tile.blocks):
                at = lanes(block * isa.lanes, isa.lanes)
                T.buffer_store(out, sums[at], [lanes(index * width + block * isa.lanes, isa.lanes)])
            kernel.release()

    size = piece.count * width
    return _call(site, [source.size], (packed.weights, packed.parameters), size, "int32", body)


def _call(
    site: Site, sizes: Sequence[int], constants: Constants, size: int, dtype: str, body: Body, align: int = ALIGNMENT
) -> KernelCall:
    """A function of inputs of so many bytes, aligned so, and the call of it."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(site.symbol)
        T.func_attr({"global_symbol": site.symbol, "tirx.noalias": True})
        data = [T.arg(f"x{i}", T.Buffer((bytes_,), "uint8", align=align)) for i, bytes_ in enumerate(sizes)]
        arrays = [T.arg(f"c{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(constants)]
        body(data, arrays, T.arg("y", T.Buffer((size,), dtype)))
    return KernelCall(builder.get(), site.inputs, constants, site.out, size, dtype)


def _rows(site: Site, constants: Constants, row: Callable[[list[Expr], list[Expr], Expr, Expr], None]) -> KernelCall:
    """A kernel that makes each row of its output by itself; ``row`` is a ``Body`` that takes the row's number, too."""

    def body(inputs: list[Expr], arrays: list[Expr], out: Expr) -> None:
        fill_border(site.target, out, site.pad)
        with T.parallel(0, site.target.height) as y:
            row(inputs, arrays, out, y)

    return _call(site, [layout.size for layout in site.sources], constants, site.target.size, "uint8", body)


def _packed(
    stage: Stage, site: Site, isa: InstructionSet, shapes: Sequence[Shape], windows: Windows | None = None
) -> tuple[Constants, Callable[[list[Expr], list[Expr]], list[ConvolutionKernel]]]:
    """The constants of a stage's convolutions, and what makes their kernels once there are buffers.

    Args:
        stage: with convolutions.
        site: its tensors.
        isa: the instruction set.
        shapes: of what each convolution's kernel computes at a time.
        windows: of the only convolution, if it reads these, and not what the stage does.
    """
    reads = [(conv, stage.tensors[conv.input], _source(stage, site, conv)) for conv in stage.convolutions]
    if windows:
        reads = [(windows.conv, windows.source(reads[0][1]), windows.layout)]
    packed = [
        pack(conv, tensor, isa, shape.height, shape.width, layout.row)
        for (conv, tensor, layout), shape in zip(reads, shapes, strict=True)
    ]

    def kernels(inputs: list[Expr], arrays: list[Expr]) -> list[ConvolutionKernel]:
        (weights, parameters), made, weight, parameter = arrays, [], 0, 0
        for (conv, _, source), shape, own in zip(reads, shapes, packed, strict=True):
            data = inputs[stage.inputs.index(conv.input)]
            kernel = kernel_class(conv)
            made.append(kernel(conv, shape, isa, own, source, data, weights, parameters, weight, parameter))
            weight += own.weights.size
            parameter += own.parameters.size
        return made

    constants = (np.concatenate([p.weights for p in packed]), np.concatenate([p.parameters for p in packed]))
    return constants, kernels


def _source(stage: Stage, site: Site, conv: Conv | Head) -> Layout:
    """What a convolution reads."""
    return site.sources[stage.inputs.index(conv.input)]


def _store(
    stage: Stage, kernel: ConvolutionKernel, target: Layout, out: Expr, channel: int
) -> Callable[[Piece, Expr, Expr, Expr], Store]:
    """R3 of a tile at pixel (y, x) of a target, in which the convolution's channels begin at ``channel``.

    Returns:
        What takes the piece, its run of channels, y and x.
    """
    isa, zero_point = kernel.isa, stage.tensors[kernel.conv.name].zero_point

    def at_tile(piece: Piece, index: Expr, y: Expr, x: Expr) -> Store:
        width = piece.tile.blocks * isa.lanes

        def store(row: int, pixel: int, first: int, vectors: list[Expr], shifts: list[Expr]) -> None:
            at = target.address(y + row, x + pixel, channel + piece.channel + index * width + first * isa.lanes)
            shifted = [T.shift_right(vector, shift) for vector, shift in zip(vectors, shifts, strict=True)]
            value = kernel.narrow(shifted, zero_point)
            if piece.valid == width:
                T.buffer_store(out, value, [lanes(at, len(vectors) * isa.lanes)])
                return
            block = scratch(isa.lanes, "uint8")
            T.buffer_store(block, value, [lanes(0, isa.lanes)])
            with loop(piece.valid) as i:
                T.buffer_store(out, block[i], [at + i])

        return store

    return at_tile


def _map(
    kernel: ConvolutionKernel,
    piece: Piece,
    run: Expr,
    rows: tuple[Expr, int],
    store: Callable[[Piece, Expr, Expr, Expr], Store],
) -> None:
    """Compute ``rows`` (first, number) of a piece's ``run``-th group of tiles along the channels."""
    first, height = rows
    down, row = clamped_tiles(height, piece.tile.rows)
    across, pixel = clamped_tiles(kernel.out.width, piece.tile.pixels)
    count = min(kernel.together, piece.count)
    left = count if piece.count % count == 0 else T.min(piece.count - run * count, count)
    with loop(down) as i, loop(left) as member, loop(across) as j:
        y, x, index = first + row(i), pixel(j), run * count + member
        kernel.tile(piece, index, y, x, store(piece, index, y, x))


def _accumulate(isa: InstructionSet, relu: bool, sums: Expr, old_rows: int, old_pixels: int) -> Store:
    """Add a tile's new pixels to the sums of its channels."""

    def store(row: int, pixel: int, first: int, vectors: list[Expr], shifts: list[Expr]) -> None:
        if row < old_rows or pixel < old_pixels:
            return
        for block, vector in enumerate(vectors):
            at = lanes((first + block) * isa.lanes, isa.lanes)
            value = T.max(vector, T.broadcast(T.int32(0), isa.lanes)) if relu else vector
            T.buffer_store(sums, sums[at] + value, [at])

    return store


def _disjoint(extent: int, size: int) -> list[tuple[tuple[int, int], int]]:
    """Tiles over an extent: ((start, number of tiles), how many first elements of each an earlier tile has covered)."""
    whole, rest = divmod(extent, size)
    tiles = [((0, whole), 0)] if whole else []
    return [*tiles, ((extent - size, 1), size - rest)] if rest else tiles
