"""The static verifier: what it proves of real programs, and what it says of wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.graph import Conv, IntegerGraph
from squeezeedge.lower.legalize import legalize
from squeezeedge.lower.patterns import partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, Instruction, InstructionSet, Module
from squeezeedge.targets.vta.isa.extended import XGemm
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import Layer, Region, Sums, VtaProgram
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import encode, encode_micro_ops
from squeezeedge.targets.vta.lower import compiler
from squeezeedge.targets.vta.lower.compiler import FUSIONS, compile_program
from squeezeedge.targets.vta.lower.layers import Layers
from squeezeedge.targets.vta.lower.lowering import to_layers
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from squeezeedge.targets.vta.verify.tokens import QUEUE_DEPTH, TOKEN_DEPTH, Violation, trace
from tests.graphs import TOPOLOGIES, random_graph, squeezenet_graph

SMALL = Geometry(inp_buffer=1 << 13, wgt_buffer=1 << 16, acc_buffer=1 << 15, uop_buffer=1 << 12, par_entries=32)
GEOMETRIES = {"small": SMALL, "block32": load_config("zcu104-block32").geometry}


def build(graph: IntegerGraph, instructions: InstructionSet, geometry: Geometry) -> tuple[VtaProgram, Layers]:
    """The program, which compile_program has verified, and the layers it comes from."""
    graph = legalize(graph, ())
    parts = stages(partition(to_relax(graph), FUSIONS), graph)
    layers = to_layers(parts, geometry.block, halos=instructions == "published")
    return compile_program(parts, geometry, instructions), layers


@cache
def small(instructions: InstructionSet) -> tuple[VtaProgram, Layers]:
    return build(random_graph(19), instructions, SMALL)


# Real programs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies_pass(name: str, instructions: InstructionSet) -> None:
    program, _ = build(squeezenet_graph(name, 32 if name == "resnet18" else 64, 10), instructions, Geometry())
    assert len(program.layers) > 10


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("seed", [0, 5, 19, 33])
def test_random_graphs_pass(seed: int, geometry: str, instructions: InstructionSet) -> None:
    program, layers = build(random_graph(seed), instructions, GEOMETRIES[geometry])
    verify(program, layers)
    verify(program)


def test_compute_does_not_run_away_from_a_slow_store() -> None:
    """Many small tiles: compute could give more tokens than the queue holds if the program did not hold it back."""
    build(random_graph(94), "extended", SMALL)


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_defect_of_the_compiler_is_not_written(instructions: InstructionSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*arguments: Any) -> NDArray[np.uint64]:  # noqa: ANN401
        words = encode(*arguments)
        words[-1, 0] ^= np.uint64(1 << 4)  # finish: pop_next
        return words

    monkeypatch.setattr(compiler, "encode", damaged)
    with pytest.raises(VerificationError, match=r"instruction \d+ \(layer"):
        build(random_graph(19), instructions, SMALL)


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_program_that_was_read_passes_without_layers(instructions: InstructionSet) -> None:
    program, _ = small(instructions)
    verify(VtaProgram.from_json(json.loads(json.dumps(program.to_json())), program.image))


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_another_networks_layers_do_not_fit(instructions: InstructionSet) -> None:
    """Rule 6 looks at every constant: one weight, bias or shift that differs is a different network."""
    program, _ = small(instructions)
    graph = legalize(random_graph(19), ())
    convolution = next(node for node in graph.nodes if isinstance(node, Conv))
    for array in (convolution.weight, convolution.bias, convolution.shift):
        array.flat[0] = array.flat[0] ^ 1
        parts = stages(partition(to_relax(graph), FUSIONS), graph)
        layers = to_layers(parts, SMALL.block, halos=instructions == "published")
        with pytest.raises(VerificationError, match=r"instruction \d+ \(layer .*, \w+\): stores what is not the layer"):
            verify(program, layers)
        array.flat[0] = array.flat[0] ^ 1


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(INSTRUCTION_SETS), st.integers(0, 1 << 30), st.integers(0, 255))
def test_damaged_programs_that_are_read_give_one_error(instructions: InstructionSet, at: int, value: int) -> None:
    """Without layers, and whatever byte of the program or the micro-ops differs."""
    program, _ = small(instructions)
    image = bytearray(program.image)
    image[at % (program.region("uop").offset + program.region("uop").size)] = value
    record = replace(program, image=bytes(image)).to_json()
    try:
        verify(VtaProgram.from_json(record, bytes(image)))
    except VerificationError as error:
        assert str(error).startswith("VTA program: ")


# Programs by hand -----------------------------------------------------------------------------------------------------

GEOMETRY = Geometry()
BLOCK = GEOMETRY.block
OPS = [MicroOp(dst=index) for index in range(32)]


def program(
    code: list[Instruction],
    instructions: InstructionSet = "published",
    micro_ops: list[MicroOp] = OPS,
    vectors: int = 1,
) -> VtaProgram:
    """A program with 8 elements of everything: host input, device tensor (fill 0), sums; vectors of one number."""
    constants = {
        "program": encode(code, GEOMETRY, instructions).tobytes(),
        "uop": encode_micro_ops(micro_ops, GEOMETRY).tobytes(),
        "wgt": bytes(8 * BLOCK * BLOCK),
        "par": bytes(8 * 5 * BLOCK),
        "acc": np.full(8 * BLOCK, vectors, "<i4").tobytes(),
    }
    regions, image = [], b""
    for name, data in constants.items():
        regions.append(Region(name, len(image), len(data), "compiler"))
        image += data + bytes(-len(data) % 256)
    bases = {region.name: region.offset for region in regions[1:]} | {"inp": len(image), "out": len(image)}
    regions.append(Region("image", len(image), 8 * BLOCK, "host"))
    regions.append(Region("tensor", len(image) + 8 * BLOCK, 8 * BLOCK, "device"))
    regions.append(Region("sums", len(image) + 16 * BLOCK, 4 * BLOCK, "device"))
    if instructions == "extended":
        bases["acc"] = regions[-1].offset
    return VtaProgram(
        instructions=instructions,
        geometry=GEOMETRY,
        image=image,
        dram_bytes=len(image) + 20 * BLOCK,
        regions=tuple(regions),
        count=len(code),
        bases=bases,
        packings=(),
        sums=Sums("sums", BLOCK, 4, BLOCK),
        layers=(Layer("stem", 0, ""), Layer("fire", 0, "")),
        instruction_layers=(np.arange(len(code)) % 2).astype(np.uint16),
    )


def load(memory: Memory, size: int = 8, **fields: object) -> Load:
    values = {"sram_base": 0, "dram_base": 0, "y_size": 1, "x_size": size, "x_stride": size}
    return Load(memory=memory, **(values | fields))  # type: ignore[arg-type]


def store(dram: int = 8, size: int = 8, **fields: object) -> Store:
    values = {"sram_base": 0, "dram_base": dram, "y_size": 1, "x_size": size, "x_stride": size}
    return Store(memory=Memory.OUT, **(values | fields))  # type: ignore[arg-type]


def gemm(**fields: object) -> Gemm:
    values = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 8, "dst_in": 1}
    return Gemm(**(values | fields))  # type: ignore[arg-type]


def alu(op: AluOp = AluOp.ADD, **fields: object) -> Alu:
    values = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": 8, "dst_in": 1, "use_imm": True, "imm": 1}
    return Alu(op=op, **(values | fields))  # type: ignore[arg-type]


LOADS = [load(Memory.WGT), load(Memory.INP, push_next=True)]
UOPS = load(Memory.UOP, 32)
RESET = gemm(reset=True)
FINISH = Finish(pop_next=True)
GOOD: list[Instruction] = [UOPS, *LOADS, RESET, gemm(src_in=1, pop_prev=True, push_next=True)]
GOOD += [store(pop_prev=True, push_prev=True), FINISH]


def changed(index: int, **fields: object) -> list[Instruction]:
    return [replace(item, **fields) if number == index else item for number, item in enumerate(GOOD)]  # type: ignore[arg-type]


def test_a_good_program() -> None:
    verify(program(GOOD))


def x(**fields: object) -> XGemm:
    values = {"uop_bgn": 0, "uops": 1, "blocks": 1, "rows": 1, "cols": 8, "epilogue": 1, "src_base": 0}
    return XGemm(**(values | {"dst_base": 0, "wgt_base": 0} | fields))  # type: ignore[arg-type]


X_LOADS = [load(Memory.WGT), load(Memory.PAR), load(Memory.INP, push_next=True)]

WRONG: dict[str, tuple[Callable[[], VtaProgram], str]] = {
    "weights from the image": (
        lambda: program(changed(1, dram_base=1)),
        r"1 \(layer fire, load\): loads wgt constant 8",
    ),
    "input from nowhere": (lambda: program(changed(2, dram_base=4)), "loads inp element .* not the place for it"),
    "input from the sums' end": (lambda: program(changed(2, dram_base=100)), "loads outside of the DRAM"),
    "store to the input": (
        lambda: program(changed(5, dram_base=0)),
        "5 .*stores out element 0 in DRAM, which is in image",
    ),
    "store across tensors": (lambda: program(changed(5, dram_base=12)), "in sums: not the place"),
    "stored twice": (
        lambda: program([*GOOD[:5], store(pop_prev=True), store(push_prev=True), FINISH]),
        "6 .*stored to twice",
    ),
    "fill read, then stored": (
        lambda: program([*GOOD[:2], load(Memory.INP, dram_base=8), *GOOD[2:]]),
        r"6 .*stores to an element in DRAM after instruction 2 has read it",
    ),
    "no micro-ops": (lambda: program(GOOD[1:]), r"reads uop\[0\], which nothing has written"),
    "accumulators never reset": (lambda: program([*GOOD[:3], *GOOD[4:]]), r"reads acc\[0\], which nothing has written"),
    "input before its load": (
        lambda: program([*changed(1, push_next=True)[:-1], Finish(pop_prev=True, pop_next=True)]),
        r"4 .*reads inp\[0\] in no certain order with instruction 2, which writes it",
    ),
    "output overwritten": (
        lambda: program([*GOOD[:6], RESET, FINISH]),
        r"5 \(layer fire, store\): reads out\[0\] in no certain order with instruction 6, which writes it",
    ),
    "too deep": (
        lambda: program(changed(4, uop_bgn=31, uop_end=32, dst_in=600)),
        r"uses acc\[4231\], the memory has 2048",
    ),
    "uop memory's end": (lambda: program(changed(4, uop_end=8193)), r"uses uop\[8192\]"),
    "weights too deep": (lambda: program(changed(4, wgt_in=1023)), r"uses wgt\[7161\]"),
    "pipeline": (lambda: program(changed(4, dst_in=0)), r"uses acc\[0\] again after 1 steps; the pipeline needs 8"),
    "pipeline, another operand": (
        lambda: program(
            [*GOOD[:4], alu(use_imm=False, src_in=1, iter_in=7), *GOOD[4:]], micro_ops=[MicroOp(1, 0), *OPS[1:]]
        ),
        "4 .*uses acc.1. again after 1 steps",
    ),
    "shift by an immediate": (lambda: program([*GOOD[:4], alu(AluOp.SHR, imm=16), *GOOD[4:]]), "shifts by 16"),
    "shift by a vector": (lambda: shifted(16), r"shifts by acc\[8\], which is not a constant of 0..15"),
    "shift by a result": (
        lambda: program([*GOOD[:4], alu(AluOp.SHR, use_imm=False, src_in=0, iter_in=1), *GOOD[4:]]),
        "not a constant",
    ),
    "deadlock": (
        lambda: program(changed(2, push_next=False)),
        "4 .*deadlock: waits for a token of load that nothing gives",
    ),
    "token left": (lambda: program(changed(1, push_next=True)), "2 .*its token from load to compute is never taken"),
    "finish too early": (
        lambda: program([*changed(5, push_prev=False)[:-1], Finish()]),
        r"5 .*finish .* does not wait for this store",
    ),
    "no finish": (lambda: program([*GOOD[:-1], alu(pop_next=True)]), "does not end with finish"),
    "two ends": (lambda: program([Finish(), *GOOD]), "0 .*finish is not the last"),
    "empty": (lambda: program([]), "does not end with finish"),
    "a word of ones": (lambda: corrupted(), "instruction 3: "),
    "a parameter's shift": (lambda: parameter(16), "loads a shift above 15"),
    "an output twice": (
        lambda: program([UOPS, *X_LOADS, x(blocks=2, pop_prev=True), Finish()], "extended"),
        "writes an element twice",
    ),
    "too many steps": (
        lambda: program(changed(4, iter_out=16383, iter_in=16383, dst_in=0)),
        "268402689 steps, more than",
    ),
}


def shifted(by: int) -> VtaProgram:
    """A vector of shifts behind the results."""
    vector = load(Memory.ACC, 1, sram_base=8)
    shift = alu(AluOp.SHR, uop_bgn=31, uop_end=32, use_imm=False)
    return program([*GOOD[:4], vector, shift, *GOOD[4:]], micro_ops=[*OPS[:31], MicroOp(0, 8)], vectors=by)


def parameter(shift: int) -> VtaProgram:
    made = program([UOPS, *X_LOADS, x(pop_prev=True), Finish()], "extended")
    image = bytearray(made.image)
    image[made.region("par").offset + 4 * BLOCK] = shift
    return replace(made, image=bytes(image))


def corrupted() -> VtaProgram:
    made = program(GOOD)
    image = bytearray(made.image)
    image[48:64] = b"\xff" * 16
    return replace(made, image=bytes(image))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name: str) -> None:
    make, text = WRONG[name]
    with pytest.raises(VerificationError, match=text) as caught:
        verify(make())
    assert str(caught.value).startswith("VTA program: ")


def test_a_shift_of_15_is_fine() -> None:
    verify(shifted(15))
    verify(parameter(15))


def test_results_read_back_need_the_stores_confirmation() -> None:
    """A load of what a store wrote, behind the store's token that compute passes on; without, it is a race."""
    relay = load(Memory.UOP, 0, pop_next=True, push_prev=True)
    again = load(Memory.INP, sram_base=100, dram_base=8, pop_next=True, push_next=True)
    verify(program([*GOOD[:-1], relay, again, Finish(pop_prev=True)]))
    early = replace(GOOD[4], push_prev=True)
    for end in ([GOOD[5], again], [again, GOOD[5]]):
        with pytest.raises(
            VerificationError, match=r"without a token that confirms it|after instruction \d has read it"
        ):
            verify(program([*GOOD[:4], early, *end, Finish(pop_prev=True, pop_next=True)]))


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_clocks_follow_tokens() -> None:
    steps = trace(GOOD)
    assert [steps.ordinal[number] for number in range(len(GOOD))] == [1, 1, 2, 2, 3, 1, 4]
    assert steps.clock[4].tolist() == [2, 2, 0]  # load has ended twice, compute too
    assert steps.clock[5].tolist() == [2, 3, 0]
    assert steps.clock[6].tolist() == [2, 3, 1]


