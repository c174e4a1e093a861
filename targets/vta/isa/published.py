"""The published VTA instructions: layout and meaning of every one, bit for bit.

Source: the hardware sources of Apache TVM's VTA (opcodes 0-4, two 64-bit words, 32-bit micro-ops). Fields marked as
extended, and the classes of :mod:`.extended`, belong to the extended instructions only; hls/README.md has the tables.

============  ======  =======  ==================================================================
instruction   opcode  module   meaning
============  ======  =======  ==================================================================
:class:`Load`      0  load     DRAM -> inputs or weights (compute: micro-ops or accumulators)
:class:`Store`     1  store    outputs -> DRAM
:class:`Gemm`      2  compute  acc[dst] += wgt[w] @ inp[src] for every micro-op of two loops
:class:`Finish`    3  compute  end of the program
:class:`Alu`       4  compute  acc[dst] = op(acc[dst], acc[src] or immediate)
============  ======  =======  ==================================================================

Implementations differ in some points, on which a program must not depend. Multiplication (ALU opcode 4) is neither in
the HLS source nor here. A shift is a 5-bit signed number (keep it in 0..15). The output memory mirrors what GEMM and
ALU write, not what an accumulator load writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import rules
from squeezeedge.targets.vta.isa.encoding import SHIFT_BITS, Instruction, Module, Unit, bits
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.state import State

__all__ = ["Alu", "AluOp", "Finish", "Gemm", "Load", "Store"]


MOST_STEPS = 1 << 31
"""Steps of one GEMM or ALU instruction: an ALU step is two cycles and cycles are counted with 32 bits."""


class AluOp(IntEnum):
    """Operators of :class:`Alu`."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3


@dataclass(frozen=True, kw_only=True)
class _Transfer(Instruction):
    """A two-dimensional copy; all but the pads are counted in elements of the memory."""

    memory: Memory = bits(3, word=0, kind=Memory)  # noqa: RUF009  (a field)
    sram_base: int = bits(16, word=0)
    dram_base: int = bits(32, word=0)
    y_size: int = bits(16, word=1)
    x_size: int = bits(16, word=1)
    x_stride: int = bits(16, word=1)

    def _shape(self) -> str:
        return f"{self.y_size}x{self.x_size}" + (f" step {self.x_stride}" if self.y_size > 1 else "")

    def bytes_moved(self, geometry: Geometry) -> int:
        """Without padding."""
        return self.y_size * self.x_size * geometry.element_bytes(self.memory)

    def rows(self) -> Iterator[int]:
        """First DRAM element of every row."""
        return (self.dram_base + y * self.x_stride for y in range(self.y_size))


