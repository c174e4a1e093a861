"""Operations become a program: where blocks lie, who waits for whom, in which order they are fetched."""

from __future__ import annotations

import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.emit.schedule import MOST_WAITING, Block, Schedule
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import XAdd
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.published import Finish, Load, Store
from squeezeedge.targets.vta.verify.tokens import trace
from tests.graphs import random_graph
from tests.targets.vta.compiled import DEFAULT, SMALL, build

DEPTH = DEFAULT.depth(Memory.INP)
TOKENS = ("pop_prev", "pop_next", "push_prev", "push_next")


def schedule(*, wrap: bool = True, reserved: int = 0) -> Schedule:
    return Schedule(DEFAULT, 4096, wrap=wrap, reserved=reserved)


def load(dram: int, count: int, sram: int = 0) -> Load:
    return Load(memory=Memory.INP, sram_base=sram, dram_base=dram, y_size=1, x_size=count, x_stride=count)


def add(count: int = 8) -> XAdd:
    return XAdd(blocks=1, count=count, par=0, a_base=0, b_base=0, dst_base=0)


def store(dram: int, count: int = 8) -> Store:
    return Store(memory=Memory.OUT, sram_base=0, dram_base=dram, y_size=1, x_size=count, x_stride=count)


def tokens(instruction: Instruction) -> set[str]:
    return {name for name in TOKENS if getattr(instruction, name)}


def finished(made: Schedule) -> list[Instruction]:
    """The program; its tokens are right in any timing."""
    program, layers = made.finish()
    assert len(layers) == len(program)
    trace(program)
    return program


def step(made: Schedule, source: int, target: int, count: int = 8) -> None:
    """Load, compute, store."""
    block = made.load(Memory.INP, count, [load(source, count)])
    out = made.claim(Memory.OUT, count)
    index = made.compute(add(count), [block], [(out.first, out.count)])
    made.store(store(target, count), out.first, count, index)
    made.release(block, out)


# On-chip memories -----------------------------------------------------------------------------------------------------


def test_live_blocks_are_kept() -> None:
    made = schedule()
    first = made.claim(Memory.INP, DEPTH - 10)
    assert made.room(Memory.INP, 10) and not made.room(Memory.INP, 11)
    second = made.claim(Memory.INP, 10)
    assert (second.first, second.count) == (DEPTH - 10, 10)
    with pytest.raises(UnsupportedError, match=f"the inp memory of {DEPTH} elements is too small; use a configuration"):
        made.claim(Memory.INP, 1)
    made.release(first)
    assert made.claim(Memory.INP, 20).first == 0
    assert not schedule().room(Memory.INP, DEPTH + 1)


@pytest.mark.parametrize(("wrap", "first"), [(True, DEPTH - 10), (False, 0)])
def test_a_block_at_the_end_wraps_or_begins_anew(wrap: bool, first: int) -> None:
    made = schedule(wrap=wrap)
    made.release(made.claim(Memory.INP, DEPTH - 10))
    assert made.claim(Memory.INP, 20).first == first
    if wrap:
        assert made.claim(Memory.INP, 5).first == 10


def test_reserved_elements_are_not_given_out() -> None:
    depth = DEFAULT.depth(Memory.OUT)
    made = schedule(wrap=False, reserved=100)
    made.release(made.claim(Memory.OUT, depth - 150))
    assert made.claim(Memory.OUT, 60).first == 0
    other = schedule(wrap=False)
    other.release(other.claim(Memory.OUT, depth - 150))
    assert other.claim(Memory.OUT, 60).first == depth - 150


def test_the_next_block_may_be_placed() -> None:
    made = schedule()
    made.skip(Memory.OUT, DEFAULT.depth(Memory.OUT) + 7)
    assert made.claim(Memory.OUT, 3).first == 7


def test_transfers_lie_one_after_the_other_in_their_block() -> None:
    made = schedule()
    made.skip(Memory.INP, DEPTH - 4)
    block = made.load(Memory.INP, 8, [load(0, 3), load(50, 5, sram=3)])
    made.compute(add(), [block])
    first, second, *_ = finished(made)
    assert isinstance(first, Load) and isinstance(second, Load)
    assert (first.sram_base, second.sram_base) == (DEPTH - 4, DEPTH - 1)
    assert (tokens(first), tokens(second)) == (set(), {"push_next"}), "one token for all of them"


def test_a_block_is_not_used_after_its_release() -> None:
    made = schedule()
    block = made.load(Memory.INP, 8, [load(0, 8)])
    made.release(block)
    with pytest.raises(AssertionError, match="used after its release"):
        made.compute(add(), [block])


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_data_goes_from_module_to_module() -> None:
    made = schedule()
    made.layer = 3
    step(made, 0, 100)
    assert len(made) == 1
    program, layers = made.finish()
    assert [type(instruction) for instruction in program] == [Load, XAdd, Store, Finish]
    assert [tokens(instruction) for instruction in program] == [
        {"push_next"},
        {"pop_prev", "push_next"},
        {"pop_prev", "push_prev"},
        {"pop_next"},
    ]
    assert layers == [3, 3, 3, 3]


