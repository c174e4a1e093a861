"""Layers in extended instructions: bias, reduction and requantization are one instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import MaxPool
from squeezeedge.targets.vta.emit.common import Constant, Emitter, Prepared
from squeezeedge.targets.vta.emit.schedule import Block
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Store
from squeezeedge.targets.vta.lower.cost import GEMM_START
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Part
from squeezeedge.targets.vta.lower.pool_tiling import PoolTiling, pool_tiling
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

__all__ = ["ExtendedEmitter"]

MOST_STRIDE = 7
"""Of the columns of a convolution, and of everything in a pooling."""

UNLIMITED = 1 << 30


@dataclass(frozen=True, eq=False)
class _Weights:
    """What some output blocks of a convolution need: weights in several loads that lie one after the other."""

    constants: tuple[Constant, ...]


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Pieces whose weights lie on the chip together, and the parameters of all of them."""

    pieces: tuple[Piece, ...]
    parameters: Constant
    weights: tuple[_Weights, ...]


def _start(part: Part, piece: Piece) -> int:
    """Cycles of a tile beside its steps: blocks that read the same are one instruction."""
    return GEMM_START * sum(1 for _ in part.alike(piece.first, piece.end))


class ExtendedEmitter(Emitter):
    """Emits one layer after the other; all must be prepared before, in the same order."""

    def convolution(self, layer: ConvLayer) -> Prepared:
        """Choose the tiling of convolutions side by side and request their constants.

        Raises:
            UnsupportedError: the geometry or the instructions can't hold them.
        """
        if layer.stride[1] > MOST_STRIDE:
            raise UnsupportedError(
                f"{layer.name}: column stride {layer.stride[1]}, at most {MOST_STRIDE} is supported; "
                "use `instructions` published"
            )
        if layer.pool is not None:
            return self._with_pooling(layer, layer.pool)
        limits = Limits(
            self.geometry.depth(Memory.OUT) // 2,
            self.geometry.par_entries // 2,
            UNLIMITED,
            sums=True,
            start=_start,
        )
        tiling = conv_tiling(layer, self.geometry, limits)
        chunks = [self._chunk(layer, chunk) for chunk in tiling.chunks]
        return Prepared(layer, (tiling,), partial(self._plain, layer, tiling, chunks))

    def _with_pooling(self, layer: ConvLayer, pool: MaxPool) -> Prepared:
        if max(*pool.kernel, *pool.stride, *pool.padding[:2]) > MOST_STRIDE:
            raise UnsupportedError(
                f"{layer.name}: pooling kernels, strides and padding up to {MOST_STRIDE} are supported; "
                "use `instructions` published"
            )
        tilings = [pool_tiling(layer, part, self.geometry) for part in layer.parts]
        chunks = [
            [self._chunk(layer, [Piece(index, *span)]) for span in spans(layer.parts[index].blocks, tiling.group)]
            for index, tiling in enumerate(tilings)
        ]

        def emit() -> None:
            for part, tiling, own in zip(layer.parts, tilings, chunks, strict=True):
                self._pooled(layer, pool, part, tiling, own)

        return Prepared(layer, tuple(tilings), emit)

    def addition(self, layer: AddLayer) -> Prepared:
        """Choose the tiling of an addition and request its parameters."""
        outputs, blocks = self.geometry.depth(Memory.OUT) // 2, self.geometry.par_entries // 4
        tiling = add_tiling(layer, self.geometry, outputs=outputs, most_blocks=blocks)
        chunks = []
        for first, end in spans(len(layer.target.origins), tiling.blocks):
            rows = (-1, self.geometry.block)
            parameters = self._parameters(layer.bias[first:end].reshape(rows), layer.shift[first:end].reshape(rows))
            chunks.append(_Chunk((Piece(0, first, end),), parameters, ()))
        return Prepared(layer, (tiling,), partial(self._addition, layer, tiling, chunks))

    def _chunk(self, layer: ConvLayer, pieces: Sequence[Piece]) -> _Chunk:
        bias = [layer.parts[piece.part].bias[piece.first : piece.end] for piece in pieces]
        shift = [layer.parts[piece.part].shift[piece.first : piece.end] for piece in pieces]
        parameters = self._parameters(np.concatenate(bias), np.concatenate(shift))
        return _Chunk(tuple(pieces), parameters, tuple(self._weights(layer.parts[p.part], p) for p in pieces))

    def _parameters(self, bias: NDArray[np.int32], shift: NDArray[np.uint8]) -> Constant:
        """Request [n, block] biases and shifts."""
        data = np.concatenate([np.ascontiguousarray(bias.astype("<i4")).view(np.uint8), shift], 1)
        return self.request(Memory.PAR, data, len(bias))

    def _weights(self, part: Part, piece: Piece) -> _Weights:
        step = max(1, WEIGHTS_AT_ONCE // part.taps)
        return _Weights(
            tuple(
                self.request(
                    Memory.WGT,
                    part.weight[first : min(first + step, piece.end)],
                    (min(first + step, piece.end) - first) * part.taps,
                )
                for first in range(piece.first, piece.end, step)
            )
        )

    def _loaded(self, weights: _Weights) -> list[Block]:
        return [self.need(constant) for constant in weights.constants]

    def _taps(self, window: Window, part: Part, rows: int, columns: int) -> int:
        return self.micro_ops(MicroOp(src=int(at)) for at in window.offsets(part, rows, columns))

    # Without pooling --------------------------------------------------------------------------------------------------

    def _plain(self, layer: ConvLayer, tiling: Tiling, chunks: Sequence[_Chunk]) -> None:
        tiles = [
            (row, column) for column in spans(layer.width, tiling.columns) for row in spans(layer.height, tiling.rows)
        ]
        tile: Block | None = None
        for chunk, (inputs, last) in zip(chunks, chunk_inputs(layer.parts, tiling.chunks), strict=True):
            window = Window.of(layer, layer.parts).only(*inputs)
            parameters = self.need(chunk.parameters)
            for number, ((top, bottom), (left, right)) in enumerate(tiles):
                rows, columns = bottom - top, right - left
                if tile is None:
                    count = window.elements(rows, columns)
                    tile = self.input_tile(count, window.loads(top, rows, left, columns))
                for start, end in spans(rows, tiling.sub_rows):
                    parameter = parameters.first
                    for piece, weights in zip(chunk.pieces, chunk.weights, strict=True):
                        reads = [tile, parameters, *self._loaded(weights)]
                        vertical = (top, rows, start, end)
                        at = (window, inputs[0])
                        self._tile(layer, at, piece, vertical, (left, columns), reads, parameter, number > 0)
                        parameter += piece.end - piece.first
                if len(tiles) > 1 or last:
                    self.schedule.release(tile)
                    tile = None
            self.schedule.release(parameters, *(block for weights in chunk.weights for block in self._loaded(weights)))

    def _tile(
        self,
        layer: ConvLayer,
        source: tuple[Window, int],
        piece: Piece,
        vertical: tuple[int, int, int, int],
        horizontal: tuple[int, int],
        reads: Sequence[Block],
        parameter: int,
        accumulate: bool,
    ) -> None:
        """Output rows start..end of a piece of a loaded tile: one matrix instruction for blocks that read the same.

        ``source``: the window of the loaded blocks, and the first of these.
        """
        (top, rows, start, end), (left, columns), (window, low) = vertical, horizontal, source
        part, count, depth = layer.parts[piece.part], (end - start) * columns, self.geometry.depth
        pitch, plane = window.columns(columns), window.rows(rows) * window.columns(columns)
        tile, _, weights = reads[:3]
        out = None if layer.head else self.schedule.claim(Memory.OUT, (piece.end - piece.first) * count)
        index = -1
        for first, stop in part.alike(piece.first, piece.end):
            before = first - piece.first
            at = tile.first + (part.first[first] - low) * plane + start * layer.stride[0] * pitch
            instruction = XGemm(
                uop_bgn=self._taps(window, part, rows, columns),
                uops=part.taps,
                blocks=stop - first,
                rows=end - start,
                cols=columns,
                epilogue=Epilogue.OUT if out else Epilogue.SUM,
                accumulate=layer.head and (accumulate or start > 0),
                low=part.low,
                relu=layer.head and layer.relu,
                src_base=at % depth(Memory.INP),
                dst_base=(out.first + before * count) % depth(Memory.OUT) if out else first,
                wgt_base=(weights.first + before * part.taps) % depth(Memory.WGT),
                src_row=layer.stride[0] * pitch % depth(Memory.INP),
                dst_block=count if out else 1,
                src_col=layer.stride[1],
                par=(parameter + before) % self.geometry.par_entries,
            )
            writes = [(out.first + before * count, (stop - first) * count)] if out else []
            index = self.schedule.compute(instruction, reads, writes)
        if out is None:
            return
        assert part.target is not None
        self._store(part.target, (piece.first, piece.end), (top + start, end - start), (left, columns), out, index)
        self.schedule.release(out)

    def _store(
        self,
        target: Value,
        blocks: tuple[int, int],
        vertical: tuple[int, int],
        horizontal: tuple[int, int],
        out: Block,
        after: int,
    ) -> None:
        """Store a tile that lies densely in the output memory."""
        (row, rows), (column, columns) = vertical, horizontal
        origins = [origin + row * target.pitch + column for origin in target.origins[slice(*blocks)]]
        for run in runs(origins, target.pitch, rows, columns, out.first):
            store = run.store(run.offset % self.geometry.depth(Memory.OUT))
            self.schedule.store(store, run.offset, run.rows * run.size, after)

    # With pooling -----------------------------------------------------------------------------------------------------

    def _pooled(
        self, layer: ConvLayer, pool: MaxPool, part: Part, tiling: PoolTiling, chunks: Sequence[_Chunk]
    ) -> None:
        for chunk in chunks:
            piece = chunk.pieces[0]
            reads = [self.need(chunk.parameters), *self._loaded(chunk.weights[0])]
            for pooled in spans(layer.out.width, tiling.columns):
                self._strip(layer, pool, part, (piece.first, piece.end), pooled, (tiling.rows, tiling.steps), reads)
            self.schedule.release(*reads)

    def _strip(
        self,
        layer: ConvLayer,
        pool: MaxPool,
        part: Part,
        group: tuple[int, int],
        pooled: tuple[int, int],
        steps: tuple[int, int],
        reads: Sequence[Block],
    ) -> None:
        """Pooled columns of some output blocks, from the top to the bottom."""
        schedule, target = self.schedule, part.target
        assert target is not None
        (first, end), (left, right), (low_input, end_input) = group, pooled, part.inputs(*group)
        window, depth = Window.of(layer, [part]).only(low_input, end_input), self.geometry.depth
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w) = pool.kernel, pool.stride, pool.padding[:2]
        column = max(left * stride_w - pad_w, 0)
        columns = min((right - 1) * stride_w + kernel_w - pad_w, layer.width) - column
        ring = schedule.claim(Memory.OUT, self.geometry.depth(Memory.OUT))
        lane = ring.count // (end - first)
        done = 0
        for start in range(0, layer.out.height, steps[0] * steps[1]):
            rows = [
                (y, min(y + steps[0], layer.out.height))
                for y in range(start, min(start + steps[0] * steps[1], layer.out.height), steps[0])
            ]
            needed = [
                (max(y * stride_h - pad_h, 0), min((y_end - 1) * stride_h + kernel_h - pad_h, layer.height))
                for y, y_end in rows
            ]
            top, bottom = max(done, needed[0][0]), max(done, needed[-1][1])
            tile = None
            if bottom > top:
                loads = window.loads(top, bottom - top, column, columns)
                tile = self.input_tile(window.elements(bottom - top, columns), loads)
                taps = self._taps(window, part, bottom - top, columns)
            index = len(schedule) - 1
            for (y, y_end), (low, high) in zip(rows, needed, strict=True):
                fresh = max(done, low)
                if high > fresh and tile is not None:
                    writes = [
                        ((ring.first + b * lane + fresh * columns) % ring.count, (high - fresh) * columns)
                        for b in range(end - first)
                    ]
                    pitch, plane = window.columns(columns), window.elements(bottom - top, columns)
                    plane //= end_input - low_input
                    for begin, stop in part.alike(first, end):
                        at = tile.first + (part.first[begin] - low_input) * plane
                        instruction = XGemm(
                            uop_bgn=taps,
                            uops=part.taps,
                            blocks=stop - begin,
                            rows=high - fresh,
                            cols=columns,
                            epilogue=Epilogue.OUT,
                            low=part.low,
                            src_base=(at + (fresh - top) * layer.stride[0] * pitch) % depth(Memory.INP),
                            dst_base=writes[begin - first][0],
                            wgt_base=(reads[1].first + (begin - first) * part.taps) % depth(Memory.WGT),
                            src_row=layer.stride[0] * pitch % depth(Memory.INP),
                            dst_block=lane % ring.count,
                            src_col=layer.stride[1],
                            par=(reads[0].first + begin - first) % self.geometry.par_entries,
                        )
                        index = schedule.compute(instruction, [tile, *reads], writes[begin - first : stop - first])
                    done = high
                for b in range(end - first):
                    at = (ring.first + b * lane + low * columns) % ring.count
                    store = XPool(
                        sram_base=at,
                        dram_base=target.origins[first + b] + y * target.pitch + left,
                        kernel_h=kernel_h,
                        kernel_w=kernel_w,
                        stride_h=stride_h,
                        stride_w=stride_w,
                        y_size=y_end - y,
                        x_size=right - left,
                        x_stride=target.pitch,
                        rows=high - low,
                        cols=columns,
                        pad_top=max(pad_h - y * stride_h, 0),
                        pad_left=max(pad_w - left * stride_w, 0),
                    )
                    schedule.store(store, at, (high - low) * columns, index)
            if tile is not None:
                schedule.release(tile)
        schedule.release(ring)
        schedule.skip(Memory.OUT, ring.first + done * columns)  # behind what is still to be stored

    # Others -----------------------------------------------------------------------------------------------------------

    def _addition(self, layer: AddLayer, tiling: AddTiling, chunks: Sequence[_Chunk]) -> None:
        schedule, target = self.schedule, layer.target
        for chunk in chunks:
            first, end = chunk.pieces[0].first, chunk.pieces[0].end
            parameters = self.need(chunk.parameters)
            for left, right in spans(target.width, tiling.columns):
                for top, bottom in spans(target.height, tiling.rows):
                    tiles = [
                        self.plane_tile(operand, (first, end), (top, bottom - top), (left, right - left))
                        for operand in layer.operands
                    ]
                    count = (bottom - top) * (right - left)
                    out = schedule.claim(Memory.OUT, (end - first) * count)
                    instruction = XAdd(
                        blocks=end - first,
                        count=count,
                        par=parameters.first,
                        low=layer.low,
                        a_base=tiles[0].first,
                        b_base=tiles[1].first,
                        dst_base=out.first,
                    )
                    index = schedule.compute(instruction, [*tiles, parameters], [(out.first, out.count)])
                    self._store(target, (first, end), (top, bottom - top), (left, right - left), out, index)
                    schedule.release(*tiles, out)
            schedule.release(parameters)

    def sums(self, arena: int, blocks: int) -> None:
        """Store the class sums as int32: they begin at the base register of the accumulators."""
        store = Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=blocks, x_stride=blocks)
        self.schedule.compute(store)