@dataclass(frozen=True, kw_only=True)
class Load(_Transfer):
    """DRAM -> on-chip memory, row by row; the rows lie densely on the chip, padding around them.

    Inputs and weights (and, extended, parameters) load in the load module, micro-ops and accumulators in the
    compute module. Only inputs and accumulators have padding; micro-ops are one row.

    Attributes:
        memory: UOP, WGT, INP, ACC; PAR is extended.
        sram_base: first element on the chip.
        dram_base: first element in DRAM, from the memory's base register.
        y_size: rows.
        x_size: elements of a row.
        x_stride: elements from one row to the next in DRAM.
        y_pad_0: rows of padding before.
        y_pad_1: rows of padding after.
        x_pad_0: elements of padding before each row.
        x_pad_1: elements of padding after each row.
        pad_low: extended: padding is -128 (q = 0 in signed storage) instead of 0.
    """

    opcode: ClassVar[int] = 0
    mnemonic: ClassVar[str] = "load"

    pad_low: bool = bits(1, word=0, kind=bool, extended=True, default=False)
    y_pad_0: int = bits(4, word=1, default=0)
    y_pad_1: int = bits(4, word=1, default=0)
    x_pad_0: int = bits(4, word=1, default=0)
    x_pad_1: int = bits(4, word=1, default=0)

    @property
    def module(self) -> Module:
        """Load, or compute for its own memories."""
        return Module.COMPUTE if self.memory in (Memory.UOP, Memory.ACC) else Module.LOAD

    @property
    def is_extended(self) -> bool:
        """Whether the published instructions lack it."""
        return super().is_extended or self.memory == Memory.PAR

    @property
    def unit(self) -> Unit | None:
        """Only the bus."""
        return None

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Rows before, rows after, elements before, elements after."""
        return self.y_pad_0, self.y_pad_1, self.x_pad_0, self.x_pad_1

    @property
    def width(self) -> int:
        """Elements of a row on the chip."""
        return self.x_pad_0 + self.x_size + self.x_pad_1

    @property
    def height(self) -> int:
        """Rows on the chip."""
        return self.y_pad_0 + self.y_size + self.y_pad_1

    def problem(self, geometry: Geometry) -> str | None:
        """Memories that cannot be loaded, padding where there is none."""
        if self.memory == Memory.OUT:
            return "the output memory cannot be loaded"
        if self.memory == Memory.UOP and self.y_size != 1:
            return "micro-ops are loaded as one row"
        if self.memory not in (Memory.INP, Memory.ACC) and any(self.pads):
            return f"no padding in the {self.memory.name.lower()} memory"
        if self.pad_low and self.memory != Memory.INP:
            return "pad_low is for inputs"
        if self.height * self.width > geometry.depth(self.memory):
            return f"more elements than the {self.memory.name.lower()} memory has"
        return super().problem(geometry)

    def execute(self, state: State) -> None:
        """Copy and pad."""
        size = state.geometry.element_bytes(self.memory)
        tile = np.full((self.height, self.width, size), rules.SIGN if self.pad_low else 0, np.uint8)
        for y, first in enumerate(self.rows()):
            row = state.dram_elements(self.memory, first, self.x_size)
            tile[self.y_pad_0 + y, self.x_pad_0 : self.x_pad_0 + self.x_size] = row
        state.write(self.memory, self.sram_base, tile.reshape(-1, size))

    def operands(self) -> str:
        """Destination, source, shape, padding."""
        name = self.memory.name.lower()
        text = f"{name}[{self.sram_base}] <- dram {name}[{self.dram_base}] {self._shape()}"
        if any(self.pads):
            text += f" pad y {self.y_pad_0},{self.y_pad_1} x {self.x_pad_0},{self.x_pad_1}"
        return text + (" low" if self.pad_low else "")


@dataclass(frozen=True, kw_only=True)
class Store(_Transfer):
    """On-chip memory -> DRAM, row by row; the rows lie densely on the chip.

    Attributes:
        memory: OUT; ACC (int32, executed by the compute module) is extended.
        sram_base: first element on the chip.
        dram_base: first element in DRAM, from the memory's base register.
        y_size: rows.
        x_size: elements of a row.
        x_stride: elements from one row to the next in DRAM.
    """

    opcode: ClassVar[int] = 1
    mnemonic: ClassVar[str] = "store"

    @property
    def module(self) -> Module:
        """Store, or compute for accumulators."""
        return Module.COMPUTE if self.memory == Memory.ACC else Module.STORE

    @property
    def is_extended(self) -> bool:
        """Whether the published instructions lack it."""
        return self.memory == Memory.ACC

    def problem(self, geometry: Geometry) -> str | None:
        """Memories that cannot be stored."""
        if self.memory not in (Memory.OUT, Memory.ACC):
            return f"the {self.memory.name.lower()} memory cannot be stored"
        if self.y_size * self.x_size > geometry.depth(self.memory):
            return f"more elements than the {self.memory.name.lower()} memory has"
        return super().problem(geometry)

    def execute(self, state: State) -> None:
        """Copy."""
        source = state.acc if self.memory == Memory.ACC else state.out
        for y, first in enumerate(self.rows()):
            index = state.wrap(self.memory, self.sram_base + y * self.x_size + np.arange(self.x_size))
            raw = np.ascontiguousarray(source[index]).astype(source.dtype.newbyteorder("<"), copy=False)
            state.dram_elements(self.memory, first, self.x_size)[:] = raw.view(np.uint8)

    def operands(self) -> str:
        """Destination, source, shape."""
        name = self.memory.name.lower()
        return f"dram {name}[{self.dram_base}] <- {name}[{self.sram_base}] {self._shape()}"


@dataclass(frozen=True, kw_only=True)
class Gemm(Instruction):
    """Matrix products: for y in iter_out, for x in iter_in, for every micro-op.

    acc[dst] += wgt[w] @ inp[src], or acc[dst] = 0 with ``reset``; each index is the micro-op's plus y * outer plus
    x * inner factor. The output memory gets the low 8 bits of what the accumulator gets.

    Attributes:
        reset: write zeros instead.
        uop_bgn: first micro-op.
        uop_end: one after the last.
        iter_out: outer iterations.
        iter_in: inner iterations.
        dst_out: outer factor of the accumulator index; the others likewise.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "gemm"

    reset: bool = bits(1, word=0, kind=bool, default=False)
    uop_bgn: int = bits("uop_bits", word=0)
    uop_end: int = bits("uop_bits", extra=1, word=0)
    iter_out: int = bits(14, word=0)
    iter_in: int = bits(14, word=0)
    dst_out: int = bits("acc_bits", word=1, default=0)
    dst_in: int = bits("acc_bits", word=1, default=0)
    src_out: int = bits("inp_bits", word=1, default=0)
    src_in: int = bits("inp_bits", word=1, default=0)
    wgt_out: int = bits("wgt_bits", word=1, default=0)
    wgt_in: int = bits("wgt_bits", word=1, default=0)

    @property
    def module(self) -> Module:
        """Compute."""
        return Module.COMPUTE

    @property
    def steps(self) -> int:
        """Micro-ops that it executes."""
        return self.iter_out * self.iter_in * max(self.uop_end - self.uop_bgn, 0)

    @property
    def unit(self) -> Unit | None:
        """The array."""
        return "gemm"

    def problem(self, geometry: Geometry) -> str | None:
        """More steps than the hardware's counter has bits for."""
        return "too many steps" if self.steps >= MOST_STEPS else super().problem(geometry)

    def execute(self, state: State) -> None:
        """One micro-op after the other."""
        for y, x, micro_op in _steps(self, state):
            dst = (micro_op.dst + y * self.dst_out + x * self.dst_in) % len(state.acc)
            src = (micro_op.src + y * self.src_out + x * self.src_in) % len(state.inp)
            wgt = (micro_op.wgt + y * self.wgt_out + x * self.wgt_in) % len(state.wgt)
            if self.reset:
                _write_acc(state, dst, np.zeros(state.geometry.block, np.int64))
            else:
                product = state.wgt[wgt].astype(np.int64) @ state.inp[src].astype(np.int64)
                _write_acc(state, dst, state.acc[dst] + product)

    def operands(self) -> str:
        """Loops and factors."""
        loops = f"uop[{self.uop_bgn}:{self.uop_end}] {self.iter_out}x{self.iter_in} acc +{self.dst_out},{self.dst_in}"
        if self.reset:
            return f"{loops} <- 0"
        return f"{loops} inp +{self.src_out},{self.src_in} wgt +{self.wgt_out},{self.wgt_in}"


