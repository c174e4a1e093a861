"""Layers as operations of the profile ``vta``: published instructions only.

A tile goes through the accumulators: reset, products, maxima of the pooling, then R3 as vector operations: ADD of the
bias (with the rounding term and R7's terms), SHR, MAX and MIN. Addition and shift are monotonic in every lane, so the
pooling comes first and requantization sees pooled elements only. Bias and shift vectors lie at the end of the
accumulators. No instruction touches an accumulator twice within the depth of the pipelines: the reduction runs in the
outer loop, or in several instructions where a tile is too small for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.emit.common import Constant, Emitter, Prepared, Window, runs
from squeezeedge.targets.vta.emit.schedule import Block, Schedule
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Gemm, Load, MicroOp, Store
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part, Value
from squeezeedge.targets.vta.lower.tiling import (
    WEIGHTS_AT_ONCE,
    AddTiling,
    FlatPoolTiling,
    Limits,
    Piece,
    Tiling,
    add_tiling,
    conv_tiling,
    flat_pool_tiling,
    spans,
)

__all__ = ["PublishedEmitter", "vectors"]

PIPELINE = 8
"""Steps between two uses of an accumulator in one instruction."""

TILE_START = 300
"""Cycles of a tile beside its steps: the fill and drain of about 15 instructions."""

INT32_LOWEST = -(1 << 31)


def vectors(geometry: Geometry) -> int:
    """Accumulators that hold bias and shift vectors, before the class sums at the end of the memory."""
    return max(4, geometry.depth(Memory.ACC) // 16)


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Pieces whose weights lie on the chip together; for every block of a piece, the constant that holds it."""

    pieces: tuple[Piece, ...]
    weights: tuple[tuple[tuple[Constant, int], ...], ...]


@dataclass(frozen=True, eq=False)
class _Prepared(Prepared):
    tilings: tuple[Tiling | FlatPoolTiling | AddTiling, ...]
    chunks: tuple[tuple[_Chunk, ...], ...]


@dataclass(frozen=True)
class _Planes:
    """Accumulators of a tile: ``blocks`` planes of rows x columns from ``first`` on."""

    first: int
    blocks: int
    rows: int
    columns: int

    @property
    def plane(self) -> int:
        return self.rows * self.columns


