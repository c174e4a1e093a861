"""The extended instructions: three on the opcodes that the published ones leave free.

===============  ======  =======  ===============================================================================
instruction      opcode  module   meaning
===============  ======  =======  ===============================================================================
:class:`XGemm`        5  compute  a tile of a convolution: bias, whole reduction, R3 epilogue, in one pipeline pass
:class:`XPool`        6  store    outputs -> DRAM through a max-pooling window (R5), beside the compute module
:class:`XAdd`         7  compute  bypass addition (R5) of two tensors in the input memory
===============  ======  =======  ===============================================================================

Besides: :class:`.Load` fills the parameter memory (``Memory.PAR``) and pads with -128 (``pad_low``);
:class:`.Store` writes accumulators as int32 (``Memory.ACC``). Indices into the on-chip memories wrap modulo the
depth, so a memory can be used as a ring.

A parameter element holds, per lane, an int32 bias and a shift 0..15 (in DRAM: all biases, then all shifts as bytes).
The rounding constant of R3 belongs into the bias: (sum + bias') >> k with bias' = bias + ((1 << k) >> 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import rules
from squeezeedge.targets.vta.isa.encoding import Instruction, Module, Unit, bits
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.state import State

__all__ = ["Epilogue", "XAdd", "XGemm", "XPool"]


class Epilogue(IntEnum):
    """What :class:`XGemm` does with a finished sum."""

    ACC = 0
    """acc[dst] = sum."""
    OUT = 1
    """out[dst] = clip((sum >> k) + offset, -128, 127) (R3 in signed storage)."""
    SUM = 2
    """Total over all positions, after the ReLU where there is one (R6): acc[dst] = total."""


@dataclass(frozen=True, kw_only=True)
class XGemm(Instruction):
    """A tile of a convolution, output by output: the reduction is the innermost loop and stays in registers.

    For b in blocks, for y in rows, for x in cols::

        sum = bias[par + b]                      (acc[dst] with ``accumulate``)
        for u in uops:
            sum += wgt[wgt_base + b * uops + u] @ inp[src_base + y * src_row + x * src_col + uop[uop_bgn + u].src]
        epilogue

    with dst = dst_base + b * dst_block + y * cols + x for the epilogues ACC and OUT. SUM has one destination a block,
    dst_base + b * dst_block: the total starts at 0 (at acc[dst] with ``accumulate``, and every sum at its bias), and
    each sum enters through the ReLU if ``relu``. No accumulator is touched twice, whatever the number of micro-ops.

    Attributes:
        uop_bgn: first micro-op.
        uops: micro-ops of one reduction: kernel positions times input channel blocks. Only their src counts.
        blocks: output channel blocks.
        rows: output rows.
        cols: output columns.
        epilogue: what becomes of the sum.
        accumulate: continue from acc[dst] instead of the bias (SUM: instead of 0).
        low: epilogue OUT: offset -128 after the shift (output zero point 0) instead of 0 (zero point 128).
        relu: epilogue SUM: a negative sum counts as 0.
        src_base: first input element of the tile's first window.
        dst_base: first output or accumulator element.
        wgt_base: first weight element; those of one block lie together in the order of the micro-ops.
        src_row: input elements from one output row to the next.
        dst_block: elements from one output block to the next.
        src_col: input elements from one output column to the next (the stride).
        par: parameter element of the first block.
    """

    opcode: ClassVar[int] = 5
    mnemonic: ClassVar[str] = "xgemm"
    extended: ClassVar[bool] = True

    uop_bgn: int = bits("uop_bits", word=0)
    uops: int = bits(10, word=0)
    blocks: int = bits(7, word=0)
    rows: int = bits(8, word=0)
    cols: int = bits(11, word=0)
    epilogue: Epilogue = bits(2, word=0, kind=Epilogue)  # noqa: RUF009  (a field)
    accumulate: bool = bits(1, word=0, kind=bool, default=False)
    low: bool = bits(1, word=0, kind=bool, default=False)
    relu: bool = bits(1, word=0, kind=bool, default=False)
    src_base: int = bits("inp_bits", word=1)
    dst_base: int = bits("acc_bits", word=1)
    wgt_base: int = bits("wgt_bits", word=1)
    src_row: int = bits("inp_bits", word=1, default=0)
    dst_block: int = bits("acc_bits", word=1, default=0)
    src_col: int = bits(3, word=1, default=0)
    par: int = bits(7, word=1, default=0)

    @property
    def module(self) -> Module:
        """Compute."""
        return Module.COMPUTE

    @property
    def steps(self) -> int:
        """Micro-ops that it executes: pipeline cycles without fill and drain."""
        return self.blocks * self.rows * self.cols * self.uops

    @property
    def unit(self) -> Unit | None:
        """The array."""
        return "gemm"

    def problem(self, geometry: Geometry) -> str | None:
        """A reduction without steps, more outputs of a block than their memory has."""
        if not self.uops:
            return "no micro-ops"
        if self.rows * self.cols > geometry.depth(Memory.ACC):
            return "more outputs than the memory has"
        return super().problem(geometry)

    def execute(self, state: State) -> None:
        """One output channel block after the other; without positions, nothing."""
        if not self.rows * self.cols:
            return
        step = np.arange(self.uops)
        words = state.uop[state.wrap(Memory.UOP, self.uop_bgn + step)]
        offset = np.array([MicroOp.decode(int(word), state.geometry).src for word in words])
        y, x = np.mgrid[: self.rows, : self.cols].reshape(2, -1)
        window = (self.src_base + y * self.src_row + x * self.src_col)[:, None] + offset
        inputs = state.inp[state.wrap(Memory.INP, window)].astype(np.int64)  # [outputs, uops, in]
        for block in range(self.blocks):
            index = state.wrap(Memory.WGT, self.wgt_base + block * self.uops + step)
            sums = np.einsum("pui,uoi->po", inputs, state.wgt[index].astype(np.int64))
            self._finish(state, block, sums)

    def _finish(self, state: State, block: int, sums: NDArray[np.int64]) -> None:
        par = state.wrap(Memory.PAR, np.array(self.par + block))
        first = self.dst_base + block * self.dst_block
        if self.epilogue == Epilogue.SUM:
            dst = state.wrap(Memory.ACC, np.array(first))
            sums = (sums + state.bias[par]).astype(np.int32).astype(np.int64)
            total = (np.maximum(sums, 0) if self.relu else sums).sum(0)
            state.acc[dst] = (total + (state.acc[dst] if self.accumulate else 0)).astype(np.int32)
            return
        dst = state.wrap(Memory.ACC, first + np.arange(self.rows * self.cols))
        start = state.acc[dst] if self.accumulate else state.bias[par]
        result = (sums + start).astype(np.int32)
        if self.epilogue == Epilogue.ACC:
            state.acc[dst] = result
        else:
            state.out[dst] = _narrow((result >> state.shift[par]).astype(np.int64) + (-rules.SIGN if self.low else 0))

    def operands(self) -> str:
        """Loops, operands and epilogue."""
        loops = f"uop[{self.uop_bgn}:{self.uop_bgn + self.uops}] {self.blocks}x{self.rows}x{self.cols}"
        source = f"inp[{self.src_base} +{self.src_row},{self.src_col}] wgt[{self.wgt_base}]"
        flags = "".join(f" {name}" for name in ("accumulate", "low", "relu") if getattr(self, name))
        target = f"{self.epilogue.name.lower()}[{self.dst_base} +{self.dst_block}]"
        return f"{loops} {source} par[{self.par}] -> {target}{flags}"


@dataclass(frozen=True, kw_only=True)
class XPool(Instruction):
    """Max pooling on the way from the output memory to DRAM (R5), in the store module, beside the compute module.

    The window of output (y, x) covers rows y * stride_h - pad_top + 0..kernel_h - 1 and columns
    x * stride_w - pad_left + 0..kernel_w - 1 of a rows x cols tile that lies densely from ``sram_base`` on; positions
    outside of the tile don't count (an output with none is -128).

    Attributes:
        sram_base: first output element of the tile.
        dram_base: first element in DRAM, from the output base register.
        kernel_h: rows of the window, 1..7.
        kernel_w: columns of the window, 1..7.
        stride_h: rows from one window to the next, 1..7.
        stride_w: columns from one window to the next, 1..7.
        y_size: output rows.
        x_size: output columns.
        x_stride: elements from one output row to the next in DRAM.
        rows: rows of the tile.
        cols: columns of the tile.
        pad_top: rows that the first window begins above the tile.
        pad_left: columns that the first window begins before the tile.
    """

    opcode: ClassVar[int] = 6
    mnemonic: ClassVar[str] = "xpool"
    extended: ClassVar[bool] = True

    sram_base: int = bits("acc_bits", word=0)
    dram_base: int = bits(32, word=0)
    kernel_h: int = bits(3, word=0)
    kernel_w: int = bits(3, word=0)
    stride_h: int = bits(3, word=0)
    stride_w: int = bits(3, word=0)
    y_size: int = bits(8, word=1)
    x_size: int = bits(11, word=1)
    x_stride: int = bits(16, word=1)
    rows: int = bits(8, word=1)
    cols: int = bits(11, word=1)
    pad_top: int = bits(3, word=1, default=0)
    pad_left: int = bits(3, word=1, default=0)

    @property
    def module(self) -> Module:
        """Store."""
        return Module.STORE

    @property
    def unit(self) -> Unit | None:
        """The pooling unit."""
        return "pool"

    def bytes_moved(self, geometry: Geometry) -> int:
        """The pooled outputs."""
        return self.y_size * self.x_size * geometry.block

    def problem(self, geometry: Geometry) -> str | None:
        """A window or stride of zero, a tile larger than the memory."""
        if 0 in (self.kernel_h, self.kernel_w, self.stride_h, self.stride_w):
            return "kernel and stride must be positive"
        if self.rows * self.cols > geometry.depth(Memory.OUT):
            return "more elements than the out memory has"
        return super().problem(geometry)

    def execute(self, state: State) -> None:
        """Window by window."""
        index = state.wrap(Memory.OUT, self.sram_base + np.arange(self.rows * self.cols))
        tile = state.out[index].reshape(self.rows, self.cols, state.geometry.block)
        for y in range(self.y_size):
            target = state.dram_elements(Memory.OUT, self.dram_base + y * self.x_stride, self.x_size)
            top = y * self.stride_h - self.pad_top
            for x in range(self.x_size):
                left = x * self.stride_w - self.pad_left
                window = tile[max(top, 0) : max(top + self.kernel_h, 0), max(left, 0) : max(left + self.kernel_w, 0)]
                target[x] = window.max((0, 1), initial=-rules.SIGN).view(np.uint8)

    def operands(self) -> str:
        """Destination, source, window."""
        target = f"dram out[{self.dram_base}] {self.y_size}x{self.x_size} step {self.x_stride}"
        window = f"{self.kernel_h}x{self.kernel_w}/{self.stride_h}x{self.stride_w} pad {self.pad_top},{self.pad_left}"
        return f"{target} <- out[{self.sram_base}] {self.rows}x{self.cols} window {window}"


@dataclass(frozen=True, kw_only=True)
class XAdd(Instruction):
    """Bypass addition (R5) in signed storage.

    For b in blocks, for i in count, with j = b * count + i::

        out[dst_base + j] = clip(  ((inp[a_base + j] + bias[par + 2b    ]) >> k[par + 2b    ])
                                 + ((inp[b_base + j] + bias[par + 2b + 1]) >> k[par + 2b + 1]) + offset, -128, 127)

    so a parameter's bias is 128 - z of the operand plus the rounding constant of its shift.

    Attributes:
        blocks: channel blocks.
        count: elements of a block.
        par: parameter element of the first operand's first block; the second operand's follows.
        low: offset -128 (output zero point 0) instead of 0 (zero point 128).
        a_base: first input element of the first operand.
        b_base: first input element of the second operand.
        dst_base: first output element.
    """

    opcode: ClassVar[int] = 7
    mnemonic: ClassVar[str] = "xadd"
    extended: ClassVar[bool] = True

    blocks: int = bits(7, word=0)
    count: int = bits(11, word=0)
    par: int = bits(7, word=0)
    low: bool = bits(1, word=0, kind=bool, default=False)
    a_base: int = bits("inp_bits", word=1)
    b_base: int = bits("inp_bits", word=1)
    dst_base: int = bits("acc_bits", word=1)

    @property
    def module(self) -> Module:
        """Compute."""
        return Module.COMPUTE

    @property
    def steps(self) -> int:
        """Elements that it makes."""
        return self.blocks * self.count

    def problem(self, geometry: Geometry) -> str | None:
        """More elements than the memory has."""
        if self.blocks * self.count > geometry.depth(Memory.INP):
            return "more elements than the inp memory has"
        return super().problem(geometry)

    def execute(self, state: State) -> None:
        """Block by block."""
        for block in range(self.blocks):
            step = block * self.count + np.arange(self.count)
            total = np.full((self.count, state.geometry.block), -rules.SIGN if self.low else 0, np.int64)
            for operand, base in enumerate((self.a_base, self.b_base)):
                par = state.wrap(Memory.PAR, np.array(self.par + 2 * block + operand))
                value = (state.inp[state.wrap(Memory.INP, base + step)] + state.bias[par]).astype(np.int32)
                total += value >> state.shift[par]
            state.out[state.wrap(Memory.OUT, self.dst_base + step)] = _narrow(total)

    def operands(self) -> str:
        """Operands, shape, destination."""
        flags = " low" if self.low else ""
        source = f"inp[{self.a_base}] + inp[{self.b_base}] {self.blocks}x{self.count} par[{self.par}]"
        return f"{source} -> out[{self.dst_base}]{flags}"


def _narrow(value: NDArray[np.int64]) -> NDArray[np.int8]:
    return value.clip(-rules.SIGN, rules.Q_MAX - rules.SIGN).astype(np.int8)