@dataclass(frozen=True, kw_only=True)
class Alu(Instruction):
    """Vector operations between accumulators, or with an immediate; loops and indices as in :class:`Gemm`.

    acc[dst] = op(acc[dst], acc[src] or imm). The output memory gets the low 8 bits. A shift is the operand's low five
    bits as a signed number; negative shifts to the left.

    Attributes:
        uop_bgn: first micro-op.
        uop_end: one after the last.
        iter_out: outer iterations.
        iter_in: inner iterations.
        dst_out: outer factor of the destination index; the others likewise.
        op: operator.
        use_imm: whether the second operand is ``imm``.
        imm: 16-bit signed immediate.
    """

    opcode: ClassVar[int] = 4
    mnemonic: ClassVar[str] = "alu"

    reset: bool = bits(1, word=0, kind=bool, default=False)
    uop_bgn: int = bits("uop_bits", word=0)
    uop_end: int = bits("uop_bits", extra=1, word=0)
    iter_out: int = bits(14, word=0)
    iter_in: int = bits(14, word=0)
    dst_out: int = bits("acc_bits", word=1, default=0)
    dst_in: int = bits("acc_bits", word=1, default=0)
    src_out: int = bits("acc_bits", word=1, default=0)
    src_in: int = bits("acc_bits", word=1, default=0)
    op: AluOp = bits(3, word=1, kind=AluOp)  # noqa: RUF009  (a field)
    use_imm: bool = bits(1, word=1, kind=bool, default=False)
    imm: int = bits(16, word=1, signed=True, default=0)

    @property
    def module(self) -> Module:
        """Compute."""
        return Module.COMPUTE

    @property
    def steps(self) -> int:
        """Micro-ops that it executes."""
        return self.iter_out * self.iter_in * max(self.uop_end - self.uop_bgn, 0)

    def problem(self, geometry: Geometry) -> str | None:
        """The reset bit, which exists in the layout only; more steps than the hardware's counter has bits for."""
        if self.reset:
            return "reset is not defined"
        return "too many steps" if self.steps >= MOST_STEPS else super().problem(geometry)

    def execute(self, state: State) -> None:
        """One micro-op after the other."""
        for y, x, micro_op in _steps(self, state):
            dst = (micro_op.dst + y * self.dst_out + x * self.dst_in) % len(state.acc)
            src = (micro_op.src + y * self.src_out + x * self.src_in) % len(state.acc)
            left = state.acc[dst].astype(np.int64)
            right = np.full_like(left, self.imm) if self.use_imm else state.acc[src].astype(np.int64)
            _write_acc(state, dst, _operate(self.op, left, right))

    def operands(self) -> str:
        """Operator, loops and factors."""
        loops = f"uop[{self.uop_bgn}:{self.uop_end}] {self.iter_out}x{self.iter_in} acc +{self.dst_out},{self.dst_in}"
        right = str(self.imm) if self.use_imm else f"acc +{self.src_out},{self.src_in}"
        return f"{self.op.name.lower()} {loops} {right}"


