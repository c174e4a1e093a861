"""Operations of the published instructions on a tile in the accumulators.

R3 is four vector operations: ADD of the bias (with the rounding term and R7's terms), SHR, MAX and MIN. Bias and shift
vectors lie at the end of the accumulators, before the class sums. No instruction touches an accumulator twice within
the depth of the pipelines. The reduction therefore runs in the outer loop, or is divided among several instructions
where a tile is too small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import MaxPool, rules
from squeezeedge.targets.vta.emit.common import Emitter
from squeezeedge.targets.vta.emit.schedule import Block, Schedule
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Gemm, Load
from squeezeedge.targets.vta.lower.layers import Part
from squeezeedge.targets.vta.lower.tiling import Piece
from squeezeedge.targets.vta.lower.window import Window

__all__ = ["AccumulatorEmitter", "Planes", "vectors"]

PIPELINE = 8
"""Steps between two uses of an accumulator in one instruction."""

INT16_LOWEST = -(1 << 15)


def vectors(geometry: Geometry) -> int:
    """Accumulators that hold bias and shift vectors, before the class sums at the end of the memory."""
    return max(4, geometry.depth(Memory.ACC) // 16)


@dataclass(frozen=True)
class Planes:
    """Accumulators of a tile: ``blocks`` planes of rows x columns from ``first`` on."""

    first: int
    blocks: int
    rows: int
    columns: int

    @property
    def plane(self) -> int:
        """Accumulators of one."""
        return self.rows * self.columns


class AccumulatorEmitter(Emitter):
    """Emits the operations that work on accumulators.

    Args:
        geometry: of the accelerator.
        schedule: gets the operations.
        classes: elements of the class sums.
    """

    def __init__(self, geometry: Geometry, schedule: Schedule, classes: int) -> None:
        super().__init__(geometry, schedule)
        self._sums = Block(Memory.OUT, geometry.depth(Memory.OUT) - classes, classes, -1)
        self._vectors = self._sums.first - vectors(geometry)

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
        planes: Planes,
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

    def _requantize(self, planes: Planes, *, low: bool, exact: bool) -> Iterator[Alu]:
        """R3 with the loaded vectors; ``exact``: the offset -128 must be added after the shift and the ReLU."""
        yield self._alu(AluOp.ADD, planes, vector=0)
        yield self._alu(AluOp.SHR, planes, vector=planes.blocks)
        if low and exact:
            yield self._alu(AluOp.MAX, planes, imm=0)
            yield self._alu(AluOp.ADD, planes, imm=-rules.SIGN)
        else:
            yield self._alu(AluOp.MAX, planes, imm=-rules.SIGN)
        yield self._alu(AluOp.MIN, planes, imm=rules.Q_MAX - rules.SIGN)

    def _piece_vectors(self, part: Part, piece: Piece) -> bool:
        """Load a piece's bias and shift; returns whether the offset does not fit into the bias."""
        bias = part.bias[piece.first : piece.end].astype(np.int64)
        shift = part.shift[piece.first : piece.end].astype(np.int64)
        weight = part.weight[piece.first : piece.end].astype(np.int64)
        least = bias + np.minimum(weight * -rules.SIGN, weight * (rules.Q_MAX - rules.SIGN)).sum((1, 3))
        least = rules.wrap_int32(least).astype(np.int64)  # true by R4, whatever wrapped in the bias
        offset = rules.SIGN << shift
        exact = bool((least - offset < -rules.INT32_LIMIT).any())
        if part.low and not exact:
            bias = rules.wrap_int32(bias - offset).astype(np.int64)
        self._load_vectors(bias, shift)
        return exact

    def _products(
        self,
        window: Window,
        part: Part,
        planes: Planes,
        tile: tuple[Block, int, int, int],
        weights: Sequence[int],
        inputs: Sequence[int],
    ) -> Iterator[Gemm]:
        """Products of a tile.

        Args:
            window: of the loaded blocks.
            part: the convolution.
            planes: the accumulators.
            tile: the loaded input, its output rows and columns, and the first output row.
            weights: for each output block, its first weight element.
            inputs: for each output block, which loaded block is the first that it reads.
        """
        block, rows, columns, start = tile
        pitch, height = window.columns(columns), window.rows(rows)
        stride, blocks, plane = window.stride, part.depth, height * pitch
        dense = part.kernel == (1, 1) and stride == (1, 1) and pitch == columns == planes.columns
        for ky in range(part.kernel[0]):
            for kx in range(part.kernel[1]):
                at = block.first + (start * stride[0] + ky + window.top - part.padding[0]) * pitch
                at += kx + window.left - part.padding[1]
                tap = (ky * part.kernel[1] + kx) * blocks
                uops = [
                    MicroOp(
                        planes.first + b * planes.plane + y * planes.columns,
                        at + source * plane + y * stride[0] * pitch,
                        first + tap,
                    )
                    for y in range(1 if dense else planes.rows)
                    for b, (first, source) in enumerate(zip(weights, inputs, strict=True))
                ]
                inner = planes.plane if dense else planes.columns
                together = blocks if blocks == 1 or inner * len(uops) >= PIPELINE else 1  # or they come too soon
                for index in range(0, blocks, together):
                    moved = [replace(u, src=u.src + index * plane, wgt=u.wgt + index) for u in uops]
                    place = self.micro_ops(moved)
                    yield Gemm(
                        uop_bgn=place,
                        uop_end=place + len(uops),
                        iter_out=together,
                        iter_in=inner,
                        dst_in=1,
                        src_out=plane if together > 1 else 0,
                        src_in=stride[1],
                        wgt_out=1,
                    )

    def _total(self, planes: Planes, piece: Piece, *, relu: bool) -> Iterator[Alu]:
        """Add a tile of the head to the class sums (R6), halves to halves, so that no accumulator waits for itself."""
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

    def _added(self, planes: Sequence[Planes], *, low: bool) -> Iterator[Alu]:
        """R5 on both operands' accumulators, with the loaded vectors; the result replaces the first."""
        first, second = planes
        for index, operand in enumerate(planes):
            yield self._alu(AluOp.ADD, operand, vector=2 * index * operand.blocks)
            yield self._alu(AluOp.SHR, operand, vector=(2 * index + 1) * operand.blocks)
        yield self._add(first.first, second.first, 0, 0, 1, first.blocks * first.plane)
        if low:
            yield self._alu(AluOp.ADD, first, imm=-rules.SIGN)
        yield self._alu(AluOp.MAX, first, imm=-rules.SIGN)
        yield self._alu(AluOp.MIN, first, imm=rules.Q_MAX - rules.SIGN)

    def _maxima(
        self, pool: MaxPool, planes: Planes, pooled: Planes, first: tuple[int, int], origin: tuple[int, int]
    ) -> Iterator[Alu]:
        """Maxima of the windows' valid accumulators; the pooled planes are 0 at first and become the least int32."""
        yield self._alu(AluOp.MIN, pooled, imm=INT16_LOWEST)
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
