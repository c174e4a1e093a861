"""Damaged programs: the verifier refuses each, or it is harmless on the simulator in several timings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, IntegerGraph, oracle
from squeezeedge.lower.patterns import partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet, Module, slots
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.published import Load
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS
from squeezeedge.targets.vta.lower.compiler import FUSIONS, compile_program
from squeezeedge.targets.vta.lower.layers import ConvLayer, Layers
from squeezeedge.targets.vta.lower.lowering import to_layers
from squeezeedge.targets.vta.lower.tensors import Value
from squeezeedge.targets.vta.sim.simulator import Registers, SimulationError, Simulator, Timing
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from tests.graphs import GraphBuilder, random_images

GEOMETRY = Geometry(inp_buffer=1 << 12, wgt_buffer=1 << 14, acc_buffer=1 << 14, uop_buffer=1 << 12, par_entries=16)
TIMINGS = (Timing(8, 64), Timing(1, 300), Timing(64, 1), Timing(16, 3000))
SAMPLE: dict[InstructionSet, int] = {"extended": 18, "published": 8}
"""Mutants of each kind; a kind that has fewer is taken whole."""

REFUSED = 0.8
"""Of all mutants, refused at least; the others must be harmless."""

TOKENS = ("pop_prev", "pop_next", "push_prev", "push_next")
FIELDS = {
    "DRAM address": "dram_base",
    "SRAM base": "sram_base src_base dst_base wgt_base a_base b_base par uop_bgn",
    "loop factor": "dst_out dst_in src_out src_in wgt_out wgt_in src_row src_col dst_block x_stride stride_h stride_w",
    "count": "y_size x_size uop_end uops iter_out iter_in blocks rows cols count kernel_h kernel_w "
    "y_pad_0 y_pad_1 x_pad_0 x_pad_1 pad_top pad_left",
    "operation": "memory op use_imm imm reset epilogue accumulate low relu pad_low",
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, what it was compiled to, and what it answers."""

    program: VtaProgram
    layers: Layers
    images: NDArray[np.uint8]
    sums: NDArray[np.int32]
    results: NDArray[np.int64]  # bytes in DRAM that every run writes


def network() -> IntegerGraph:
    """A bit of everything, in tiles: pooling, a fire module, a bypass of either kind, a 3x3 head."""
    builder = GraphBuilder(np.random.default_rng(7), (23, 21))
    value = builder.pool(builder.conv(IMAGE, 24, (3, 3), (2, 2), (1, 1, 1, 1)), padding=(1, 1, 1, 1))
    value = builder.fire(value, 8, (16, 20))
    branch = builder.conv(value, 36, (3, 3), (1, 1), (1, 1, 1, 1), 128)
    value = builder.pool(builder.add(value, branch), (2, 2), (1, 1))
    return builder.finish(value, 20, (3, 3), (1, 1), (1, 1, 1, 1))


@cache
def subject(instructions: InstructionSet) -> Subject:
    graph = network()
    parts = stages(partition(to_relax(graph), FUSIONS), graph)
    program = compile_program(parts, GEOMETRY, instructions)
    layers = to_layers(parts, GEOMETRY.block, halos=instructions == "published")
    images = random_images(graph, 2, 0)
    values: list[Value] = []
    for layer in layers.layers:
        targets = [part.target for part in layer.parts] if isinstance(layer, ConvLayer) else [layer.target]
        values += [target for target in targets if target is not None]
    elements = np.concatenate([_elements(value) for value in values])
    results = program.bases["out"] + (elements[:, None] * GEOMETRY.block + np.arange(GEOMETRY.block)).reshape(-1)
    return Subject(program, layers, images, oracle.run(graph, images), results)


def _elements(value: Value) -> NDArray[np.int64]:
    y, x = np.arange(value.height)[:, None], np.arange(value.width)
    return (np.array(value.origins)[:, None, None] + y * value.pitch + x).reshape(-1)


@cache
def simulator() -> Simulator:
    return Simulator(GEOMETRY)