@dataclass(frozen=True, kw_only=True)
class Finish(Instruction):
    """The end of the program: nothing but its tokens."""

    opcode: ClassVar[int] = 3
    mnemonic: ClassVar[str] = "finish"

    @property
    def module(self) -> Module:
        """Compute."""
        return Module.COMPUTE

    def execute(self, state: State) -> None:
        """Nothing."""

    def operands(self) -> str:
        """None."""
        return ""


def _steps(instruction: Gemm | Alu, state: State) -> Iterator[tuple[int, int, MicroOp]]:
    micro_ops = [
        MicroOp.decode(int(state.uop[index % len(state.uop)]), state.geometry)
        for index in range(instruction.uop_bgn, instruction.uop_end)
    ]
    for y in range(instruction.iter_out):
        for x in range(instruction.iter_in):
            for micro_op in micro_ops:
                yield y, x, micro_op


def _operate(op: AluOp, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    if op == AluOp.MIN:
        return np.minimum(left, right)
    if op == AluOp.MAX:
        return np.maximum(left, right)
    if op == AluOp.ADD:
        return left + right
    sign = 1 << SHIFT_BITS
    shift = ((right & (2 * sign - 1)) ^ sign) - sign
    shifted: NDArray[np.int64] = (left << np.maximum(-shift, 0)) >> np.maximum(shift, 0)
    return shifted


def _write_acc(state: State, index: int, value: NDArray[np.int64]) -> None:
    """An accumulator and its mirror in the output memory, both modulo their width."""
    state.acc[index] = value.astype(np.int32)
    state.out[index] = value.astype(np.int8)
