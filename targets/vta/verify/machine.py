"""Executes a program in symbols, instruction by instruction, in an order that its tokens allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.targets.vta.isa.encoding import MAX_SHIFT, Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS
from squeezeedge.targets.vta.verify.memory import STORE, Index, Memories, first_of
from squeezeedge.targets.vta.verify.symbols import (
    Symbols,
    alu,
    constant,
    immediate,
    narrow,
    parts,
    pooled,
    rectified,
    sum_of,
)
from squeezeedge.targets.vta.verify.tokens import Trace

__all__ = ["PIPELINE", "Machine"]

PIPELINE = 8
"""Steps until a GEMM or ALU step's accumulator may be used again (rule 5 of :mod:`.program`)."""

Kind = TypeVar("Kind", bound=Instruction)


_EXECUTE: Table[Instruction, None] = Table("VTA verifier of instructions", INSTRUCTIONS.values())


def _executes(kind: type[Kind]) -> Callable[[Callable[[Machine, Kind], None]], Callable[[Machine, Kind], None]]:
    """The method is what an instruction does to the machine."""

    def register(method: Callable[[Machine, Kind], None]) -> Callable[[Machine, Kind], None]:
        @_EXECUTE.implements(kind)
        def execute(instruction: Kind, machine: Machine) -> None:
            method(machine, instruction)

        return method

    return register


