"""Layers in published instructions.

A tile goes through the accumulators: reset, products, maxima of the pooling, then R3 as vector operations
(:mod:`.accumulators`). Addition and shift are monotonic in every lane, so the pooling comes first and requantization
sees pooled elements only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from squeezeedge.graph import MaxPool
from squeezeedge.targets.vta.emit.accumulators import AccumulatorEmitter, Planes, vectors
from squeezeedge.targets.vta.emit.common import Constant, Prepared
from squeezeedge.targets.vta.emit.schedule import Block
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import AluOp, Gemm, Store
from squeezeedge.targets.vta.lower.cost import GEMM_START
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part
from squeezeedge.targets.vta.lower.pool_tiling import FlatPoolTiling, flat_pool_tiling
from squeezeedge.targets.vta.lower.tensors import Value
from squeezeedge.targets.vta.lower.tiling import (
    WEIGHTS_AT_ONCE,
    AddTiling,
    Limits,
    Piece,
    Tiling,
    add_tiling,
    chunk_inputs,
    conv_tiling,
    spans,
)
from squeezeedge.targets.vta.lower.window import Window, runs

__all__ = ["PublishedEmitter"]

TILE_START = 300
"""Cycles of a tile beside its steps: the fill and drain of about 15 instructions."""

VECTOR_START = 100
"""The part of these that is not the products'."""


