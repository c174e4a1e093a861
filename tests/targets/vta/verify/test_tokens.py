"""The order that tokens enforce, and programs whose tokens are wrong."""

from __future__ import annotations

import pytest

from squeezeedge.targets.vta.isa.encoding import Instruction, Module
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.published import Finish
from squeezeedge.targets.vta.verify.tokens import QUEUE_DEPTH, TOKEN_DEPTH, Violation, trace
from tests.targets.vta.verify.by_hand import FINISH, GOOD, Wrong, alu, changed, load, program, refused, store

WRONG: Wrong = {
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
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name: str) -> None:
    refused(WRONG, name)


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