class Machine(Memories):
    """Executes instructions in symbols.

    Args:
        program: with its image.
        trace: of its instructions.
    """

    def __init__(self, program: VtaProgram, trace: Trace) -> None:
        super().__init__(program, trace)
        self._uop = np.zeros((3, self.geometry.depth(Memory.UOP)), np.int64)  # dst, src, wgt
        self._shift = np.zeros(self.geometry.par_entries, np.uint64)
        self._is_shift = np.zeros(self.geometry.depth(Memory.ACC), bool)  # holds numbers in 0..MAX_SHIFT

    def execute(self, number: int, instruction: Instruction) -> None:
        """One instruction.

        Raises:
            Violation: an access that is not allowed.
        """
        self.number, self.ordinal = number, self.trace.ordinal[number]
        self.clock = self.trace.clock[number]
        _EXECUTE(instruction, self)

    # Transfers --------------------------------------------------------------------------------------------------------

    @_executes(Load)
    def _load(self, load: Load) -> None:
        memory, count = load.memory, load.height * load.width
        if not count:
            return
        index = self.span(memory, load.sram_base, count)
        self.writes(memory, index)
        store = self.memory[memory]
        if memory == Memory.INP:
            tile = np.full((load.height, load.width), constant(rules.SIGN if load.pad_low else 0, self.geometry.block))
            rows, columns = (
                slice(load.y_pad_0, load.y_pad_0 + load.y_size),
                slice(load.x_pad_0, load.x_pad_0 + load.x_size),
            )
            tile[rows, columns] = self._activations(load)
            store.symbol[index] = tile.reshape(-1)
            return
        at = self.constants_at(memory, load)
        if memory == Memory.UOP:
            words = self.raw(memory, at).view("<u4")[:, 0].astype(np.int64)
            most, acc = MicroOp.decode((1 << 32) - 1, self.geometry), self.geometry.acc_bits
            wgt = acc + most.src.bit_length()
            self._uop[:, index] = words & most.dst, words >> acc & most.src, words >> wgt & most.wgt
        elif memory == Memory.PAR:
            if (self.raw(memory, at)[:, 4 * self.geometry.block :] > MAX_SHIFT).any():
                raise self.fail(f"loads a shift above {MAX_SHIFT}")
            store.symbol[index], self._shift[index] = (table[at] for table in self.constants[memory])
        elif memory == Memory.WGT:
            store.symbol[index] = self.constants[memory][0][at]
        else:
            self._load_vectors(load, index, at)

    def _load_vectors(self, load: Load, index: Index, at: Index) -> None:
        """Load accumulators. Implementations differ in whether outputs mirror them, so outputs become undefined."""
        if any(load.pads):
            raise self.fail("pads accumulators")
        self.memory[Memory.ACC].symbol[index] = self.constants[Memory.ACC][0][at]
        values = self.raw(Memory.ACC, at).view("<i4")
        self._is_shift[index] = ((values >= 0) & (values <= MAX_SHIFT)).all(1)
        self.writes(Memory.OUT, index)
        self.memory[Memory.OUT].written[index] = 0

    def _activations(self, load: Load) -> Symbols:
        cells = self.cells("inp", self.rows(load), self.readable, "loads")
        late = self.dram.written[cells] > self.clock[STORE]
        if late.any():
            store = self.writer(int(cells[late][0]))
            raise self.fail(f"loads from DRAM what instruction {store} stores, without a token that confirms it")
        self.dram.read[cells] = self.ordinal
        return self.dram.symbol[cells].reshape(load.y_size, load.x_size)

    @_executes(Store)
    def _store(self, store: Store) -> None:
        if not store.y_size * store.x_size:
            return
        values = self.reads(store.memory, self.span(store.memory, store.sram_base, store.y_size * store.x_size))
        rows = self.rows(store)
        if store.memory == Memory.OUT:
            self.to_dram(self.cells("out", rows, self.writable, "stores"), values)
            return
        wide = (4 * rows[..., None] + np.arange(4)).reshape(len(rows), -1)
        self.to_dram(self.cells("acc", wide, self.writable, "stores"), parts(values, 4).reshape(-1))

    @_executes(XPool)
    def _xpool(self, pool: XPool) -> None:
        if not pool.y_size * pool.x_size:
            return
        self._bounded_steps(pool.y_size * pool.x_size * pool.kernel_h * pool.kernel_w)
        y = np.arange(pool.y_size)[:, None] * pool.stride_h + np.arange(pool.kernel_h) - pool.pad_top
        x = np.arange(pool.x_size)[:, None] * pool.stride_w + np.arange(pool.kernel_w) - pool.pad_left
        valid = ((y >= 0) & (y < pool.rows))[:, None, :, None] & ((x >= 0) & (x < pool.cols))[None, :, None, :]
        tap = np.where(valid, y[:, None, :, None] * pool.cols + x[None, :, None, :], 0)
        used = tap[valid]
        tile = self.span(Memory.OUT, pool.sram_base, pool.rows * pool.cols)
        self.reads(Memory.OUT, tile[used])
        shape = (pool.y_size, pool.x_size, pool.kernel_h * pool.kernel_w)
        taps = np.zeros(shape, np.uint64)
        taps[valid.reshape(shape)] = self.memory[Memory.OUT].symbol[tile[used]]
        cells = self.cells("out", self.rows(pool), self.writable, "stores")
        self.to_dram(cells, pooled(taps, valid.reshape(shape)).reshape(-1))

    @_executes(Finish)
    def _finish(self, finish: Finish) -> None:
        pass

    # Compute ----------------------------------------------------------------------------------------------------------

    def _micro_ops(self, first: int, count: int) -> Index:
        """dst, src and wgt of micro-ops: [3, count]."""
        index = self.span(Memory.UOP, first, count)
        self.reads(Memory.UOP, index)
        return self._uop[:, index]

    def _bounded_steps(self, steps: int) -> None:
        most = self.memory[Memory.ACC].depth * self.memory[Memory.WGT].depth
        if steps > most:
            raise self.fail(f"{steps} steps, more than the accumulators times the weights ({most})")

    def _loop(self, memory: Memory, uops: Index, instruction: Gemm | Alu, out: int, inner: int) -> Index:
        """The index of every step: [iter_out * iter_in * micro-ops]."""
        y, x = np.arange(instruction.iter_out) * out, np.arange(instruction.iter_in) * inner
        self.bounded(memory, int(y[-1]) + int(x[-1]) + int(uops.max()))
        index: Index = np.add.outer(np.add.outer(y, x), uops).reshape(-1)
        return index & (self.memory[memory].depth - 1) if self.wrap else index

    def _apart(self, dst: Index, *used: Index) -> None:
        """No step uses an accumulator that one of the last steps writes."""
        for index in used:
            for distance in range(1, min(PIPELINE, len(dst))):
                same = index[distance:] == dst[:-distance]
                if same.any():
                    text = f"uses acc[{first_of(index[distance:], same)}] again after {distance} steps"
                    raise self.fail(f"{text}; the pipeline needs {PIPELINE}")

    @_executes(Gemm)
    def _gemm(self, gemm: Gemm) -> None:
        if not gemm.steps:
            return
        self._bounded_steps(gemm.steps)
        dst, src, wgt = self._micro_ops(gemm.uop_bgn, gemm.uop_end - gemm.uop_bgn)
        dst = self._loop(Memory.ACC, dst, gemm, gemm.dst_out, gemm.dst_in)
        self._apart(dst, dst)
        acc = self.memory[Memory.ACC]
        if gemm.reset:
            self._accumulators(dst, np.zeros(1, np.uint64))
            return
        self.reads(Memory.ACC, dst)
        inputs = self.reads(Memory.INP, self._loop(Memory.INP, src, gemm, gemm.src_out, gemm.src_in))
        weights = self.reads(Memory.WGT, self._loop(Memory.WGT, wgt, gemm, gemm.wgt_out, gemm.wgt_in))
        np.add.at(acc.symbol, dst, inputs * weights)
        self._accumulators(dst, acc.symbol[dst])

    def _accumulators(self, dst: Index, symbols: Symbols) -> None:
        """Accumulators, and outputs that mirror them."""
        self.writes(Memory.ACC, dst)
        self.writes(Memory.OUT, dst)
        self._is_shift[dst] = False
        for memory in (Memory.ACC, Memory.OUT):
            self.memory[memory].symbol[dst] = symbols

    @_executes(Alu)
    def _alu(self, instruction: Alu) -> None:
        if not instruction.steps:
            return
        self._bounded_steps(instruction.steps)
        uops = self._micro_ops(instruction.uop_bgn, instruction.uop_end - instruction.uop_bgn)
        dst = self._loop(Memory.ACC, uops[0], instruction, instruction.dst_out, instruction.dst_in)
        self.reads(Memory.ACC, dst)
        acc = self.memory[Memory.ACC]
        alone = acc.distinct(dst)
        if instruction.use_imm:
            self._apart(dst, dst)
            src = dst
            # The published maxima begin at the least int32, made by a shift to the left by 16.
            if instruction.op == AluOp.SHR and not -MAX_SHIFT - 1 <= instruction.imm <= MAX_SHIFT:
                raise self.fail(f"shifts by {instruction.imm}, the hardware has {-MAX_SHIFT - 1}..{MAX_SHIFT}")
        else:
            src = self._loop(Memory.ACC, uops[1], instruction, instruction.src_out, instruction.src_in)
            self._apart(dst, dst, src)
            self.reads(Memory.ACC, src)
            if instruction.op == AluOp.SHR and not self._is_shift[src].all():
                element = first_of(src, ~self._is_shift[src])
                raise self.fail(f"shifts by acc[{element}], which is not a constant of 0..{MAX_SHIFT}")
            acc.scratch[src] = -1
            acc.scratch[dst] = 0
            alone = alone and not (acc.scratch[src] == 0).any()
        step = instruction.steps if alone else PIPELINE  # within the pipeline's depth no step depends on another
        for first in range(0, instruction.steps, step):
            to, of = dst[first : first + step], src[first : first + step]
            right = immediate(instruction.imm) if instruction.use_imm else acc.symbol[of]
            self._accumulators(to, alu(instruction.op, acc.symbol[to], right))

    @_executes(XGemm)
    def _xgemm(self, gemm: XGemm) -> None:
        positions = gemm.rows * gemm.cols
        if not positions * gemm.blocks:
            return
        self._bounded_steps(gemm.steps)
        _, offset, _ = self._micro_ops(gemm.uop_bgn, gemm.uops)
        y, x = np.arange(gemm.rows), np.arange(gemm.cols)
        window = ((gemm.src_base + y * gemm.src_row)[:, None] + x * gemm.src_col).reshape(-1, 1) + offset
        inputs = self.reads(Memory.INP, window & (self.memory[Memory.INP].depth - 1))
        first = np.arange(gemm.blocks)
        weights = self.reads(Memory.WGT, self.span(Memory.WGT, gemm.wgt_base, gemm.blocks * gemm.uops))
        sums = weights.reshape(gemm.blocks, gemm.uops) @ inputs.T
        par = (gemm.par + first) % self.geometry.par_entries
        bias = self.reads(Memory.PAR, par)[:, None]
        memory = Memory.OUT if gemm.epilogue == Epilogue.OUT else Memory.ACC
        each = np.zeros(1, np.int64) if gemm.epilogue == Epilogue.SUM else np.arange(positions)
        store = self.memory[memory]
        dst = ((gemm.dst_base + first * gemm.dst_block)[:, None] + each) & (store.depth - 1)
        if not store.distinct(dst.reshape(-1)):
            raise self.fail("writes an element twice")
        start = self.reads(Memory.ACC, dst) if gemm.accumulate else None
        if gemm.epilogue == Epilogue.SUM:
            values = rectified(sums + bias) if gemm.relu else sums + bias
            result = values.sum(1, keepdims=True, dtype=np.uint64) + (np.uint64(0) if start is None else start)
        else:
            result = sums + (bias if start is None else start)
        if gemm.epilogue == Epilogue.OUT:
            result = narrow(result, self._shift[par][:, None], gemm.low)
        self.writes(memory, dst)
        store.symbol[dst] = result

    @_executes(XAdd)
    def _xadd(self, add: XAdd) -> None:
        count = add.blocks * add.count
        if not count:
            return
        step = np.arange(count).reshape(add.blocks, add.count)
        depth, entries = self.memory[Memory.INP].depth, self.geometry.par_entries
        first, second = (self.reads(Memory.INP, (base + step) % depth) for base in (add.a_base, add.b_base))
        par = [(add.par + 2 * np.arange(add.blocks)[:, None] + operand) % entries for operand in range(2)]
        bias = self.reads(Memory.PAR, par[0]), self.reads(Memory.PAR, par[1])
        result = sum_of((first, second), bias, (self._shift[par[0]], self._shift[par[1]]), add.low)
        dst = self.span(Memory.OUT, add.dst_base, count)
        if not self.memory[Memory.OUT].distinct(dst):
            raise self.fail("writes an element twice")
        self.writes(Memory.OUT, dst)
        self.memory[Memory.OUT].symbol[dst] = result.reshape(-1)
