"""What a program reads and writes, instruction by instruction, in an order that its tokens allow.

Every element of every memory remembers who wrote it and who read it last. An access that the vector clock does not
place after them is a race: it may go either way on a board, even if every simulation is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.encoding import Instruction
from squeezeedge.targets.vta.extension import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.geometry import Memory
from squeezeedge.targets.vta.isa import Alu, AluOp, Finish, Gemm, Load, MicroOp, Store
from squeezeedge.targets.vta.program import VtaProgram
from squeezeedge.targets.vta.verify_symbols import (
    Symbols,
    alu,
    constant,
    digest,
    immediate,
    mix,
    narrow,
    parts,
    pooled,
    rectified,
    sum_of,
)
from squeezeedge.targets.vta.verify_tokens import Trace, Violation

__all__ = ["PIPELINE", "Machine"]

PIPELINE = 8
"""Steps until a GEMM or ALU step's accumulator may be used again (notes in :mod:`.verify`)."""

MOST_SHIFT = 15
"""The hardware's shift is a 5-bit signed number; R3 has none above."""

LOAD, COMPUTE, STORE = range(3)

BY_COMPUTE = 1 << 30
"""Above every place in a module: an element in DRAM that compute wrote, plus the instruction's number."""

Index = NDArray[np.int64]


class _Store:
    """The elements of one memory.

    Attributes:
        name: in messages.
        writer: the module that writes it, a column of the clock.
        reader: the module that reads it.
        written: int32 [depth]: for each element, the place in its module of the instruction that wrote it last; 0 if
            there is none.
        read: likewise.
        symbol: what each element holds.
    """

    def __init__(self, name: str, depth: int, writer: int, reader: int) -> None:
        self.name, self.writer, self.reader = name, writer, reader
        self.written = np.zeros(depth, np.int32)
        self.read = np.zeros(depth, np.int32)
        self.symbol = np.zeros(depth, np.uint64)
        self.scratch = np.zeros(depth, np.int32)

    def distinct(self, index: Index) -> bool:
        """Whether no element comes twice."""
        place = np.arange(index.size, dtype=np.int32)
        self.scratch[index] = place
        return bool((self.scratch[index] == place).all())


