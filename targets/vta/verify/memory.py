"""The verifier's memories: who wrote and who read each element last, and what it holds.

An access is a race if the vector clock does not place it after these: its result may vary on a board, even if every
simulation is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.extended import XPool
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.program import Region, VtaProgram
from squeezeedge.targets.vta.isa.published import Load, Store
from squeezeedge.targets.vta.verify.symbols import Symbols, constant, digest, mix
from squeezeedge.targets.vta.verify.tokens import Trace, Violation

__all__ = ["Elements", "Index", "Memories", "first_of"]

LOAD, COMPUTE, STORE = range(3)

BY_COMPUTE = 1 << 30
"""Above every place in a module: an element in DRAM that compute wrote, plus the instruction's number."""

Index = NDArray[np.int64]


class Elements:
    """The elements of one memory.

    Attributes:
        name: in messages.
        depth: elements; of the on-chip memories a power of two.
        writer: the module that writes it, a column of the clock.
        reader: the module that reads it.
        written: int32 [depth]: for each element, the place in its module of the instruction that wrote it last; 0 if
            there is none.
        read: likewise.
        symbol: what each element holds.
    """

    def __init__(self, name: str, depth: int, writer: int, reader: int) -> None:
        self.name, self.depth, self.writer, self.reader = name, depth, writer, reader
        self.written = np.zeros(depth, np.int32)
        self.read = np.zeros(depth, np.int32)
        self.symbol = np.zeros(depth, np.uint64)
        self.scratch = np.zeros(depth, np.int32)

    def distinct(self, index: Index) -> bool:
        """Whether no element comes twice."""
        place = np.arange(index.size, dtype=np.int32)
        self.scratch[index] = place
        return bool((self.scratch[index] == place).all())


