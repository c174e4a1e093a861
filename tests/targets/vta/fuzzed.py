"""Programs that no compiler makes: every field's layout is known, its value mostly plausible, sometimes anything."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import Instruction, Module, Slot, slots
from squeezeedge.targets.vta.isa.extended import Epilogue, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import AluOp, Load, Store
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS

__all__ = ["fuzzed_programs"]

LONGEST = 24
"""Instructions of a program."""

CYCLES = 3000
"""Limit of a program: long loops are refused, not run."""

DRAM_UNITS = (64, 1024)
"""Smallest and largest DRAM, in units of 16 bytes."""

SIZES = "y_size x_size iter_out iter_in uops blocks rows cols count y_pad_0 y_pad_1 x_pad_0 x_pad_1".split()
WINDOW = "kernel_h kernel_w stride_h stride_w".split()
LARGEST = {"op": int(max(AluOp)), "epilogue": int(max(Epilogue)), "uop_bgn": 3, "uop_end": 8}
LOADED = [Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC, Memory.PAR]
STORED = [Memory.OUT, Memory.ACC]

TOKENS = {
    Module.LOAD: (None, Module.COMPUTE),
    Module.COMPUTE: (Module.LOAD, Module.STORE),
    Module.STORE: (Module.COMPUTE, None),
}
"""The neighbours of a module: previous and next."""


def fuzzed_programs(geometry: Geometry, count: int, seed: int) -> bytes:
    """The file that tests/hls/programs.cpp reads.

    A third of the programs has no tokens, a third tokens that fit each other, a third any tokens.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(0, LONGEST + 1, count)
    words = _instructions(geometry, np.repeat(random.random(count) < 0.3, lengths), random)
    first, parts = 0, []
    for number, length in enumerate(lengths.tolist()):
        program = words[first : first + length]
        first += length
        if number % 3 == 1:
            _fitting_tokens(program, random)
        elif number % 3 == 2:
            program[:, 0] |= random.integers(0, 16, length, np.uint64) << np.uint64(3)
        units = max(int(random.integers(*DRAM_UNITS)), length)
        bases = random.integers(0, units // 4 + 1, 6) * 16
        start = int(random.integers(0, units - length + 1)) * 16
        memory = (int(random.choice([1, 8, 64])), int(random.choice([1, 64, 500])))
        record = [length, start, *bases.tolist(), *memory, CYCLES, 16 * units, int(random.integers(1, 1 << 62))]
        parts += [np.array(record, "<u8").tobytes(), program.astype("<u8").tobytes()]
    return b"".join(parts)


def _instructions(geometry: Geometry, wild: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.uint64]:
    """Instructions without tokens: uint64 [len(wild), 2]. The fields of wild ones may hold anything."""
    codes = random.integers(0, len(INSTRUCTIONS), len(wild))
    words = np.zeros((len(wild), 2), np.uint64)
    words[:, 0] = codes
    for code, kind in INSTRUCTIONS.items():
        at = np.flatnonzero(codes == code)
        for slot in slots(kind, geometry):
            if not slot.name.startswith(("pop_", "push_")):
                value = _values(kind, slot, wild[at], random).astype(np.uint64)
                words[at, slot.word] |= value << np.uint64(slot.low)
    micro_ops = (codes == Load.opcode) & (words[:, 0] >> np.uint64(7) & np.uint64(7) == Memory.UOP) & ~wild
    words[micro_ops, 1] = words[micro_ops, 1] & np.uint64(0xFFFF0000) | np.uint64(1)  # y_size 1, no padding
    return words


def _values(
    kind: type[Instruction], slot: Slot, wild: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.int64]:
    """Values of a field: what makes sense; of wild instructions now and then small numbers, borders or anything."""
    count, top = len(wild), (1 << slot.width) - 1
    small, anything = random.integers(0, min(top, 6) + 1, count), random.integers(0, top + 1, count)
    border = np.maximum((1 << random.integers(0, slot.width + 1, count)) - random.integers(0, 2, count), 0) & top
    if slot.name == "memory":
        plausible = random.choice(STORED if kind is Store else LOADED, count)
    elif slot.name in SIZES:
        plausible = np.maximum(small, int(slot.name == "uops"))
    elif slot.name in WINDOW:
        plausible = np.maximum(small, 1)
    elif slot.name in ("dram_base", "x_stride"):
        plausible = random.integers(0, min(top, 40) + 1, count)
    else:
        plausible = random.integers(0, LARGEST.get(slot.name, top) + 1, count)
    choice = np.where(wild, random.integers(0, 30, count), 29)
    return np.select([choice == 0, choice == 1, choice == 2], [small, border, anything], plausible)


def _module(word: int) -> Module:
    """The module that executes an instruction, as hls/isa.h has it."""
    code, memory = word & 7, word >> 7 & 7
    if code == Load.opcode and memory not in (Memory.UOP, Memory.ACC):
        return Module.LOAD
    if code == XPool.opcode or (code == Store.opcode and memory != Memory.ACC):
        return Module.STORE
    return Module.COMPUTE


def _fitting_tokens(program: NDArray[np.uint64], random: np.random.Generator) -> None:
    """Every token that is taken has been given, and the last instructions take what is left where they can."""
    waiting: Counter[tuple[Module, Module]] = Counter()
    modules = [_module(int(word)) for word in program[:, 0]]
    for number, module in enumerate(modules):
        later = modules[number + 1 :]
        for side, neighbour in enumerate(TOKENS[module]):
            if neighbour is None:
                continue
            left = waiting[neighbour, module]
            if left and (random.random() < 0.5 or later.count(module) < left):
                waiting[neighbour, module] -= 1
                program[number, 0] |= np.uint64(1 << 3 + side)
            if later.count(neighbour) > waiting[module, neighbour] and random.random() < 0.5:
                waiting[module, neighbour] += 1
                program[number, 0] |= np.uint64(1 << 5 + side)