def harmless(program: VtaProgram, subject: Subject) -> bool:
    """Right sums in every timing, from random memories and random old results."""
    random = np.random.default_rng(0)
    host, dram = program.host(), np.zeros(program.dram_bytes, np.uint8)
    for timing in TIMINGS:
        host.load(dram)
        for image, expected in zip(subject.images, subject.sums, strict=True):
            for memory in Memory:
                contents = simulator().memory(memory)
                contents[:] = random.integers(0, 256, contents.shape)
            dram[subject.results] = random.integers(0, 256, len(subject.results))
            host.pack(image, dram)
            try:
                simulator().run(dram, Registers(**program.registers()), replace(timing, cycle_limit=1 << 24))
            except SimulationError:
                return False
            if not np.array_equal(host.result(dram), expected):
                return False
    return True


# Mutations ------------------------------------------------------------------------------------------------------------

Mutant = Callable[[], VtaProgram]


def patched(program: VtaProgram, offset: int, data: bytes) -> VtaProgram:
    image = bytearray(program.image)
    image[offset : offset + len(data)] = data
    return replace(program, image=bytes(image))


def with_words(program: VtaProgram, words: NDArray[np.uint64]) -> VtaProgram:
    """Another program in the place of the old one, not longer than that."""
    count = len(words)
    regions = tuple(
        replace(region, size=16 * count) if region.name == "program" else region for region in program.regions
    )
    changed = patched(program, program.region("program").offset, words.tobytes())
    return replace(changed, regions=regions, count=count, instruction_layers=program.instruction_layers[:count])


def with_fields(program: VtaProgram, changes: Sequence[tuple[int, str, int]]) -> VtaProgram:
    """Fields (instruction, name, value), in the words; what does not fit wraps."""
    words = program.words().copy()
    for number, name, value in changes:
        kind = INSTRUCTIONS[int(words[number, 0]) & 7]
        slot = next(slot for slot in slots(kind, program.geometry) if slot.name == name)
        mask = (1 << slot.width) - 1
        word = int(words[number, slot.word]) & ~(mask << slot.low)
        words[number, slot.word] = word | (value & mask) << slot.low
    return with_words(program, words)


def flips(program: VtaProgram, *, given: bool) -> Iterator[Mutant]:
    """Every token bit that is set, or that is not."""
    for number, instruction in enumerate(program.decoded()):
        for name in TOKENS:
            if getattr(instruction, name) == given:
                yield partial(with_fields, program, [(number, name, not given)])


def pairs(program: VtaProgram) -> Iterator[Mutant]:
    """Every token neither given nor taken."""
    instructions = program.decoded()
    for giver, push, taker, pop in (
        (Module.LOAD, "push_next", Module.COMPUTE, "pop_prev"),
        (Module.COMPUTE, "push_prev", Module.LOAD, "pop_next"),
        (Module.COMPUTE, "push_next", Module.STORE, "pop_prev"),
        (Module.STORE, "push_prev", Module.COMPUTE, "pop_next"),
    ):
        given = [n for n, i in enumerate(instructions) if i.module is giver and getattr(i, push)]
        taken = [n for n, i in enumerate(instructions) if i.module is taker and getattr(i, pop)]
        for at, to in zip(given, taken, strict=True):
            yield partial(with_fields, program, [(at, push, 0), (to, pop, 0)])


def moves(program: VtaProgram) -> Iterator[Mutant]:
    """Every token given an instruction of the module earlier, or taken one later."""
    instructions = program.decoded()
    for module in (Module.LOAD, Module.COMPUTE, Module.STORE):
        members = [number for number, instruction in enumerate(instructions) if instruction.module is module]
        for before, after in pairwise(members):
            for name, here, there in (
                ("push_prev", after, before),
                ("push_next", after, before),
                ("pop_prev", before, after),
                ("pop_next", before, after),
            ):
                if getattr(instructions[here], name) and not getattr(instructions[there], name):
                    yield partial(with_fields, program, [(here, name, 0), (there, name, 1)])


def shifts(program: VtaProgram, names: Sequence[str], random: np.random.Generator) -> Iterator[Mutant]:
    """Every field by one in both directions, and by a random amount."""
    for number, instruction in enumerate(program.decoded()):
        for slot in slots(type(instruction), program.geometry):
            if slot.name not in names:
                continue
            value = int(getattr(instruction, slot.name))
            for amount in (1, -1, int(random.integers(2, 100))):
                yield partial(with_fields, program, [(number, slot.name, value + amount)])