class PublishedEmitter(Emitter[_Prepared]):
    """Emits one layer after the other; all must be prepared before, in the same order."""

    def __init__(self, geometry: Geometry, schedule: Schedule, classes: int) -> None:
        super().__init__(geometry, schedule)
        self._sums = Block(Memory.OUT, geometry.depth(Memory.OUT) - classes, classes, -1)
        self._vectors = self._sums.first - vectors(geometry)

    def prepare(self, layer: ConvLayer | AddLayer) -> _Prepared:
        """Choose a layer's tiling and request its constants.

        Raises:
            UnsupportedError: the geometry can't hold it.
        """
        geometry = self.geometry
        block, blocks = geometry.block, vectors(geometry) // 2
        if isinstance(layer, AddLayer):
            tiling = add_tiling(layer, geometry, outputs=self._vectors // 4, most_blocks=blocks // 2)
            identity = self.request(Memory.WGT, np.eye(block, dtype=np.int8), 1)
            groups = [Piece(0, *span) for span in spans(len(layer.target.origins), tiling.blocks)]
            return _Prepared(layer, (tiling,), (tuple(_Chunk((group,), (((identity, 0),),)) for group in groups),))
        limits = Limits(self._vectors // 2, blocks, geometry.depth(Memory.UOP), sums=False, start=TILE_START)
        if layer.pool is None:
            plain = conv_tiling(layer, geometry, limits)
            return _Prepared(layer, (plain,), (tuple(self._chunk(layer, chunk) for chunk in plain.chunks),))
        pooled = [flat_pool_tiling(layer, part, geometry, limits) for part in layer.parts]
        chunks = tuple(
            tuple(self._chunk(layer, [Piece(index, *span)]) for span in spans(layer.parts[index].blocks, tiling.group))
            for index, tiling in enumerate(pooled)
        )
        return _Prepared(layer, tuple(pooled), chunks)

    def emit(self, prepared: _Prepared) -> None:
        """Emit a layer."""
        layer = prepared.layer
        for index, (tiling, chunks) in enumerate(zip(prepared.tilings, prepared.chunks, strict=True)):
            if isinstance(layer, AddLayer):
                assert isinstance(tiling, AddTiling)
                self._addition(layer, tiling, chunks)
            elif isinstance(tiling, FlatPoolTiling):
                self._pooled(layer, layer.parts[index], tiling, chunks)
            else:
                assert isinstance(tiling, Tiling)
                self._plain(layer, tiling, chunks)

    # Constants --------------------------------------------------------------------------------------------------------

    def _chunk(self, layer: ConvLayer, pieces: Sequence[Piece]) -> _Chunk:
        found = []
        for piece in pieces:
            part = layer.parts[piece.part]
            step = max(1, WEIGHTS_AT_ONCE // part.taps)
            blocks: list[tuple[Constant, int]] = []
            for first in range(piece.first, piece.end, step):
                count = min(step, piece.end - first)
                constant = self.request(Memory.WGT, part.weight[first : first + count], count * part.taps)
                blocks += [(constant, index * part.taps) for index in range(count)]
            found.append(tuple(blocks))
        return _Chunk(tuple(pieces), tuple(found))

    def _release(self, chunk: _Chunk) -> None:
        constants = {constant for weights in chunk.weights for constant, _ in weights}
        self.schedule.release(*(self.need(constant) for constant in constants))

    def _load_vectors(self, *arrays: NDArray[np.generic]) -> None:
        """[n, block] each, one behind the other, to the end of the accumulators."""
        data = np.concatenate([array.astype("<i4") for array in arrays])
        dram = self.constants[Memory.ACC].add(data.tobytes())
        count = len(data)
        self.schedule.compute(
            Load(memory=Memory.ACC, sram_base=self._vectors, dram_base=dram, y_size=1, x_size=count, x_stride=count)
        )

    # Vector operations ------------------------------------------------------------------------------------------------

    def _alu(
        self,
        op: AluOp,
        planes: _Planes,
        *,
        vector: int | None = None,
        imm: int = 0,
    ) -> Alu:
        """One operation on all elements: with a vector for each block, or with an immediate."""
        source = 0 if vector is None else self._vectors + vector
        return Alu(
            uop_bgn=(at := self.micro_ops([MicroOp(dst=planes.first, src=source)])),
            uop_end=at + 1,
            iter_out=planes.blocks,
            iter_in=planes.plane,
            dst_out=planes.plane,
            dst_in=1,
            src_out=0 if vector is None else 1,
            op=op,
            use_imm=vector is None,
            imm=imm,
        )

    def _reset(self, first: int, count: int) -> Gemm:
        at = self.micro_ops([MicroOp(dst=first)])
        return Gemm(reset=True, uop_bgn=at, uop_end=at + 1, iter_out=1, iter_in=count, dst_in=1)

    def _run(self, instructions: Iterable[Gemm | Alu], out: Block, reads: Sequence[Block] = ()) -> int:
        """Add computations that work on claimed accumulators, one by one; the first waits for their last store."""
        index = -1
        for instruction in instructions:
            index = self.schedule.compute(instruction, reads, [(out.first, out.count)])
        return index

    def _requantize(self, planes: _Planes, *, low: bool, exact: bool) -> Iterator[Alu]:
        """R3 with the loaded vectors; ``exact``: the offset -128 has to come behind the shift and the ReLU."""
        yield self._alu(AluOp.ADD, planes, vector=0)
        yield self._alu(AluOp.SHR, planes, vector=planes.blocks)
        if low and exact:
            yield self._alu(AluOp.MAX, planes, imm=0)
            yield self._alu(AluOp.ADD, planes, imm=-128)
        else:
            yield self._alu(AluOp.MAX, planes, imm=-128)
        yield self._alu(AluOp.MIN, planes, imm=127)

    def _piece_vectors(self, part: Part, piece: Piece) -> bool:
        """Load a piece's bias and shift; returns whether the offset does not fit into the bias."""
        bias = part.bias[piece.first : piece.end].astype(np.int64)
        shift = part.shift[piece.first : piece.end].astype(np.int64)
        weight = part.weight[piece.first : piece.end].astype(np.int64)
        least = bias + np.minimum(weight * -128, weight * 127).sum((1, 3))
        least = least.astype(np.uint32).view(np.int32).astype(np.int64)  # true by R4, whatever wrapped in the bias
        offset = 128 << shift
        exact = bool((least - offset < INT32_LOWEST).any())
        if part.low and not exact:
            bias = (bias - offset).astype(np.uint32).view(np.int32)
        self._load_vectors(bias, shift)
        return exact

    # Products ---------------------------------------------------------------------------------------------------------

    def _products(
        self,
        window: Window,
        part: Part,
        planes: _Planes,
        tile: tuple[Block, int, int, int],
        weights: Sequence[int],
    ) -> Iterator[Gemm]:
        """Products of a tile: ``tile`` is the input, its output rows and columns, and the first output row."""
        block, rows, columns, start = tile
        pitch, height = window.columns(columns), window.rows(rows)
        stride, blocks = window.stride, len(window.source.origins)
        dense = part.kernel == (1, 1) and stride == (1, 1) and pitch == columns == planes.columns
        for ky in range(part.kernel[0]):
            for kx in range(part.kernel[1]):
                at = block.first + (start * stride[0] + ky + window.top - part.padding[0]) * pitch
                at += kx + window.left - part.padding[1]
                tap = (ky * part.kernel[1] + kx) * blocks
                uops = [
                    MicroOp(
                        planes.first + b * planes.plane + y * planes.columns, at + y * stride[0] * pitch, first + tap
                    )
                    for y in range(1 if dense else planes.rows)
                    for b, first in enumerate(weights)
                ]
                inner = planes.plane if dense else planes.columns
                together = blocks if blocks == 1 or inner * len(uops) >= PIPELINE else 1  # or they come too soon
                for index in range(0, blocks, together):
                    moved = [replace(u, src=u.src + index * height * pitch, wgt=u.wgt + index) for u in uops]
                    place = self.micro_ops(moved)
                    yield Gemm(
                        uop_bgn=place,
                        uop_end=place + len(uops),
                        iter_out=together,
                        iter_in=inner,
                        dst_in=1,
                        src_out=height * pitch if together > 1 else 0,
                        src_in=stride[1],
                        wgt_out=1,
                    )

    def _weight_bases(self, weights: Sequence[tuple[Constant, int]]) -> tuple[list[int], list[Block]]:
        blocks = [self.need(constant) for constant, _ in weights]
        bases = [block.first + offset for block, (_, offset) in zip(blocks, weights, strict=True)]
        return bases, list(dict.fromkeys(blocks))

    # Layers -----------------------------------------------------------------------------------------------------------

    def _plain(self, layer: ConvLayer, tiling: Tiling, chunks: Sequence[_Chunk]) -> None:
        window, schedule = Window.of(layer, layer.parts), self.schedule
        tiles = [
            (row, column) for column in spans(layer.width, tiling.columns) for row in spans(layer.height, tiling.rows)
        ]
        if layer.head:
            self._run([self._reset(self._sums.first, self._sums.count)], self._sums)
        tile: Block | None = None
        for chunk in chunks:
            for (top, bottom), (left, right) in tiles:
                rows, columns = bottom - top, right - left
                if tile is None:
                    loads = window.loads(top, rows, left, columns)
                    tile = self.input_tile(window.elements(rows, columns), loads)
                for piece, weights in zip(chunk.pieces, chunk.weights, strict=True):
                    part = layer.parts[piece.part]
                    exact = self._piece_vectors(part, piece)
                    bases, blocks = self._weight_bases(weights)
                    for start, end in spans(rows, tiling.sub_rows):
                        planes = self._planes(len(weights), end - start, columns)
                        out = schedule.claim(Memory.OUT, planes.blocks * planes.plane)
                        planes = replace(planes, first=out.first)
                        products = self._products(window, part, planes, (tile, rows, columns, start), bases)
                        self._run([self._reset(out.first, out.count)], out)
                        self._run(products, out, [tile, *blocks])
                        if layer.head:
                            self._run(self._total(planes, piece, relu=layer.relu), out)
                        else:
                            assert part.target is not None
                            index = self._run(self._requantize(planes, low=part.low, exact=exact), out)
                            self._store(part.target, piece.first, planes, (top + start, left), index)
                        schedule.release(out)
                if len(tiles) > 1 or chunk is chunks[-1]:
                    schedule.release(tile)
                    tile = None
            self._release(chunk)

    def _planes(self, blocks: int, rows: int, columns: int) -> _Planes:
        return _Planes(0, blocks, rows, columns)

    def _total(self, planes: _Planes, piece: Piece, *, relu: bool) -> Iterator[Alu]:
        """Add a tile of the head to the class sums: halves onto halves, so no accumulator waits for itself (R6)."""
        yield self._alu(AluOp.ADD, planes, vector=0)
        if relu:
            yield self._alu(AluOp.MAX, planes, imm=0)
        count = planes.plane
        while count > 1:
            half = (count + 1) // 2
            yield self._add(planes.first, planes.first + half, planes.plane, planes.plane, planes.blocks, count - half)
            count = half
        yield self._add(self._sums.first + piece.first, planes.first, 1, planes.plane, planes.blocks, 1)

    def _add(self, dst: int, src: int, dst_out: int, src_out: int, outer: int, inner: int) -> Alu:
        at = self.micro_ops([MicroOp(dst=dst, src=src)])
        return Alu(
            uop_bgn=at,
            uop_end=at + 1,
            iter_out=outer,
            iter_in=inner,
            dst_out=dst_out,
            dst_in=1,
            src_out=src_out,
            src_in=1,
            op=AluOp.ADD,
            use_imm=False,
        )

    def _pooled(self, layer: ConvLayer, part: Part, tiling: FlatPoolTiling, chunks: Sequence[_Chunk]) -> None:
        pool, target, window, schedule = layer.pool, part.target, Window.of(layer, [part]), self.schedule
        assert pool is not None and target is not None
        for chunk in chunks:
            piece, weights = chunk.pieces[0], chunk.weights[0]
            exact = self._piece_vectors(part, piece)
            for px in spans(pool.out[1], tiling.columns):
                for py in spans(pool.out[0], tiling.rows):
                    (top, bottom), (left, right) = (
                        (max(a * s - p, 0), min((b - 1) * s + k - p, size))
                        for (a, b), s, k, p, size in zip(
                            (py, px), pool.stride, pool.kernel, pool.padding, (layer.height, layer.width), strict=True
                        )
                    )
                    rows, columns = bottom - top, right - left
                    tile = self.input_tile(window.elements(rows, columns), window.loads(top, rows, left, columns))
                    bases, blocks = self._weight_bases(weights)
                    planes = self._planes(len(weights), rows, columns)
                    pooled = self._planes(len(weights), py[1] - py[0], px[1] - px[0])
                    size = planes.blocks * planes.plane
                    out = schedule.claim(Memory.OUT, size + pooled.blocks * pooled.plane)
                    planes, pooled = replace(planes, first=out.first), replace(pooled, first=out.first + size)
                    products = self._products(window, part, planes, (tile, rows, columns, 0), bases)
                    self._run([self._reset(out.first, out.count)], out)
                    self._run(products, out, [tile, *blocks])
                    maxima = self._maxima(layer, planes, pooled, (py[0], px[0]), (top, left))
                    steps = self._requantize(pooled, low=part.low, exact=exact)
                    index = self._run(chain(maxima, steps), out)
                    self._store(target, piece.first, pooled, (py[0], px[0]), index)
                    schedule.release(tile, out)
            self._release(chunk)

    def _maxima(
        self, layer: ConvLayer, planes: _Planes, pooled: _Planes, first: tuple[int, int], origin: tuple[int, int]
    ) -> Iterator[Alu]:
        """Maxima of the windows' valid accumulators; the pooled planes are 0 at first and become the least int32."""
        pool = layer.pool
        assert pool is not None
        yield self._alu(AluOp.MIN, pooled, imm=-(1 << 15))
        yield self._alu(AluOp.SHR, pooled, imm=-16)
        for ky in range(pool.kernel[0]):
            for kx in range(pool.kernel[1]):
                # position of the tap of pooled output (0, 0) in the tile, and the outputs for which it is valid
                at, ranges = [], []
                for axis, tap in enumerate((ky, kx)):
                    position = first[axis] * pool.stride[axis] - pool.padding[axis] + tap - origin[axis]
                    size, count = (planes.rows, planes.columns)[axis], (pooled.rows, pooled.columns)[axis]
                    start = max(-(position // pool.stride[axis]), 0) if position < 0 else 0
                    end = min((size - 1 - position) // pool.stride[axis] + 1, count)
                    at.append(position + start * pool.stride[axis])
                    ranges.append((start, end))
                (y0, y1), (x0, x1) = ranges
                if y1 <= y0 or x1 <= x0:
                    continue
                uops = [
                    MicroOp(
                        pooled.first + b * pooled.plane + y0 * pooled.columns + x0,
                        planes.first + b * planes.plane + at[0] * planes.columns + at[1],
                    )
                    for b in range(planes.blocks)
                ]
                place = self.micro_ops(uops)
                yield Alu(
                    uop_bgn=place,
                    uop_end=place + len(uops),
                    iter_out=y1 - y0,
                    iter_in=x1 - x0,
                    dst_out=pooled.columns,
                    dst_in=1,
                    src_out=pool.stride[0] * planes.columns if y1 - y0 > 1 else 0,
                    src_in=pool.stride[1] if x1 - x0 > 1 else 0,
                    op=AluOp.MAX,
                    use_imm=False,
                )

    def _store(self, target: Value, block: int, planes: _Planes, at: tuple[int, int], after: int) -> None:
        origins = [origin + at[0] * target.pitch + at[1] for origin in target.origins[block : block + planes.blocks]]
        for run in runs(origins, target.pitch, planes.rows, planes.columns, planes.first):
            self.schedule.store(run.store(run.offset), run.offset, run.rows * run.size, after)

    def _addition(self, layer: AddLayer, tiling: AddTiling, chunks: Sequence[_Chunk]) -> None:
        schedule, target = self.schedule, layer.target
        for chunk in chunks:
            piece = chunk.pieces[0]
            count = piece.end - piece.first
            bases, blocks = self._weight_bases(chunk.weights[0])
            bias, shift = layer.bias[piece.first : piece.end], layer.shift[piece.first : piece.end]
            self._load_vectors(bias[:, 0], shift[:, 0], bias[:, 1], shift[:, 1])
            for left, right in spans(target.width, tiling.columns):
                for top, bottom in spans(target.height, tiling.rows):
                    planes = [self._planes(count, bottom - top, right - left) for _ in layer.operands]
                    size = count * planes[0].plane
                    tiles = [
                        self.plane_tile(operand, (piece.first, piece.end), (top, bottom - top), (left, right - left))
                        for operand in layer.operands
                    ]
                    out = schedule.claim(Memory.OUT, 2 * size)
                    planes = [replace(p, first=out.first + i * size) for i, p in enumerate(planes)]
                    self._run([self._reset(out.first, 2 * size)], out)
                    for tile, p in zip(tiles, planes, strict=True):
                        at = self.micro_ops([MicroOp(p.first, tile.first, bases[0])])
                        copy = Gemm(uop_bgn=at, uop_end=at + 1, iter_out=1, iter_in=size, dst_in=1, src_in=1)
                        self._run([copy], out, [tile, *blocks])
                    index = self._run(self._added(planes, low=layer.low), out)
                    self._store(target, piece.first, planes[0], (top, left), index)
                    schedule.release(*tiles, out)
        self._release(chunks[0])

    def _added(self, planes: Sequence[_Planes], *, low: bool) -> Iterator[Alu]:
        """R5 on both operands' accumulators, with the loaded vectors; the result replaces the first."""
        first, second = planes
        for index, operand in enumerate(planes):
            yield self._alu(AluOp.ADD, operand, vector=2 * index * operand.blocks)
            yield self._alu(AluOp.SHR, operand, vector=(2 * index + 1) * operand.blocks)
        yield self._add(first.first, second.first, 0, 0, 1, first.blocks * first.plane)
        if low:
            yield self._alu(AluOp.ADD, first, imm=-128)
        yield self._alu(AluOp.MAX, first, imm=-128)
        yield self._alu(AluOp.MIN, first, imm=127)

    def sums(self, target: int) -> None:
        """Store the class sums byte by byte: four stores around shifts by 8; ``target`` is their DRAM element."""
        sums = self._sums
        planes = _Planes(sums.first, 1, 1, sums.count)
        index = self._run([self._alu(AluOp.ADD, planes, imm=0)], sums)  # the output memory mirrors it
        for byte in range(4):
            if byte:
                index = self._run([self._alu(AluOp.SHR, planes, imm=8)], sums)
            store = Store(
                memory=Memory.OUT,
                sram_base=sums.first,
                dram_base=target + byte * sums.count,
                y_size=1,
                x_size=sums.count,
                x_stride=sums.count,
            )
            self.schedule.store(store, sums.first, sums.count, index)