class Memories:
    """The memories of the accelerator and the DRAM, and the rules of their accesses.

    Args:
        program: with its image.
        trace: of its instructions.

    Raises:
        Violation: a region that holds a part of an element.
    """

    def __init__(self, program: VtaProgram, trace: Trace) -> None:
        self.program, self.trace, self.geometry = program, trace, program.geometry
        self.wrap = program.instructions == "extended"
        modules = {
            Memory.UOP: (COMPUTE, COMPUTE),
            Memory.WGT: (LOAD, COMPUTE),
            Memory.INP: (LOAD, COMPUTE),
            Memory.ACC: (COMPUTE, COMPUTE),
            Memory.OUT: (COMPUTE, STORE),
            Memory.PAR: (LOAD, COMPUTE),
        }
        self.memory = {
            memory: Elements(memory.name.lower(), self.geometry.depth(memory), *pair)
            for memory, pair in modules.items()
        }
        self.constants = {memory: self._constant(memory) for memory in (Memory.WGT, Memory.PAR, Memory.ACC)}
        block = self.geometry.block
        self.dram = Elements("dram", program.dram_bytes // block, STORE, LOAD)
        self._region = np.zeros(program.dram_bytes // block, np.int32)  # index of the region + 1, 0 outside of all
        for index, region in enumerate(program.regions):
            if region.writer != "compiler" and (region.offset % block or region.size % block):
                raise Violation(-1, f"region {region.name} is not made of elements of {block} bytes")
            cells = slice(region.offset // block, (region.offset + region.size) // block)
            self._region[cells] = index + 1
            if region.writer == "host":
                self.dram.symbol[cells] = mix(np.arange(cells.start, cells.stop, dtype=np.uint64))
            elif region.writer == "device":
                self.dram.symbol[cells] = constant(region.fill, block)
        writers = ["", *(region.writer for region in program.regions)]
        self.readable = np.array([writer in ("host", "device") for writer in writers])
        self.writable = np.array([writer == "device" for writer in writers])
        self.number = -1
        self.ordinal = 0
        self.clock = np.zeros(3, np.int64)

    def writer(self, cell: int) -> int:
        """The instruction that wrote an element of ``block`` bytes in DRAM; -1 if there is none."""
        written = int(self.dram.written[cell])
        if written >= BY_COMPUTE:
            return written - BY_COMPUTE
        return self.trace.members[STORE][written - 1] if written else -1

    # Accesses ---------------------------------------------------------------------------------------------------------

    def fail(self, text: str) -> Violation:
        """The current instruction is wrong."""
        return Violation(self.number, text)

    def reads(self, memory: Memory, index: Index) -> Symbols:
        """Whoever wrote the elements has ended; returns their symbols."""
        store = self.memory[memory]
        written = store.written[index]
        if written.size:
            if not written.all():
                raise self.fail(f"reads {store.name}[{first_of(index, written == 0)}], which nothing has written")
            late = written > self.clock[store.writer]
            if late.any():
                self._race(store, "reads", first_of(index, late), store.writer, int(written[late][0]), "writes")
            store.read[index] = self.ordinal
        return store.symbol[index]

    def writes(self, memory: Memory, index: Index) -> None:
        """Whoever read the elements has ended."""
        store = self.memory[memory]
        late = store.read[index] > self.clock[store.reader]
        if store.reader != store.writer and late.any():
            reader = int(store.read[index][late][0])
            self._race(store, "overwrites", first_of(index, late), store.reader, reader, "reads")
        store.written[index] = self.ordinal

    def _race(self, store: Elements, verb: str, element: int, place: int, ordinal: int, other_verb: str) -> None:
        other = self.trace.members[place][ordinal - 1]
        raise self.fail(
            f"{verb} {store.name}[{element}] in no certain order with instruction {other}, which {other_verb} it"
        )

    def bounded(self, memory: Memory, last: int) -> None:
        """In published instructions no index wraps."""
        store = self.memory[memory]
        if not self.wrap and last >= store.depth:
            raise self.fail(f"uses {store.name}[{last}], the memory has {store.depth} elements")

    def span(self, memory: Memory, first: int, count: int) -> Index:
        """Consecutive elements."""
        store = self.memory[memory]
        if first >= store.depth:
            raise self.fail(f"begins at {store.name}[{first}], the memory has {store.depth} elements")
        self.bounded(memory, first + count - 1)
        return np.arange(first, first + count) & (store.depth - 1)

    # DRAM -------------------------------------------------------------------------------------------------------------

    def rows(self, instruction: Load | Store | XPool) -> Index:
        """Elements [rows, columns] that a transfer touches, from the memory's base register."""
        rows = instruction.dram_base + instruction.x_stride * np.arange(instruction.y_size)
        return rows[:, None] + np.arange(instruction.x_size)

    def _constant(self, memory: Memory) -> tuple[Symbols, ...]:
        """Symbols of the constants of a memory; parameters have two."""
        region = self._constant_region(memory)
        if region is None:
            return (np.zeros(0, np.uint64),)
        raw = self.raw(memory, np.arange(region.size // self.geometry.element_bytes(memory)))
        if memory == Memory.PAR:
            bias_bytes = 4 * self.geometry.block
            return digest(raw[:, :bias_bytes]), digest(raw[:, bias_bytes:])
        return (digest(raw),)

    def _constant_region(self, memory: Memory) -> Region | None:
        """Where the constants of a memory lie, at its base register."""
        name = memory.name.lower()
        found = (region for region in self.program.regions if region.name == name and region.writer == "compiler")
        region = next(found, None)
        return region if region and self.program.bases[name] == region.offset else None

    def constants_at(self, memory: Memory, load: Load) -> Index:
        """Elements of the region of a memory's constants."""
        name, size = memory.name.lower(), self.geometry.element_bytes(memory)
        region = self._constant_region(memory)
        if region is None:
            raise self.fail(f"loads {name} constants, the program has no such region at the base register")
        index = self.rows(load)
        if index.size and index[-1, -1] >= region.size // size:
            raise self.fail(f"loads {name} constant {index[-1, -1]} of {region.size // size}")
        return index.reshape(-1)

    def raw(self, memory: Memory, index: Index) -> NDArray[np.uint8]:
        """Constants of a memory: uint8 [n, bytes of one]."""
        size, region = self.geometry.element_bytes(memory), self.program.region(memory.name.lower())
        data = np.frombuffer(self.program.image, np.uint8, region.size // size * size, region.offset)
        raw: NDArray[np.uint8] = data.reshape(-1, size)[index]
        return raw

    def cells(self, base: str, index: Index, allowed: NDArray[np.bool_], verb: str) -> Index:
        """Elements of ``block`` bytes in DRAM, [rows, columns]; each row in one allowed region."""
        block = self.geometry.block
        first, odd = divmod(self.program.bases[base], block)
        cells = first + index
        if odd or (index.size and cells.max() >= len(self._region)):
            raise self.fail(f"{verb} outside of the DRAM")
        if index.size:
            regions = self._region[cells]
            bad = (regions != regions[:, :1]) | ~allowed[regions]
            if bad.any():
                element = int(index[bad][0])
                name = self.program.regions[int(regions[bad][0]) - 1].name if regions[bad][0] else "no region"
                raise self.fail(f"{verb} {base} element {element} in DRAM, which is in {name}: not the place for it")
        return cells.reshape(-1)

    def to_dram(self, cells: Index, symbols: Symbols) -> None:
        """Results go to DRAM once a run, and nobody has read what was there before."""
        if not self.dram.distinct(cells) or self.dram.written[cells].any():
            raise self.fail("stores to an element in DRAM that is stored to twice in a run")
        if self.dram.read[cells].any():
            reader = self.trace.members[LOAD][int(self.dram.read[cells].max()) - 1]
            raise self.fail(f"stores to an element in DRAM after instruction {reader} has read it")
        by_compute = self.trace.column[self.number] == COMPUTE
        self.dram.written[cells] = BY_COMPUTE + self.number if by_compute else self.ordinal
        self.dram.symbol[cells] = symbols


def first_of(index: Index, mask: NDArray[np.bool_]) -> int:
    """The first element that is marked."""
    return int(index[mask].flat[0])
