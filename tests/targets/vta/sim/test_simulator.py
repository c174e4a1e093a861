"""The accelerator's C++ against the instructions' reference bodies, and programs that must not pass."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.errors import UsageError
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.sim.simulator import Registers, Report, SimulationError, Simulator, Timing
from tests.targets.vta.reference import BASES, DRAM_BYTES, PROGRAM_BYTES, compare_with_reference, registers
from tests.targets.vta.strategies import instructions


@pytest.fixture(scope="module", params=["pynq-z2", "zcu104-block32"])
def simulator(request: pytest.FixtureRequest) -> Simulator:
    return Simulator(load_config(request.param).geometry)


@pytest.fixture(scope="module")
def default() -> Iterator[Simulator]:
    yield Simulator(Geometry())


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_equals_the_reference_bodies(simulator: Simulator, data: st.DataObject, seed: int) -> None:
    program = data.draw(st.lists(instructions(simulator.geometry), min_size=1, max_size=6))
    compare_with_reference(simulator, program, seed)


def run(simulator: Simulator, program: Sequence[Instruction], timing: Timing | None = None) -> Report:
    dram = np.zeros(DRAM_BYTES, np.uint8)
    words = encode(program, simulator.geometry, "extended").view(np.uint8).ravel()
    assert len(words) <= PROGRAM_BYTES
    dram[: len(words)] = words
    return simulator.run(dram, registers(len(program)), timing)


def load(**changes: object) -> Load:
    fields = dict(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=8, x_stride=8)
    return Load(**{**fields, **changes})  # type: ignore[arg-type]


def store(**changes: object) -> Store:
    fields = dict(memory=Memory.OUT, sram_base=0, dram_base=0, y_size=1, x_size=8, x_stride=8)
    return Store(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ([load(pop_next=True)], r"instruction 0 \(load\) waits for a token from compute"),
        ([Finish(pop_prev=True)], r"instruction 0 \(compute\) waits for a token from load"),
        ([load(push_next=True), Finish(pop_prev=True, pop_next=True)], r"1 \(compute\) waits for a token from store"),
        ([store(pop_prev=True)], r"instruction 0 \(store\) waits for a token from compute"),
        (
            [load(pop_next=True, push_next=True), Finish(pop_prev=True, push_prev=True)],
            r"instruction 0 \(load\) waits",
        ),
    ],
)
def test_deadlocks_end(default: Simulator, program: list[Instruction], text: str) -> None:
    with pytest.raises(SimulationError, match=f"deadlock: .*{text}"):
        run(default, program)


def test_left_over_tokens_are_an_error(default: Simulator) -> None:
    with pytest.raises(SimulationError, match="2 tokens from compute to store are left"):
        run(default, [Finish(push_next=True), Finish(push_next=True)])


def test_more_tokens_than_a_queue_holds(default: Simulator) -> None:
    program = [Finish(push_next=True)] * 40
    dram = np.zeros(DRAM_BYTES, np.uint8)
    words = encode(program * 4, Geometry(), "published").view(np.uint8).ravel()
    dram[: len(words)] = words
    with pytest.raises(SimulationError, match="more than 128 tokens wait from compute to store"):
        default.run(dram, registers(160))


@pytest.mark.parametrize(
    "instruction",
    [
        load(dram_base=DRAM_BYTES),
        load(dram_base=0xFFFFFFFF),
        load(memory=Memory.WGT, dram_base=(DRAM_BYTES - BASES[Memory.WGT]) // 256 - 7),
        load(memory=Memory.WGT, dram_base=0xFFFFFFFF),
        load(memory=Memory.UOP, dram_base=(DRAM_BYTES - BASES[Memory.UOP]) // 4 - 7),
        load(y_size=2, x_stride=0xFFFF, dram_base=0),
        store(dram_base=(DRAM_BYTES - BASES[Memory.OUT]) // 16 - 7),
        store(memory=Memory.ACC, dram_base=1 << 20),
    ],
)
def test_access_outside_of_the_dram(default: Simulator, instruction: Instruction) -> None:
    program = [Finish(), instruction]
    with pytest.raises(SimulationError, match=r"instruction 1: \w+ at byte \d+ is outside of the DRAM"):
        run(default, program)


def test_the_last_bytes_of_the_dram_are_inside(default: Simulator) -> None:
    last = (DRAM_BYTES - BASES[Memory.INP]) // 16 - 8
    run(default, [load(dram_base=last)])


def test_undefined_instructions(default: Simulator) -> None:
    for opcode, word in [(0, 5 << 7), (1, 2 << 7), (5, 0), (6, 0)]:  # LOAD type 5, STORE of inputs, no steps, no window
        dram = np.zeros(DRAM_BYTES, np.uint8)
        dram[:16].view(np.uint64)[0] = opcode | word
        with pytest.raises(SimulationError, match="instruction 0 is not defined"):
            default.run(dram, registers(1))


def test_endless_programs_end(default: Simulator) -> None:
    program = [Alu(op=AluOp.ADD, uop_bgn=0, uop_end=1, iter_out=1000, iter_in=1)] * 50
    with pytest.raises(SimulationError, match="not finished after 5000 cycles"):
        run(default, program, Timing(cycle_limit=5000))


LONG: dict[str, Instruction] = {
    "gemm": Gemm(uop_bgn=0, uop_end=1, iter_out=(1 << 14) - 1, iter_in=(1 << 14) - 1),
    "alu": Alu(op=AluOp.ADD, uop_bgn=0, uop_end=2, iter_out=(1 << 14) - 1, iter_in=1 << 13),
    "pool": XPool(
        sram_base=0,
        dram_base=0,
        kernel_h=7,
        kernel_w=7,
        stride_h=7,
        stride_w=7,
        y_size=255,
        x_size=2047,
        x_stride=2047,
        rows=1,
        cols=1,
    ),
}
"""Millions of steps each, all of them legal."""


@pytest.mark.parametrize("limit", [1000, None])
@pytest.mark.parametrize("name", LONG)
def test_long_instructions_do_not_begin(default: Simulator, name: str, limit: int | None) -> None:
    """The limit, which by itself follows from the program's size, is asked before an instruction is executed."""
    started = time.process_time()
    with pytest.raises(SimulationError, match=f"not finished after {limit or 4718592} cycles"):
        run(default, [LONG[name], Finish()], Timing(cycle_limit=limit))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(("instruction", "cycles"), [(load(), 84), (store(), 100), (Finish(), 4)])