@pytest.mark.parametrize("count", [TOKEN_DEPTH, TOKEN_DEPTH + 1])
def test_a_queue_that_may_be_full(count: int) -> None:
    """The first token is taken only by an instruction that nothing makes compute wait for."""
    givers: list[Instruction] = [load(Memory.UOP, 0, push_next=True) for _ in range(count)]
    takers: list[Instruction] = [store(pop_prev=True, push_prev=number == count - 1) for number in range(count)]
    instructions = [*givers, *takers, FINISH]
    assert {instruction.module for instruction in instructions} == {Module.COMPUTE, Module.STORE}
    if count == TOKEN_DEPTH:
        trace(instructions)
    else:
        with pytest.raises(Violation, match="may find 128 tokens waiting from compute to store"):
            trace(instructions)


def test_a_full_instruction_queue_deadlocks() -> None:
    """Fetch can't reach the giver: the taker holds one instruction and its queue 128 more."""
    for waiting in (QUEUE_DEPTH, QUEUE_DEPTH + 1):
        takers = [load(Memory.UOP, 0, pop_prev=number == 0) for number in range(waiting + 1)]
        instructions = [*takers, load(Memory.INP, push_next=True), Finish()]
        if waiting == QUEUE_DEPTH:
            with pytest.raises(Violation, match="finish"):  # runs, and finish does not wait for the load's end only
                trace([*takers, load(Memory.INP, push_next=True), load(Memory.INP), Finish()])
        else:
            with pytest.raises(Violation, match="deadlock"):
                trace(instructions)