def _start(part: Part, piece: Piece) -> int:
    """Cycles of a tile beside its steps; each position of a kernel is an instruction of its own."""
    return max(TILE_START, VECTOR_START + part.kernel[0] * part.kernel[1] * GEMM_START)


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Pieces whose weights lie on the chip together; for every block of a piece, the constant that holds it."""

    pieces: tuple[Piece, ...]
    weights: tuple[tuple[tuple[Constant, int], ...], ...]


class PublishedEmitter(AccumulatorEmitter):
    """Emits one layer after the other; all must be prepared before, in the same order."""

    def convolution(self, layer: ConvLayer) -> Prepared:
        """Choose the tiling of convolutions side by side and request their constants.

        Raises:
            UnsupportedError: the geometry can't hold them.
        """
        blocks = vectors(self.geometry) // 2
        limits = Limits(self._vectors // 2, blocks, self.geometry.depth(Memory.UOP), sums=False, start=_start)
        if layer.pool is not None:
            return self._with_pooling(layer, layer.pool, limits)
        tiling = conv_tiling(layer, self.geometry, limits)
        chunks = [self._chunk(layer, chunk) for chunk in tiling.chunks]
        return Prepared(layer, (tiling,), partial(self._plain, layer, tiling, chunks))

    def _with_pooling(self, layer: ConvLayer, pool: MaxPool, limits: Limits) -> Prepared:
        tilings = [flat_pool_tiling(layer, part, self.geometry, limits) for part in layer.parts]
        chunks = [
            [self._chunk(layer, [Piece(index, *span)]) for span in spans(layer.parts[index].blocks, tiling.group)]
            for index, tiling in enumerate(tilings)
        ]

        def emit() -> None:
            for part, tiling, own in zip(layer.parts, tilings, chunks, strict=True):
                self._pooled(layer, pool, part, tiling, own)

        return Prepared(layer, tuple(tilings), emit)

    def addition(self, layer: AddLayer) -> Prepared:
        """Choose the tiling of an addition and request the identity that copies its operands."""
        outputs, blocks = self._vectors // 4, vectors(self.geometry) // 4
        tiling = add_tiling(layer, self.geometry, outputs=outputs, most_blocks=blocks)
        identity = self.request(Memory.WGT, np.eye(self.geometry.block, dtype=np.int8), 1)
        groups = [Piece(0, *span) for span in spans(len(layer.target.origins), tiling.blocks)]
        return Prepared(layer, (tiling,), partial(self._addition, layer, tiling, groups, identity))

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

    # Products ---------------------------------------------------------------------------------------------------------

    def _weight_bases(self, weights: Sequence[tuple[Constant, int]]) -> tuple[list[int], list[Block]]:
        blocks = [self.need(constant) for constant, _ in weights]
        bases = [block.first + offset for block, (_, offset) in zip(blocks, weights, strict=True)]
        return bases, list(dict.fromkeys(blocks))

    # Layers -----------------------------------------------------------------------------------------------------------

    def _plain(self, layer: ConvLayer, tiling: Tiling, chunks: Sequence[_Chunk]) -> None:
        schedule = self.schedule
        tiles = [
            (row, column) for column in spans(layer.width, tiling.columns) for row in spans(layer.height, tiling.rows)
        ]
        if layer.head:
            self._run([self._reset(self._sums.first, self._sums.count)], self._sums)
        tile: Block | None = None
        for chunk, (inputs, last) in zip(chunks, chunk_inputs(layer.parts, tiling.chunks), strict=True):
            window = Window.of(layer, layer.parts).only(*inputs)
            for (top, bottom), (left, right) in tiles:
                rows, columns = bottom - top, right - left
                if tile is None:
                    loads = window.loads(top, rows, left, columns)
                    tile = self.input_tile(window.elements(rows, columns), loads)
                for piece, weights in zip(chunk.pieces, chunk.weights, strict=True):
                    part = layer.parts[piece.part]
                    exact = self._piece_vectors(part, piece)
                    bases, blocks = self._weight_bases(weights)
                    firsts = [first - inputs[0] for first in part.first[piece.first : piece.end]]
                    for start, end in spans(rows, tiling.sub_rows):
                        planes = Planes(0, len(weights), end - start, columns)
                        out = schedule.claim(Memory.OUT, planes.blocks * planes.plane)
                        planes = replace(planes, first=out.first)
                        at = (tile, rows, columns, start)
                        products = self._products(window, part, planes, at, bases, firsts)
                        self._run([self._reset(out.first, out.count)], out)
                        self._run(products, out, [tile, *blocks])
                        if layer.head:
                            self._run(self._total(planes, piece, relu=layer.relu), out)
                        else:
                            assert part.target is not None
                            index = self._run(self._requantize(planes, low=part.low, exact=exact), out)
                            self._store(part.target, piece.first, planes, (top + start, left), index)
                        schedule.release(out)
                if len(tiles) > 1 or last:
                    schedule.release(tile)
                    tile = None
            self._release(chunk)

    def _pooled(
        self, layer: ConvLayer, pool: MaxPool, part: Part, tiling: FlatPoolTiling, chunks: Sequence[_Chunk]
    ) -> None:
        target, schedule = part.target, self.schedule
        assert target is not None
        for chunk in chunks:
            piece, weights = chunk.pieces[0], chunk.weights[0]
            inputs = part.inputs(piece.first, piece.end)
            window = Window.of(layer, [part]).only(*inputs)
            firsts = [first - inputs[0] for first in part.first[piece.first : piece.end]]
            exact = self._piece_vectors(part, piece)
            for px in spans(layer.out.width, tiling.columns):
                for py in spans(layer.out.height, tiling.rows):
                    (top, bottom), (left, right) = (
                        (max(a * s - p, 0), min((b - 1) * s + k - p, size))
                        for (a, b), s, k, p, size in zip(
                            (py, px),
                            pool.stride,
                            pool.kernel,
                            pool.padding[:2],
                            (layer.height, layer.width),
                            strict=True,
                        )
                    )
                    rows, columns = bottom - top, right - left
                    tile = self.input_tile(window.elements(rows, columns), window.loads(top, rows, left, columns))
                    bases, blocks = self._weight_bases(weights)
                    planes = Planes(0, len(weights), rows, columns)
                    pooled = Planes(0, len(weights), py[1] - py[0], px[1] - px[0])
                    size = planes.blocks * planes.plane
                    out = schedule.claim(Memory.OUT, size + pooled.blocks * pooled.plane)
                    planes, pooled = replace(planes, first=out.first), replace(pooled, first=out.first + size)
                    products = self._products(window, part, planes, (tile, rows, columns, 0), bases, firsts)
                    self._run([self._reset(out.first, out.count)], out)
                    self._run(products, out, [tile, *blocks])
                    maxima = self._maxima(pool, planes, pooled, (py[0], px[0]), (top, left))
                    steps = self._requantize(pooled, low=part.low, exact=exact)
                    index = self._run(chain(maxima, steps), out)
                    self._store(target, piece.first, pooled, (py[0], px[0]), index)
                    schedule.release(tile, out)
            self._release(chunk)

    def _store(self, target: Value, block: int, planes: Planes, at: tuple[int, int], after: int) -> None:
        origins = [origin + at[0] * target.pitch + at[1] for origin in target.origins[block : block + planes.blocks]]
        for run in runs(origins, target.pitch, planes.rows, planes.columns, planes.first):
            self.schedule.store(run.store(run.offset), run.offset, run.rows * run.size, after)

    def _addition(self, layer: AddLayer, tiling: AddTiling, groups: Sequence[Piece], identity: Constant) -> None:
        schedule, target = self.schedule, layer.target
        for piece in groups:
            count = piece.end - piece.first
            weight = self.need(identity)
            bias, shift = layer.bias[piece.first : piece.end], layer.shift[piece.first : piece.end]
            self._load_vectors(bias[:, 0], shift[:, 0], bias[:, 1], shift[:, 1])
            for left, right in spans(target.width, tiling.columns):
                for top, bottom in spans(target.height, tiling.rows):
                    planes = [Planes(0, count, bottom - top, right - left) for _ in layer.operands]
                    size = count * planes[0].plane
                    tiles = [
                        self.plane_tile(operand, (piece.first, piece.end), (top, bottom - top), (left, right - left))
                        for operand in layer.operands
                    ]
                    out = schedule.claim(Memory.OUT, 2 * size)
                    planes = [replace(p, first=out.first + i * size) for i, p in enumerate(planes)]
                    self._run([self._reset(out.first, 2 * size)], out)
                    for tile, p in zip(tiles, planes, strict=True):
                        at = self.micro_ops([MicroOp(p.first, tile.first, weight.first)])
                        copy = Gemm(uop_bgn=at, uop_end=at + 1, iter_out=1, iter_in=size, dst_in=1, src_in=1)
                        self._run([copy], out, [tile, weight])
                    index = self._run(self._added(planes, low=layer.low), out)
                    self._store(target, piece.first, planes[0], (top, left), index)
                    schedule.release(*tiles, out)
        schedule.release(self.need(identity))

    def sums(self, arena: int, blocks: int) -> None:
        """Store the class sums byte by byte: four stores around shifts by 8."""
        sums = self._sums
        planes = Planes(sums.first, 1, 1, sums.count)
        index = self._run([self._alu(AluOp.ADD, planes, imm=0)], sums)  # the output memory mirrors it
        for byte in range(4):
            if byte:
                index = self._run([self._alu(AluOp.SHR, planes, imm=8)], sums)
            store = Store(
                memory=Memory.OUT,
                sram_base=sums.first,
                dram_base=arena + byte * sums.count,
                y_size=1,
                x_size=sums.count,
                x_stride=sums.count,
            )
            self.schedule.store(store, sums.first, sums.count, index)