def test_the_last_instruction_ends_in_time(default: Simulator, instruction: Instruction, cycles: int) -> None:
    arrived = run(default, [instruction]).cycles - cycles
    assert run(default, [instruction], Timing(cycle_limit=arrived + cycles)).cycles == arrived + cycles
    with pytest.raises(SimulationError, match=f"not finished after {arrived + cycles - 1} cycles"):
        run(default, [instruction], Timing(cycle_limit=arrived + cycles - 1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inp": 8}, "inp = 8"),
        ({"out": -16}, "out = -16"),
        ({"program": 1 << 30}, "program"),
        ({"count": 1 << 40}, "instructions do not fit"),
        ({"count": -1}, "instructions do not fit"),
    ],
)
def test_impossible_registers(default: Simulator, change: dict[str, int], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        default.run(np.zeros(DRAM_BYTES, np.uint8), replace(registers(1), **change))


def test_impossible_buffers(default: Simulator) -> None:
    wrong: list[NDArray[Any]] = [
        np.zeros(100, np.uint8),
        np.zeros(128, np.int8),
        np.zeros((8, 16), np.uint8),
        np.zeros(256, np.uint8)[::2],
    ]
    for dram in wrong:
        with pytest.raises(UsageError):
            default.run(dram, Registers(count=1, program=0))
    with pytest.raises(UsageError, match="one byte per cycle"):
        default.run(np.zeros(128, np.uint8), Registers(count=1, program=0), Timing(bytes_per_cycle=0))
    with pytest.raises(UsageError, match="limit of 0 cycles"):
        default.run(np.zeros(128, np.uint8), Registers(count=1, program=0), Timing(cycle_limit=0))


def test_cycles_of_an_instruction(default: Simulator) -> None:
    """4 for its decoding, then as many as hls/sim/timing.h says."""
    gemm = XGemm(uop_bgn=0, uops=9, blocks=2, rows=3, cols=7, epilogue=Epilogue.OUT, src_base=0, dst_base=0, wgt_base=0)
    add = XAdd(blocks=2, count=50, par=0, a_base=0, b_base=0, dst_base=0)
    alu = Alu(op=AluOp.ADD, uop_bgn=0, uop_end=3, iter_out=5, iter_in=2)
    expected = [
        (gemm, 4 + 9 * 2 * 3 * 7 + 16),
        (add, 4 + 2 * 100 + 8),
        (alu, 4 + 2 * 30 + 8),
        (Finish(), 4),
        (load(), 4 + 64 + 8 * 16 // 8),
        (load(y_size=2), 4 + 64 + 2 * 8 * 16 // 8 + 4),
        (load(memory=Memory.UOP), 4 + 64 + 8),
        (store(), 4 + 16 + 16),
        (store(push_prev=True), 4 + 16 + 16 + 64),
    ]
    for instruction, cycles in expected:
        tail = [Finish(pop_next=True)] if instruction.push_prev else []
        report = run(default, [instruction, *tail])
        _, start, end = report.events[0]
        assert end - start == cycles, instruction
        assert report.gemm_steps == (9 * 2 * 3 * 7 if instruction is gemm else 0)


def test_load_and_compute_overlap(default: Simulator) -> None:
    """With a token only where data is needed, all loads but the first hide behind the products, or the other way."""
    gemm = XGemm(
        uop_bgn=0, uops=8, blocks=1, rows=4, cols=50, epilogue=Epilogue.OUT, src_base=0, dst_base=0, wgt_base=0
    )
    wide = load(x_size=500, x_stride=500)
    step: list[Instruction] = [replace(wide, push_next=True), replace(gemm, pop_prev=True)]
    single = run(default, step).cycles
    overlapped = run(default, step * 8)
    serial = run(
        default,
        [replace(wide, push_next=True), replace(gemm, pop_prev=True, push_prev=True)]
        + [replace(wide, pop_next=True, push_next=True), replace(gemm, pop_prev=True, push_prev=True)] * 7
        + [load(x_size=0, pop_next=True)],
    )
    assert overlapped.gemm_steps == serial.gemm_steps == 8 * 1600
    assert overlapped.cycles < single + 7 * 1700
    assert serial.cycles > 8 * (1600 + 1000)


def test_the_bus_is_shared(default: Simulator) -> None:
    """A load and a store at the same time take together what the bus needs for both."""
    both = run(default, [load(x_size=2000), store(x_size=2000, dram_base=20000)])
    beats = 2 * 2000 * 16 // 8
    assert both.bus_busy == beats + 4  # and two instructions
    assert beats < both.cycles < beats + 400
    twice = run(default, [load(x_size=2000), store(x_size=2000, dram_base=20000)], Timing(bytes_per_cycle=16))
    assert twice.bus_busy == (beats + 4) // 2
    assert twice.cycles < both.cycles


def test_reports_add_up(default: Simulator) -> None:
    program = [load(push_next=True), Finish(pop_prev=True, push_next=True), store(pop_prev=True, dram_base=9)]
    report = run(default, program)
    assert sum(module.instructions for module in list(report.modules.values())[1:]) == len(program)
    assert report.dram_bytes == 2 * 8 * 16 + 16 * len(program)
    ready, start, end = report.events.T
    assert (ready <= start).all()
    assert (start < end).all()
    assert (start[1:] >= end[:-1]).all()  # a chain of tokens
    assert report.cycles >= end.max()