def test_loads_run_ahead_as_far_as_the_memory_has_room() -> None:
    """Three tiles in two halves: only the third load waits for a computation, the first one."""
    made = schedule()
    for number in range(3):
        step(made, number * 1024, 4000, DEPTH // 2)
    program = finished(made)
    loads = [instruction for instruction in program if isinstance(instruction, Load)]
    assert [tokens(instruction) for instruction in loads] == [{"push_next"}, {"push_next"}, {"pop_next", "push_next"}]
    assert [type(instruction) for instruction in program[:3]] == [Load, Load, XAdd], "both are fetched first"
    assert tokens(program[2]) >= {"pop_prev", "push_prev"}


def test_one_token_is_enough_for_what_came_before() -> None:
    """The second computation needs nothing newer than the first one does."""
    made = schedule()
    blocks = [made.load(Memory.INP, 8, [load(number * 8, 8)]) for number in range(2)]
    made.compute(add(), blocks)
    made.compute(add(), [blocks[0]])
    first, second, third, fourth, _ = finished(made)
    assert [tokens(i) for i in (first, second, third, fourth)] == [set(), {"push_next"}, {"pop_prev"}, set()]


def test_outputs_that_are_not_stored_yet_are_not_overwritten() -> None:
    made = schedule()
    for number in range(2):
        index = made.compute(add(), writes=[(0, 8)])
        made.store(store(100 + number * 8), 0, 8, index)
    first, stored, second, *_ = finished(made)
    assert isinstance(stored, Store) and tokens(first) == {"push_next"} and "push_prev" in tokens(stored)
    assert tokens(second) == {"pop_next", "push_next"}


def test_results_are_read_back_behind_a_relay() -> None:
    """No token goes from store to load: compute passes it on by a load of nothing."""
    made = schedule()
    step(made, 0, 100)
    step(made, 103, 200, 2)
    program = finished(made)
    relays = [i for i in program if isinstance(i, Load) and i.memory == Memory.UOP]
    assert [(relay.x_size, tokens(relay)) for relay in relays] == [(0, {"pop_next", "push_prev"})]
    again = next(i for i in program if isinstance(i, Load) and i.dram_base == 103)
    assert tokens(again) == {"pop_next", "push_next"}
    assert program.index(relays[0]) < program.index(again)
    other = schedule()
    step(other, 0, 100)
    step(other, 108, 200, 2)  # beside what was stored
    assert not [i for i in finished(other) if isinstance(i, Load) and i.memory == Memory.UOP]


def test_a_computation_may_be_replaced() -> None:
    made = schedule()
    index = made.compute(add(1))
    made.replace(index, add(5))
    instruction = finished(made)[0]
    assert isinstance(instruction, XAdd) and instruction.count == 5


@pytest.mark.parametrize("apart", [False, True])
def test_tokens_of_compute_do_not_pile_up(apart: bool) -> None:
    """Many small stores: compute waits now and then, though it could go on writing elsewhere."""
    made = schedule()
    for number in range(3 * MOST_WAITING):
        index = made.compute(add(1), writes=[(number if apart else number % 2, 1)])
        made.store(store(number, 1), number if apart else number % 2, 1, index)
    program = finished(made)
    waits = [instruction for instruction in program if isinstance(instruction, XAdd) and instruction.pop_next]
    assert len(waits) >= (3 if apart else 3 * MOST_WAITING - 2)


def test_compute_does_not_run_away_from_a_slow_store() -> None:
    """Many small tiles: compute could give more tokens than the queue holds if the program did not hold it back."""
    build(random_graph(94), "extended", SMALL)


def test_time_that_a_load_has() -> None:
    """Compute is busy until the end of its work; the load module with what is queued."""
    made = schedule()
    next_load = load(0, 8)
    assert made.slack(next_load) < 0, "compute has nothing to do"
    for _ in range(10):
        made.compute(add(1000))
    busy = made.slack(next_load)
    assert busy > 10 * 2 * 1000 - 1000
    made.load(Memory.INP, 800, [load(0, 800)])
    assert made.slack(next_load) <= busy - 800 * 16 // 8


def test_blocks_of_constants_have_their_own_memories() -> None:
    made = schedule()
    weights = made.load(
        Memory.WGT, 4, [Load(memory=Memory.WGT, sram_base=0, dram_base=0, y_size=1, x_size=4, x_stride=4)]
    )
    inputs = made.load(Memory.INP, 4, [load(0, 4)])
    assert isinstance(weights, Block) and weights.first == inputs.first == 0
    assert (weights.load, inputs.load) == (0, 1)
