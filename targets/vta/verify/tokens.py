"""The order that tokens enforce: deadlocks, left-over tokens, full queues, and a vector clock for every instruction.

Each module executes its instructions one after the other, and every token queue has one producer and one consumer. So
the n-th token taken is the n-th one given, whatever the timing. With blocking queues such a network either always ends
or never does (Kahn 1974; bounded queues: Parks 1995). One execution thus decides about deadlocks, including those that
the depth of the instruction queues causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import Instruction, Module
from squeezeedge.targets.vta.isa.published import Finish

__all__ = ["MODULES", "QUEUE_DEPTH", "TOKEN_DEPTH", "Trace", "Violation", "trace"]

QUEUE_DEPTH = 128
"""Instructions that wait for a module (hls/fetch.h); one more is in its hands."""

TOKEN_DEPTH = 128
"""Tokens that a queue between two modules holds (hls/load.h)."""

MODULES = (Module.LOAD, Module.COMPUTE, Module.STORE)
"""Columns of a vector clock."""


class Violation(Exception):
    """A rule is broken.

    Attributes:
        number: of the instruction.
        text: what is wrong.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


@dataclass(frozen=True, eq=False)
class Trace:
    """What the tokens enforce.

    Attributes:
        order: instruction numbers in one of the orders in which they may begin.
        members: for each of ``MODULES``, its instruction numbers.
        column: for each instruction, the index of its module in ``MODULES``.
        ordinal: for each instruction, its place in its module, from 1 on.
        clock: int64 [instructions, 3]: how many instructions of each module have surely ended when it begins.
    """

    order: list[int]
    members: tuple[list[int], ...]
    column: list[int]
    ordinal: list[int]
    clock: NDArray[np.int64]


@dataclass(eq=False)
class _Queue:
    """A token queue: who gives and who takes, in order."""

    given: list[int]
    taken: list[int]


def trace(instructions: Sequence[Instruction]) -> Trace:
    """Execute the tokens.

    Raises:
        Violation: a deadlock, a token that is left over, a queue that may be full, work that the last instruction of
            compute, which must be FINISH, does not wait for.
    """
    column = [MODULES.index(instruction.module) for instruction in instructions]
    members: tuple[list[int], ...] = ([], [], [])
    ordinal = []
    for number, place in enumerate(column):
        members[place].append(number)
        ordinal.append(len(members[place]))
    queues = {(giver, taker): _Queue([], []) for giver in range(3) for taker in (giver - 1, giver + 1)}
    clock, late = np.zeros((2, len(instructions), 3), np.int64)
    order = _execute(instructions, column, members, queues, clock, late)
    _check_queues(queues, ordinal, late)
    _check_end(instructions, members, clock)
    return Trace(order, members, column, ordinal, clock)


def _execute(
    instructions: Sequence[Instruction],
    column: Sequence[int],
    members: tuple[list[int], ...],
    queues: dict[tuple[int, int], _Queue],
    clock: NDArray[np.int64],
    late: NDArray[np.int64],
) -> list[int]:
    """The order of one execution; fills queues and clocks, ``late``: with what fetch waits for, too."""
    order: list[int] = []
    fetched, arrived, done = 0, [0, 0, 0], [0, 0, 0]
    ends = np.zeros((len(instructions), 2, 3), np.int64)
    known = np.zeros((3, 2, 3), np.int64)
    fetch = np.zeros(3, np.int64)
    while len(order) < len(instructions):
        before = len(order) + fetched
        # A module takes an instruction from its queue before it waits for the tokens.
        while fetched < len(instructions) and arrived[column[fetched]] - done[column[fetched]] < QUEUE_DEPTH + 1:
            place = column[fetched]
            arrived[place] += 1
            if arrived[place] > QUEUE_DEPTH + 1:
                fetch = np.maximum(fetch, ends[members[place][arrived[place] - QUEUE_DEPTH - 2], 1])
            late[fetched] = fetch
            fetched += 1
        for place in range(3):
            while done[place] < arrived[place]:
                number = members[place][done[place]]
                takes, gives = _tokens(instructions[number], place)
                if any(len(queues[q].given) == len(queues[q].taken) for q in takes):
                    break
                for q in takes:
                    np.maximum(known[place], ends[queues[q].given[len(queues[q].taken)]], out=known[place])
                    queues[q].taken.append(number)
                np.maximum(known[place, 1], late[number], out=known[place, 1])
                clock[number], late[number] = known[place]
                done[place] += 1
                known[place, :, place] = done[place]
                ends[number] = known[place]
                for q in gives:
                    queues[q].given.append(number)
                order.append(number)
        if len(order) + fetched == before:
            raise _deadlock(instructions, members, queues, arrived, done)
    return order


def _tokens(instruction: Instruction, place: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The queues that it takes a token from, and those that it gives one to."""
    takes = [(place + step, place) for step, flag in ((-1, instruction.pop_prev), (1, instruction.pop_next)) if flag]
    gives = [(place, place + step) for step, flag in ((-1, instruction.push_prev), (1, instruction.push_next)) if flag]
    return takes, gives


def _deadlock(
    instructions: Sequence[Instruction],
    members: tuple[list[int], ...],
    queues: dict[tuple[int, int], _Queue],
    arrived: Sequence[int],
    done: Sequence[int],
) -> Violation:
    waiting = min(members[place][done[place]] for place in range(3) if done[place] < arrived[place])
    place = MODULES.index(instructions[waiting].module)
    takes, _ = _tokens(instructions[waiting], place)
    giver = next(q[0] for q in takes if len(queues[q].given) == len(queues[q].taken))
    return Violation(waiting, f"deadlock: waits for a token of {_name(giver)} that nothing gives")


def _name(place: int) -> str:
    return MODULES[place].name.lower()


def _check_queues(queues: dict[tuple[int, int], _Queue], ordinal: Sequence[int], clock: NDArray[np.int64]) -> None:
    for (giver, taker), queue in queues.items():
        if len(queue.given) > len(queue.taken):
            number = queue.given[len(queue.taken)]
            raise Violation(number, f"its token from {_name(giver)} to {_name(taker)} is never taken")
        for number, earlier in zip(queue.given[TOKEN_DEPTH:], queue.taken, strict=False):
            if ordinal[earlier] > clock[number, taker]:
                raise Violation(
                    number,
                    f"may find {TOKEN_DEPTH} tokens waiting from {_name(giver)} to {_name(taker)}: "
                    f"nothing makes it wait for instruction {earlier}, which takes the first of them",
                )


def _check_end(instructions: Sequence[Instruction], members: tuple[list[int], ...], clock: NDArray[np.int64]) -> None:
    compute = members[1]
    for number in compute[:-1]:
        if instructions[number].opcode == Finish.opcode:
            raise Violation(number, "finish is not the last instruction of compute")
    if not compute or instructions[compute[-1]].opcode != Finish.opcode:
        raise Violation(len(instructions) - 1, "the program does not end with finish")
    for place in (0, 2):
        ended = int(clock[compute[-1], place])
        if ended < len(members[place]):
            number = members[place][ended]
            raise Violation(number, f"finish (instruction {compute[-1]}) does not wait for this {_name(place)}")
