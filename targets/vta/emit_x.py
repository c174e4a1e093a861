"""Layers as operations of the profile ``vta-x``: bias, reduction and requantization are one instruction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.emit import Emitter, Run, Window, runs
from squeezeedge.targets.vta.extension import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.geometry import Memory
from squeezeedge.targets.vta.isa import Load, MicroOp, Store
from squeezeedge.targets.vta.layers import AddLayer, ConvLayer, Part, Value
from squeezeedge.targets.vta.schedule import Block
from squeezeedge.targets.vta.tiling import Piece, add_tiling, conv_tiling, pool_tiling, spans

__all__ = ["ExtensionEmitter"]

MOST_STRIDE = 7
"""Of the columns of a convolution, and of everything in a pooling."""


class ExtensionEmitter(Emitter):
    """Emits one layer after the other."""

    def convolution(self, layer: ConvLayer) -> str:
        """A convolution layer; returns its tiling for people.

        Raises:
            UnsupportedError: the geometry can't hold it.
        """
        if layer.stride[1] > MOST_STRIDE:
            raise UnsupportedError(f"{layer.name}: column stride {layer.stride[1]}, at most {MOST_STRIDE} is supported")
        if layer.pool is None:
            return self._plain(layer)
        if max(*layer.pool.kernel, *layer.pool.stride, *layer.pool.padding) > MOST_STRIDE:
            raise UnsupportedError(f"{layer.name}: pooling kernels, strides and padding up to {MOST_STRIDE} are supported")
        return "; ".join([self._pooled(layer, part) for part in layer.parts])

    def _parameters(self, bias: NDArray[np.int32], shift: NDArray[np.uint8]) -> Block:
        """Load [n, block] biases and shifts into the parameter memory."""
        data = np.concatenate([np.ascontiguousarray(bias.astype("<i4")).view(np.uint8), shift], 1)
        return self.constant(Memory.PAR, data, count=len(bias))

    def _weights(self, part: Part, first: int, end: int) -> Block:
        return self.constant(Memory.WGT, part.weight[first:end], count=(end - first) * part.taps)

    def _taps(self, window: Window, part: Part, rows: int, columns: int) -> int:
        return self.micro_ops(MicroOp(src=int(at)) for at in window.offsets(part, rows, columns))

    # Without pooling --------------------------------------------------------------------------------------------------

    def _plain(self, layer: ConvLayer) -> str:
        schedule = self.schedule
        tiling = conv_tiling(layer, self.geometry, wide=self.geometry.depth(Memory.OUT) // 2)
        window = Window.of(layer, layer.parts)
        tiles = [
            (row, column)
            for column in spans(layer.width, tiling.columns)
            for row in spans(layer.height, tiling.rows)
        ]
        resident = None
        for chunk in tiling.chunks:
            bias = [layer.parts[piece.part].bias[piece.first : piece.end] for piece in chunk]
            shift = [layer.parts[piece.part].shift[piece.first : piece.end] for piece in chunk]
            parameters = self._parameters(np.concatenate(bias), np.concatenate(shift))
            weights: dict[Piece, Block] = {}
            for number, ((top, bottom), (left, right)) in enumerate(tiles):
                rows, columns = bottom - top, right - left
                if resident is None:
                    loads = window.loads(top, rows, left, columns)
                    tile = schedule.load(Memory.INP, window.elements(rows, columns), loads)
                else:
                    tile = resident
                for piece in chunk:
                    if piece not in weights:
                        weights[piece] = self._weights(layer.parts[piece.part], piece.first, piece.end)
                for start, end in spans(rows, tiling.sub_rows):
                    for piece in chunk:
                        self._tile(
                            layer, window, piece, (top, rows, start, end), (left, columns),
                            (tile, weights[piece], parameters),
                            parameters.first + sum(p.end - p.first for p in chunk[: chunk.index(piece)]),
                            accumulate=number > 0,
                        )
                if len(tiles) == 1:
                    resident = tile
                else:
                    tile.live = False
            for block in (*weights.values(), parameters):
                block.live = False
        if resident is not None:
            resident.live = False
        return f"{tiling}, {len(tiles)} tiles, {len(tiling.chunks)} chunks"

    def _tile(
        self,
        layer: ConvLayer,
        window: Window,
        piece: Piece,
        vertical: tuple[int, int, int, int],
        horizontal: tuple[int, int],
        reads: tuple[Block, Block, Block],
        parameter: int,
        *,
        accumulate: bool,
    ) -> None:
        """One matrix instruction and its stores: output rows start..end of a loaded tile, one piece."""
        (top, rows, start, end), (left, columns) = vertical, horizontal
        part, blocks, count = layer.parts[piece.part], piece.end - piece.first, (end - start) * columns
        pitch = window.columns(columns)
        tile, weights, _ = reads
        out = None if layer.head else self.schedule.claim(Memory.OUT, blocks * count)
        instruction = XGemm(
            uop_bgn=self._taps(window, part, rows, columns),
            uops=part.taps,
            blocks=blocks,
            rows=end - start,
            cols=columns,
            epilogue=Epilogue.OUT if out else Epilogue.SUM,
            accumulate=layer.head and (accumulate or start > 0),
            low=part.low and not layer.head,
            relu=layer.head and layer.relu,
            src_base=(tile.first + start * layer.stride[0] * pitch) % self.geometry.depth(Memory.INP),
            dst_base=out.first if out else piece.first,
            wgt_base=weights.first,
            src_row=layer.stride[0] * pitch % self.geometry.depth(Memory.INP),
            dst_block=count if out else 1,
            src_col=layer.stride[1],
            par=parameter % self.geometry.par_entries,
        )
        if out is None:
            self.schedule.compute(instruction, reads)
            return
        index = self.schedule.compute(instruction, reads, [(out.first, blocks * count)])
        assert part.target is not None
        self._store(part.target, (piece.first, piece.end), (top + start, end - start), (left, columns), out, index)
        out.live = False

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
            self.schedule.store(_store(run, self.geometry.depth(Memory.OUT)), run.offset, run.rows * run.size, after)

    # With pooling -----------------------------------------------------------------------------------------------------

    def _pooled(self, layer: ConvLayer, part: Part) -> str:
        assert layer.pool is not None
        tiling = pool_tiling(layer, part, self.geometry)
        for first, end in spans(part.blocks, tiling.group):
            reads = [self._weights(part, first, end), self._parameters(part.bias[first:end], part.shift[first:end])]
            for left, right in spans(layer.pool.out[1], tiling.columns):
                self._strip(layer, part, (first, end), (left, right), (tiling.rows, tiling.steps), reads)
            for block in reads:
                block.live = False
        return str(tiling)

    def _strip(
        self,
        layer: ConvLayer,
        part: Part,
        group: tuple[int, int],
        pooled: tuple[int, int],
        steps: tuple[int, int],
        reads: Sequence[Block],
    ) -> None:
        """Pooled columns of some output blocks, from the top to the bottom."""
        schedule, pool, target = self.schedule, layer.pool, part.target
        assert pool is not None and target is not None
        window, (first, end), (left, right) = Window.of(layer, [part]), group, pooled
        (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w) = pool.kernel, pool.stride, pool.padding
        column = max(left * stride_w - pad_w, 0)
        columns = min((right - 1) * stride_w + kernel_w - pad_w, layer.width) - column
        ring = schedule.claim(Memory.OUT, self.geometry.depth(Memory.OUT))
        lane = ring.count // (end - first)
        done = 0
        for start in range(0, pool.out[0], steps[0] * steps[1]):
            rows = [
                (y, min(y + steps[0], pool.out[0]))
                for y in range(start, min(start + steps[0] * steps[1], pool.out[0]), steps[0])
            ]
            needed = [
                (max(y * stride_h - pad_h, 0), min((y_end - 1) * stride_h + kernel_h - pad_h, layer.height))
                for y, y_end in rows
            ]
            top, bottom = max(done, needed[0][0]), max(done, needed[-1][1])
            tile = None
            if bottom > top:
                loads = window.loads(top, bottom - top, column, columns)
                tile = schedule.load(Memory.INP, window.elements(bottom - top, columns), loads)
                taps = self._taps(window, part, bottom - top, columns)
            index = len(schedule) - 1
            for (y, y_end), (low, high) in zip(rows, needed, strict=True):
                fresh = max(done, low)
                if high > fresh and tile is not None:
                    writes = [
                        ((ring.first + b * lane + fresh * columns) % ring.count, (high - fresh) * columns)
                        for b in range(end - first)
                    ]
                    pitch = window.columns(columns)
                    instruction = XGemm(
                        uop_bgn=taps,
                        uops=part.taps,
                        blocks=end - first,
                        rows=high - fresh,
                        cols=columns,
                        epilogue=Epilogue.OUT,
                        low=part.low,
                        src_base=(tile.first + (fresh - top) * layer.stride[0] * pitch)
                        % self.geometry.depth(Memory.INP),
                        dst_base=writes[0][0],
                        wgt_base=reads[0].first,
                        src_row=layer.stride[0] * pitch % self.geometry.depth(Memory.INP),
                        dst_block=lane % ring.count,
                        src_col=layer.stride[1],
                        par=reads[1].first,
                    )
                    index = schedule.compute(instruction, [tile, *reads], writes)
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
                tile.live = False
        ring.live = False

    # Others -----------------------------------------------------------------------------------------------------------

    def addition(self, layer: AddLayer) -> str:
        """A bypass addition; returns its tiling for people."""
        schedule, target, tiling = self.schedule, layer.target, add_tiling(layer, self.geometry)
        for first, end in spans(len(target.origins), tiling.blocks):
            bias = layer.bias[first:end].reshape(-1, self.geometry.block)
            parameters = self._parameters(bias, layer.shift[first:end].reshape(bias.shape))
            for left, right in spans(target.width, tiling.columns):
                for top, bottom in spans(target.height, tiling.rows):
                    tiles = [
                        self._plane_tile(operand, (first, end), (top, bottom - top), (left, right - left))
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
                    for block in (*tiles, out):
                        block.live = False
            parameters.live = False
        return str(tiling)

    def _plane_tile(
        self, value: Value, blocks: tuple[int, int], vertical: tuple[int, int], horizontal: tuple[int, int]
    ) -> Block:
        (row, rows), (column, columns) = vertical, horizontal
        origins = [origin + row * value.pitch + column for origin in value.origins[slice(*blocks)]]
        loads = [
            Load(
                memory=Memory.INP,
                sram_base=run.offset,
                dram_base=run.dram,
                y_size=run.rows,
                x_size=run.size,
                x_stride=run.stride,
            )
            for run in runs(origins, value.pitch, rows, columns)
        ]
        return self.schedule.load(Memory.INP, len(origins) * rows * columns, loads)

    def sums(self, blocks: int) -> None:
        """Store the class sums as int32."""
        store = Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=blocks, x_stride=blocks)
        self.schedule.compute(store)


def _store(run: Run, depth: int) -> Store:
    return Store(
        memory=Memory.OUT,
        sram_base=run.offset % depth,
        dram_base=run.dram,
        y_size=run.rows,
        x_size=run.size,
        x_stride=run.stride,
    )