def swaps(program: VtaProgram) -> Iterator[Mutant]:
    """Every two instructions that follow each other in a module."""
    instructions = program.decoded()
    last: dict[object, int] = {}
    for number, instruction in enumerate(instructions):
        before = last.get(instruction.module)
        last[instruction.module] = number
        if before is not None and instructions[before] != instruction:
            order = np.arange(program.count)
            order[[before, number]] = number, before
            yield partial(with_words, program, program.words()[order])


def removals(program: VtaProgram) -> Iterator[Mutant]:
    """Every instruction left out, or in the place of the one behind it."""
    for number in range(program.count):
        yield partial(with_words, program, np.delete(program.words(), number, 0))
        if number + 1 < program.count:
            order = np.arange(program.count)
            order[number + 1] = number
            yield partial(with_words, program, program.words()[order])


def micro_ops(program: VtaProgram) -> Iterator[Mutant]:
    """Every bit of every micro-op."""
    offset = program.region("uop").offset
    for index, word in enumerate(program.micro_ops()):
        for bit in range(32):
            data = (int(word) ^ 1 << bit).to_bytes(4, "little")
            yield partial(patched, program, offset + 4 * index, data)


def words(program: VtaProgram) -> Iterator[Mutant]:
    """Every bit of every instruction."""
    offset = program.region("program").offset
    for byte in range(16 * program.count):
        for bit in range(8):
            yield partial(patched, program, offset + byte, bytes([program.image[offset + byte] ^ 1 << bit]))


def mutations(program: VtaProgram) -> dict[str, list[Mutant]]:
    """All mutants by their kind."""
    random = np.random.default_rng(0)
    kinds = {name: list(shifts(program, fields.split(), random)) for name, fields in FIELDS.items()}
    kinds |= {"token dropped": list(flips(program, given=True)), "token added": list(flips(program, given=False))}
    kinds |= {"token pair dropped": list(pairs(program)), "token moved": list(moves(program))}
    kinds |= {"neighbours swapped": list(swaps(program)), "instruction missing": list(removals(program))}
    return kinds | {"micro-op bit": list(micro_ops(program)), "instruction bit": list(words(program))}


def kills(instructions: InstructionSet, sample: int) -> dict[str, Counter[str]]:
    """By kind: how many mutants the verifier refused, how many it accepted and the simulator agreed, or did not."""
    case, random = subject(instructions), np.random.default_rng(1)
    table = {}
    for kind, mutants in mutations(case.program).items():
        chosen = random.permutation(len(mutants))[:sample]
        table[kind] = Counter(_fate(mutants[index](), case) for index in chosen)
    return table


def _fate(program: VtaProgram, case: Subject) -> str:
    try:
        verify(program, case.layers)
    except VerificationError as error:
        assert "VTA program: " in str(error)
        return "refused"
    return "harmless" if harmless(program, case) else "MISSED"


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_the_network_itself_passes(instructions: InstructionSet) -> None:
    case = subject(instructions)
    verify(case.program, case.layers)
    assert harmless(case.program, case)
    kinds = {type(instruction).__name__ for instruction in case.program.decoded()}
    assert kinds == {"Load", "Store", "Finish"} | (
        {"Gemm", "Alu"} if instructions == "published" else {"XGemm", "XPool", "XAdd"}
    )
    assert any(isinstance(i, Load) and i.memory == Memory.INP and i.pop_next for i in case.program.decoded())


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_mutants_are_refused_or_harmless(instructions: InstructionSet) -> None:
    sample = SAMPLE[instructions]
    table = kills(instructions, sample)
    assert not [kind for kind, fates in table.items() if fates["MISSED"]], table
    for kind in ("token dropped", "token added", "instruction missing"):
        assert table[kind].total() == table[kind]["refused"] == sample
    mutants = sum(fates.total() for fates in table.values())
    assert sum(fates["refused"] for fates in table.values()) >= REFUSED * mutants, table