class Machine:
    """The memories of the accelerator and the DRAM.

    Args:
        program: with its image.
        trace: of its instructions.
    """

    def __init__(self, program: VtaProgram, trace: Trace) -> None:
        self.program, self.trace, self.geometry = program, trace, program.geometry
        self.wrap = program.profile == "vta-x"
        modules = {
            Memory.UOP: (COMPUTE, COMPUTE),
            Memory.WGT: (LOAD, COMPUTE),
            Memory.INP: (LOAD, COMPUTE),
            Memory.ACC: (COMPUTE, COMPUTE),
            Memory.OUT: (COMPUTE, STORE),
            Memory.PAR: (LOAD, COMPUTE),
        }
        self._memory = {
            memory: _Store(memory.name.lower(), self.geometry.depth(memory), *pair) for memory, pair in modules.items()
        }
        self._uop = np.zeros(self.geometry.depth(Memory.UOP), np.uint32)
        self._shift = np.zeros(self.geometry.par_entries, np.uint64)
        self._is_shift = np.zeros(self.geometry.depth(Memory.ACC), bool)  # holds numbers in 0..15
        self._constants = {memory: self._constant(memory) for memory in (Memory.WGT, Memory.PAR, Memory.ACC)}
        block = self.geometry.block
        self.dram = _Store("dram", program.dram_bytes // block, STORE, LOAD)
        self._region = np.zeros(program.dram_bytes // block, np.int32)  # index of the region + 1, 0 outside of all
        for index, region in enumerate(program.regions):
            cells = slice(region.offset // block, (region.offset + region.size) // block)
            self._region[cells] = index + 1
            if region.writer == "host":
                self.dram.symbol[cells] = mix(np.arange(cells.start, cells.stop, dtype=np.uint64))
            elif region.writer == "device":
                self.dram.symbol[cells] = constant(region.fill, block)
        self._kind = np.array(["", *(region.writer for region in program.regions)])
        self._number = -1
        self._ordinal = 0
        self._clock = np.zeros(3, np.int64)

    def execute(self, number: int, instruction: Instruction) -> None:
        """One instruction.

        Raises:
            Violation: an access that is not allowed.
        """
        self._number, self._ordinal = number, self.trace.ordinal[number]
        self._clock = self.trace.clock[number]
        if isinstance(instruction, Load):
            self._load(instruction)
        elif isinstance(instruction, Store):
            self._store(instruction)
        elif isinstance(instruction, Gemm):
            self._gemm(instruction)
        elif isinstance(instruction, Alu):
            self._alu(instruction)
        elif isinstance(instruction, XGemm):
            self._xgemm(instruction)
        elif isinstance(instruction, XPool):
            self._xpool(instruction)
        elif isinstance(instruction, XAdd):
            self._xadd(instruction)
        else:
            assert isinstance(instruction, Finish)

    def writer(self, cell: int) -> int:
        """The instruction that wrote an element of ``block`` bytes in DRAM; -1 if there is none."""
        written = int(self.dram.written[cell])
        if written >= BY_COMPUTE:
            return written - BY_COMPUTE
        return self.trace.members[STORE][written - 1] if written else -1

    # Accesses ---------------------------------------------------------------------------------------------------------

    def _fail(self, text: str) -> Violation:
        return Violation(self._number, text)

    def _reads(self, memory: Memory, index: Index) -> Symbols:
        """Whoever wrote the elements has ended; returns their symbols."""
        store = self._memory[memory]
        written = store.written[index]
        if written.size:
            if not written.all():
                raise self._fail(f"reads {store.name}[{_first(index, written == 0)}], which nothing has written")
            late = written > self._clock[store.writer]
            if late.any():
                self._race(store, "reads", _first(index, late), store.writer, int(written[late][0]), "has written")
            store.read[index] = self._ordinal
        return store.symbol[index]

    def _writes(self, memory: Memory, index: Index) -> None:
        """Whoever read the elements has ended."""
        store = self._memory[memory]
        late = store.read[index] > self._clock[store.reader]
        if store.reader != store.writer and late.any():
            reader = int(store.read[index][late][0])
            self._race(store, "overwrites", _first(index, late), store.reader, reader, "has read")
        store.written[index] = self._ordinal

    def _race(self, store: _Store, verb: str, element: int, place: int, ordinal: int, done: str) -> None:
        other = self.trace.members[place][ordinal - 1]
        raise self._fail(f"{verb} {store.name}[{element}] before instruction {other} has surely {done.split()[1]} it")

    def _bounded(self, memory: Memory, last: int) -> None:
        """In the profile ``vta`` no index wraps."""
        if not self.wrap and last >= self.geometry.depth(memory):
            name, depth = memory.name.lower(), self.geometry.depth(memory)
            raise self._fail(f"uses {name}[{last}], the memory has {depth} elements")

    def _span(self, memory: Memory, first: int, count: int) -> Index:
        """Consecutive elements."""
        depth = self.geometry.depth(memory)
        if first >= depth:
            raise self._fail(f"begins at {memory.name.lower()}[{first}], the memory has {depth} elements")
        self._bounded(memory, first + count - 1)
        return (first + np.arange(count)) % depth

    # DRAM -------------------------------------------------------------------------------------------------------------

    def _rows(self, memory: Memory, instruction: Load | Store | XPool) -> Index:
        """Elements [rows, columns] that a transfer touches, from the memory's base register."""
        rows = instruction.dram_base + instruction.x_stride * np.arange(instruction.y_size)
        return rows[:, None] + np.arange(instruction.x_size)

    def _constant(self, memory: Memory) -> tuple[Symbols, ...]:
        """Symbols of the constants of a memory; parameters have two."""
        size, block = self.geometry.element_bytes(memory), self.geometry.block
        region = next((region for region in self.program.regions if region.name == memory.name.lower()), None)
        if region is None or region.writer != "compiler":
            return (np.zeros(0, np.uint64),) * 2
        raw = np.frombuffer(self.program.image, np.uint8, region.size // size * size, region.offset).reshape(-1, size)
        if memory == Memory.PAR:
            return digest(raw[:, : 4 * block]), digest(raw[:, 4 * block :])
        return (digest(raw),)

    def _constants_at(self, memory: Memory, load: Load) -> Index:
        """Elements of the region of a memory's constants."""
        name, size = memory.name.lower(), self.geometry.element_bytes(memory)
        region = next((region for region in self.program.regions if region.name == name), None)
        if region is None or region.writer != "compiler" or self.program.bases[name] != region.offset:
            raise self._fail(f"loads {name} constants, the program has no such region at the base register")
        index = self._rows(memory, load)
        if index.size and index[-1, -1] >= region.size // size:
            raise self._fail(f"loads {name} constant {index[-1, -1]} of {region.size // size}")
        return index.reshape(-1)

    def _raw(self, memory: Memory, index: Index) -> NDArray[np.uint8]:
        size, region = self.geometry.element_bytes(memory), self.program.region(memory.name.lower())
        data = np.frombuffer(self.program.image, np.uint8, region.size // size * size, region.offset)
        raw: NDArray[np.uint8] = data.reshape(-1, size)[index]
        return raw

    def _cells(self, base: str, index: Index, kinds: tuple[str, ...], verb: str) -> Index:
        """Elements of ``block`` bytes in DRAM, [rows, columns]; each row in one region of these kinds."""
        block = self.geometry.block
        first, odd = divmod(self.program.bases[base], block)
        cells = first + index
        if odd or (index.size and cells.max() >= len(self._region)):
            raise self._fail(f"{verb} outside of the DRAM")
        if index.size:
            regions = self._region[cells]
            bad = (regions != regions[:, :1]) | ~np.isin(self._kind[regions], kinds)
            if bad.any():
                element = int(index[bad][0])
                name = self.program.regions[int(regions[bad][0]) - 1].name if regions[bad][0] else "no region"
                raise self._fail(f"{verb} {base} element {element} in DRAM, which is in {name}: not the place for it")
        return cells.reshape(-1)

    def _to_dram(self, cells: Index, symbols: Symbols) -> None:
        """Results go to DRAM once a run, and nobody has read what was there before."""
        if not self.dram.distinct(cells) or self.dram.written[cells].any():
            raise self._fail("stores to an element in DRAM that is stored to twice in a run")
        if self.dram.read[cells].any():
            reader = self.trace.members[LOAD][int(self.dram.read[cells].max()) - 1]
            raise self._fail(f"stores to an element in DRAM after instruction {reader} has read it")
        by_compute = self.trace.column[self._number] == COMPUTE
        self.dram.written[cells] = BY_COMPUTE + self._number if by_compute else self._ordinal
        self.dram.symbol[cells] = symbols

    # Transfers --------------------------------------------------------------------------------------------------------

    def _load(self, load: Load) -> None:
        memory, count = load.memory, load.height * load.width
        if not count:
            return
        index = self._span(memory, load.sram_base, count)
        self._writes(memory, index)
        store = self._memory[memory]
        if memory == Memory.INP:
            tile = np.full((load.height, load.width), constant(0x80 if load.pad_low else 0, self.geometry.block))
            rows, columns = slice(load.y_pad_0, load.y_pad_0 + load.y_size), slice(load.x_pad_0, load.x_pad_0 + load.x_size)
            tile[rows, columns] = self._activations(load)
            store.symbol[index] = tile.reshape(-1)
            return
        at = self._constants_at(memory, load)
        if memory == Memory.UOP:
            self._uop[index] = self._raw(memory, at).view("<u4")[:, 0]
        elif memory == Memory.PAR:
            if (self._raw(memory, at)[:, 4 * self.geometry.block :] > MOST_SHIFT).any():
                raise self._fail(f"loads a shift above {MOST_SHIFT}")
            store.symbol[index], self._shift[index] = (table[at] for table in self._constants[memory])
        elif memory == Memory.WGT:
            store.symbol[index] = self._constants[memory][0][at]
        else:
            self._load_vectors(load, index, at)

    def _load_vectors(self, load: Load, index: Index, at: Index) -> None:
        """Accumulators: implementations differ in whether the outputs mirror them, so those become undefined."""
        if any(load.pads):
            raise self._fail("pads accumulators")
        self._memory[Memory.ACC].symbol[index] = self._constants[Memory.ACC][0][at]
        values = self._raw(Memory.ACC, at).view("<i4")
        self._is_shift[index] = ((values >= 0) & (values <= MOST_SHIFT)).all(1)
        self._writes(Memory.OUT, index)
        self._memory[Memory.OUT].written[index] = 0

    def _activations(self, load: Load) -> Symbols:
        cells = self._cells("inp", self._rows(Memory.INP, load), ("host", "device"), "loads")
        late = self.dram.written[cells] > self._clock[STORE]
        if late.any():
            store = self.writer(int(cells[late][0]))
            raise self._fail(f"loads from DRAM before what instruction {store} stores there is surely confirmed")
        self.dram.read[cells] = self._ordinal
        return self.dram.symbol[cells].reshape(load.y_size, load.x_size)

    def _store(self, store: Store) -> None:
        if not store.y_size * store.x_size:
            return
        values = self._reads(store.memory, self._span(store.memory, store.sram_base, store.y_size * store.x_size))
        rows = self._rows(store.memory, store)
        if store.memory == Memory.OUT:
            self._to_dram(self._cells("out", rows, ("device",), "stores"), values)
            return
        wide = (4 * rows[..., None] + np.arange(4)).reshape(len(rows), -1)
        self._to_dram(self._cells("acc", wide, ("device",), "stores"), parts(values, 4).reshape(-1))

    def _xpool(self, pool: XPool) -> None:
        if not pool.y_size * pool.x_size:
            return
        y = np.arange(pool.y_size)[:, None] * pool.stride_h + np.arange(pool.kernel_h) - pool.pad_top
        x = np.arange(pool.x_size)[:, None] * pool.stride_w + np.arange(pool.kernel_w) - pool.pad_left
        valid = ((y >= 0) & (y < pool.rows))[:, None, :, None] & ((x >= 0) & (x < pool.cols))[None, :, None, :]
        tap = np.where(valid, y[:, None, :, None] * pool.cols + x[None, :, None, :], 0)
        used = tap[valid]
        tile = self._span(Memory.OUT, pool.sram_base, pool.rows * pool.cols)
        self._reads(Memory.OUT, tile[used])
        shape = (pool.y_size, pool.x_size, pool.kernel_h * pool.kernel_w)
        taps = np.zeros(shape, np.uint64)
        taps[valid.reshape(shape)] = self._memory[Memory.OUT].symbol[tile[used]]
        cells = self._cells("out", self._rows(Memory.OUT, pool), ("device",), "stores")
        self._to_dram(cells, pooled(taps, valid.reshape(shape)).reshape(-1))

    # Compute ----------------------------------------------------------------------------------------------------------

    def _micro_ops(self, first: int, count: int) -> tuple[Index, Index, Index]:
        """dst, src and wgt of micro-ops, each [count]."""
        index = self._span(Memory.UOP, first, count)
        self._reads(Memory.UOP, index)
        words = self._uop[index].astype(np.int64)
        whole, acc = MicroOp.decode((1 << 32) - 1, self.geometry), self.geometry.acc_bits
        return words & whole.dst, words >> acc & whole.src, words >> acc + whole.src.bit_length() & whole.wgt

    def _bounded_steps(self, steps: int) -> None:
        most = self.geometry.depth(Memory.ACC) * self.geometry.depth(Memory.WGT)
        if steps > most:
            raise self._fail(f"{steps} steps, more than the accumulators times the weights ({most})")

    def _loop(self, memory: Memory, uops: Index, instruction: Gemm | Alu, out: int, inner: int) -> Index:
        """The index of every step: [iter_out * iter_in * micro-ops]."""
        y, x = np.arange(instruction.iter_out), np.arange(instruction.iter_in)
        index: Index = ((y * out)[:, None] + x * inner)[..., None] + uops
        self._bounded(memory, int(index.max()))
        return index.reshape(-1) % self.geometry.depth(memory)

    def _apart(self, dst: Index, *used: Index) -> None:
        """No step uses an accumulator that one of the last steps writes."""
        for index in used:
            for distance in range(1, min(PIPELINE, len(dst))):
                same = index[distance:] == dst[:-distance]
                if same.any():
                    text = f"uses acc[{_first(index[distance:], same)}] again after {distance} steps"
                    raise self._fail(f"{text}; the pipeline needs {PIPELINE}")

    def _gemm(self, gemm: Gemm) -> None:
        if not gemm.steps:
            return
        self._bounded_steps(gemm.steps)
        dst, src, wgt = self._micro_ops(gemm.uop_bgn, gemm.uop_end - gemm.uop_bgn)
        dst = self._loop(Memory.ACC, dst, gemm, gemm.dst_out, gemm.dst_in)
        self._apart(dst, dst)
        acc = self._memory[Memory.ACC]
        if gemm.reset:
            self._accumulators(dst, np.zeros(1, np.uint64))
            return
        self._reads(Memory.ACC, dst)
        inputs = self._reads(Memory.INP, self._loop(Memory.INP, src, gemm, gemm.src_out, gemm.src_in))
        weights = self._reads(Memory.WGT, self._loop(Memory.WGT, wgt, gemm, gemm.wgt_out, gemm.wgt_in))
        np.add.at(acc.symbol, dst, inputs * weights)
        self._accumulators(dst, acc.symbol[dst])

    def _accumulators(self, dst: Index, symbols: Symbols) -> None:
        """Accumulators, and outputs that mirror them."""
        self._writes(Memory.ACC, dst)
        self._writes(Memory.OUT, dst)
        self._is_shift[dst] = False
        for memory in (Memory.ACC, Memory.OUT):
            self._memory[memory].symbol[dst] = symbols

    def _alu(self, instruction: Alu) -> None:
        if not instruction.steps:
            return
        self._bounded_steps(instruction.steps)
        uops = self._micro_ops(instruction.uop_bgn, instruction.uop_end - instruction.uop_bgn)
        dst = self._loop(Memory.ACC, uops[0], instruction, instruction.dst_out, instruction.dst_in)
        self._reads(Memory.ACC, dst)
        acc = self._memory[Memory.ACC]
        alone = acc.distinct(dst)
        if instruction.use_imm:
            self._apart(dst, dst)
            src = dst
            # The published maxima begin at the least int32, which a shift to the left by 16 makes.
            if instruction.op == AluOp.SHR and not -16 <= instruction.imm <= MOST_SHIFT:
                raise self._fail(f"shifts by {instruction.imm}, the hardware has -16..{MOST_SHIFT}")
        else:
            src = self._loop(Memory.ACC, uops[1], instruction, instruction.src_out, instruction.src_in)
            self._apart(dst, dst, src)
            self._reads(Memory.ACC, src)
            if instruction.op == AluOp.SHR and not self._is_shift[src].all():
                element = _first(src, ~self._is_shift[src])
                raise self._fail(f"shifts by acc[{element}], which is not a constant of 0..{MOST_SHIFT}")
            acc.scratch[src] = -1
            acc.scratch[dst] = 0
            alone = alone and not (acc.scratch[src] == 0).any()
        step = instruction.steps if alone else PIPELINE  # within the pipeline's depth no step depends on another
        for first in range(0, instruction.steps, step):
            to, of = dst[first : first + step], src[first : first + step]
            right = immediate(instruction.imm) if instruction.use_imm else acc.symbol[of]
            self._accumulators(to, alu(instruction.op, acc.symbol[to], right))

    def _xgemm(self, gemm: XGemm) -> None:
        positions = gemm.rows * gemm.cols
        if not positions * gemm.blocks:
            return
        self._bounded_steps(gemm.steps)
        _, offset, _ = self._micro_ops(gemm.uop_bgn, gemm.uops)
        y, x = np.arange(gemm.rows), np.arange(gemm.cols)
        window = ((gemm.src_base + y * gemm.src_row)[:, None] + x * gemm.src_col).reshape(-1, 1) + offset
        inputs = self._reads(Memory.INP, window % self.geometry.depth(Memory.INP))
        first = np.arange(gemm.blocks)
        weights = self._reads(Memory.WGT, self._span(Memory.WGT, gemm.wgt_base, gemm.blocks * gemm.uops))
        sums = weights.reshape(gemm.blocks, gemm.uops) @ inputs.T
        par = (gemm.par + first) % self.geometry.par_entries
        bias = self._reads(Memory.PAR, par)[:, None]
        memory = Memory.OUT if gemm.epilogue == Epilogue.OUT else Memory.ACC
        each = np.zeros(1, np.int64) if gemm.epilogue == Epilogue.SUM else np.arange(positions)
        dst = ((gemm.dst_base + first * gemm.dst_block)[:, None] + each) % self.geometry.depth(memory)
        store = self._memory[memory]
        if not store.distinct(dst.reshape(-1)):
            raise self._fail("writes an element twice")
        start = self._reads(Memory.ACC, dst) if gemm.accumulate else None
        if gemm.epilogue == Epilogue.SUM:
            values = rectified(sums + bias) if gemm.relu else sums + bias
            result = values.sum(1, keepdims=True, dtype=np.uint64) + (np.uint64(0) if start is None else start)
        else:
            result = sums + (bias if start is None else start)
        if gemm.epilogue == Epilogue.OUT:
            result = narrow(result, self._shift[par][:, None], gemm.low)
        self._writes(memory, dst)
        store.symbol[dst] = result

    def _xadd(self, add: XAdd) -> None:
        count = add.blocks * add.count
        if not count:
            return
        step = np.arange(count).reshape(add.blocks, add.count)
        depth, entries = self.geometry.depth(Memory.INP), self.geometry.par_entries
        first, second = (self._reads(Memory.INP, (base + step) % depth) for base in (add.a_base, add.b_base))
        par = [(add.par + 2 * np.arange(add.blocks)[:, None] + operand) % entries for operand in range(2)]
        bias = self._reads(Memory.PAR, par[0]), self._reads(Memory.PAR, par[1])
        result = sum_of((first, second), bias, (self._shift[par[0]], self._shift[par[1]]), add.low)
        dst = self._span(Memory.OUT, add.dst_base, count)
        if not self._memory[Memory.OUT].distinct(dst):
            raise self._fail("writes an element twice")
        self._writes(Memory.OUT, dst)
        self._memory[Memory.OUT].symbol[dst] = result.reshape(-1)


def _first(index: Index, mask: NDArray[np.bool_]) -> int:
    return int(index[mask].flat[0])
