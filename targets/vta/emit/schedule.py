"""Puts operations into the three queues of the accelerator, with the tokens that keep them in step.

A caller adds loads, computations and stores in the order in which each module is to execute them. The schedule knows
for every element of every on-chip memory who reads it last, and for every element of DRAM who wrote it, so each
operation's dependencies follow from its addresses. They become tokens at the end:

- All modules work in order, so an operation that waits for another one also waits for all before that in its module.
  A token is needed only where an operation waits for a later one than any operation before it did.
- A load that reads the results of a store waits through the compute module: a :func:`_relay`, an instruction without
  work, takes the store's token and gives one to load. The relay is placed in time for the load, but at a point where
  the store has probably ended, so that compute does not wait.

Loads move ahead of computations as far as the memories have room; that is the double buffering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.published import Finish, Load, Store
from squeezeedge.targets.vta.lower.cost import compute_cycles, load_cycles, transfer_cycles

__all__ = ["Block", "Schedule"]

NOTHING = -1

MOST_WAITING = 64
"""Tokens that wait between compute and store, half of the hardware's queue."""

WAITING_STEP = 32
"""Tokens of compute from one computation that sees to that to the next: the other half is more than this."""


@dataclass(eq=False)
class Block:
    """Elements of an on-chip memory, filled by a load or by computations.

    Attributes:
        memory: which.
        first: first element; the following ones wrap modulo the depth in extended instructions.
        count: elements.
        load: index of the load operation; ``NOTHING`` if computed.
    """

    memory: Memory
    first: int
    count: int
    load: int


@dataclass(eq=False)
class _Load:
    instructions: list[Load]
    layer: int
    after: int  # computation
    store: int  # store that must have ended
    end: int  # estimated cycle
    consumer: int = NOTHING  # first computation


@dataclass(eq=False)
class _Compute:
    instruction: Instruction
    layer: int
    load: int = NOTHING
    store: int = NOTHING
    end: int = 0  # estimated cycle


@dataclass(eq=False)
class _Store:
    instruction: Store | XPool
    layer: int
    after: int
    end: int  # estimated cycle in which it is confirmed


class Schedule:
    """The queues under construction.

    Args:
        geometry: of the accelerator.
        elements: of the activations' arena in DRAM.
        wrap: whether blocks may wrap around the end of a memory.
        reserved: elements at the end of the output memory that are not given out.
    """

    def __init__(self, geometry: Geometry, elements: int, *, wrap: bool, reserved: int = 0) -> None:
        self.geometry = geometry
        self.wrap = wrap
        self.reserved = reserved
        self.layer = 0
        self._loads: list[_Load] = []
        self._computes: list[_Compute] = []
        self._stores: list[_Store] = []
        memories = (Memory.INP, Memory.WGT, Memory.PAR, Memory.OUT)
        self._next = dict.fromkeys(memories, 0)
        self._reader = {memory: np.full(geometry.depth(memory), NOTHING) for memory in memories}
        self._live = {memory: np.zeros(geometry.depth(memory), bool) for memory in memories}
        self._writer = np.full(elements, NOTHING)

    def __len__(self) -> int:
        """Computations so far."""
        return len(self._computes)

    # On-chip memories -------------------------------------------------------------------------------------------------

    def room(self, memory: Memory, count: int) -> bool:
        """Whether a block would not touch a live one."""
        fits = count <= self.geometry.depth(memory)
        return fits and not self._live[memory][self._span(memory, self._place(memory, count), count)].any()

    def claim(self, memory: Memory, count: int, load: int = NOTHING) -> Block:
        """The next elements of a memory; they are live until :meth:`release`.

        Raises:
            UnsupportedError: they are in use.
        """
        if not self.room(memory, count):
            raise UnsupportedError(
                f"the {memory.name.lower()} memory of {self.geometry.depth(memory)} elements is too small; "
                "use a configuration with a larger one"
            )
        first = self._place(memory, count)
        self._next[memory] = (first + count) % self.geometry.depth(memory)
        self._live[memory][self._span(memory, first, count)] = True
        return Block(memory, first, count, load)

    def release(self, *blocks: Block) -> None:
        """Nobody reads the blocks any more."""
        for block in blocks:
            self._live[block.memory][self._span(block.memory, block.first, block.count)] = False

    def skip(self, memory: Memory, first: int) -> None:
        """Let the next block begin at an element."""
        self._next[memory] = first % self.geometry.depth(memory)

    def slack(self, load: Load) -> int:
        """Estimated cycles from the end of a load of the next elements until compute has no more work."""
        last = self._computes[-1].end if self._computes else 0
        return last - self._start(self._after(load.memory, load.x_size), NOTHING) - load_cycles(load, self.geometry)

    def _after(self, memory: Memory, count: int) -> int:
        """The last computation that reads what a load of the next elements would overwrite."""
        span = self._span(memory, self._place(memory, count), count)
        return int(self._reader[memory][span].max(initial=NOTHING))

    def _start(self, after: int, store: int) -> int:
        """Estimated cycle in which the next load can begin."""
        return max(
            self._loads[-1].end if self._loads else 0,
            self._computes[after].end if after != NOTHING else 0,
            self._stores[store].end if store != NOTHING else 0,
        )

    def _place(self, memory: Memory, count: int) -> int:
        first = self._next[memory]
        end = self.geometry.depth(memory) - (self.reserved if memory == Memory.OUT else 0)
        return first if self.wrap or first + count <= end else 0

    def _span(self, memory: Memory, first: int, count: int) -> NDArray[np.int64]:
        return (first + np.arange(count)) % self.geometry.depth(memory)

    # Operations -------------------------------------------------------------------------------------------------------

    def load(self, memory: Memory, count: int, transfers: Sequence[Load]) -> Block:
        """Load a block; the transfers' ``sram_base`` counts from its start."""
        after = self._after(memory, count)
        block = self.claim(memory, count, len(self._loads))
        store = NOTHING
        depth = self.geometry.depth(memory)
        placed = []
        for transfer in transfers:
            if memory == Memory.INP and transfer.x_size:
                for row in transfer.rows():
                    store = max(store, int(self._writer[row : row + transfer.x_size].max()))
            placed.append(replace(transfer, sram_base=(block.first + transfer.sram_base) % depth))
        start = self._start(after, store)
        end = start + sum(load_cycles(transfer, self.geometry) for transfer in placed)
        self._loads.append(_Load(placed, self.layer, after, store, end))
        return block

    def compute(
        self,
        instruction: Instruction,
        reads: Sequence[Block] = (),
        writes: Sequence[tuple[int, int]] = (),
    ) -> int:
        """Add a computation.

        Args:
            instruction: what to do.
            reads: loaded blocks that it uses.
            writes: (first, count) elements of the output memory that it changes.

        Returns:
            Its index.
        """
        index = len(self._computes)
        item = _Compute(instruction, self.layer)
        for block in reads:
            assert self._live[block.memory][block.first], "a block is used after its release"
            self._reader[block.memory][self._span(block.memory, block.first, block.count)] = index
            if block.load != NOTHING:
                item.load = max(item.load, block.load)
                load = self._loads[block.load]
                load.consumer = index if load.consumer == NOTHING else load.consumer
        for first, count in writes:
            item.store = max(item.store, int(self._reader[Memory.OUT][self._span(Memory.OUT, first, count)].max()))
        start = max(
            self._computes[-1].end if self._computes else 0,
            self._loads[item.load].end if item.load != NOTHING else 0,
            self._stores[item.store].end if item.store != NOTHING else 0,
        )
        item.end = start + compute_cycles(instruction)
        self._computes.append(item)
        return index

    def replace(self, computation: int, instruction: Instruction) -> None:
        """Put another instruction in a computation's place; what it reads and writes stays."""
        self._computes[computation].instruction = instruction

    def store(self, instruction: Store | XPool, first: int, count: int, after: int) -> None:
        """Add a store of ``count`` output elements from ``first`` on, after a computation."""
        index = len(self._stores)
        self._reader[Memory.OUT][self._span(Memory.OUT, first, count)] = index
        for y in range(instruction.y_size):
            row = instruction.dram_base + y * instruction.x_stride
            self._writer[row : row + instruction.x_size] = index
        start = max(self._stores[-1].end if self._stores else 0, self._computes[after].end)
        end = start + transfer_cycles(instruction, self.geometry)
        self._stores.append(_Store(instruction, self.layer, after, end))

    # Tokens -----------------------------------------------------------------------------------------------------------

    def finish(self) -> tuple[list[Instruction], list[int]]:
        """Return the program and each instruction's layer."""
        self.compute(Finish())
        self._computes[-1].store = len(self._stores) - 1
        relays = self._relays()
        queue: list[_Compute] = []
        place = {NOTHING: NOTHING}  # computation -> place in the queue, its relay included
        own = {}
        for index, item in enumerate(self._computes):
            own[index] = len(queue)
            queue.append(item)
            if index in relays:
                queue.append(_Compute(_relay(), item.layer, store=relays[index]))
            place[index] = len(queue) - 1
        for load in self._loads:
            load.after = place[load.after] if load.after in relays or load.after == NOTHING else own[load.after]
        for store in self._stores:
            store.after = own[store.after]
        return _merge(self._loads, queue, self._stores)

    def _relays(self) -> dict[int, int]:
        """Computation -> the store that a relay behind it waits for; sets what the loads wait for."""
        ends = [item.end for item in self._computes]
        relays: dict[int, int] = {}
        waited = NOTHING
        for load in self._loads:
            if load.store > waited:
                producer = self._stores[load.store].after
                last = max(load.consumer - 1, producer)
                early = int(np.searchsorted(ends, self._stores[load.store].end))
                at = min(max(load.after, producer, early), last)
                if relays:
                    at = max(at, max(relays))
                relays[at] = load.store
                waited = load.store
                load.after = max(load.after, at)
        return relays


def _relay() -> Load:
    return Load(memory=Memory.UOP, sram_base=0, dram_base=0, y_size=1, x_size=0, x_stride=0)


def _merge(
    loads: Sequence[_Load], computes: Sequence[_Compute], stores: Sequence[_Store]
) -> tuple[list[Instruction], list[int]]:
    """Tokens, and one stream: every instruction after all that it waits for, loads as early as they can begin."""
    load_to_compute = _awaited([item.load for item in computes])
    _stay_close(computes, stores)
    _take_early(computes, stores)
    store_to_compute = _awaited([item.store for item in computes])
    compute_to_load = _awaited([item.after for item in loads])
    compute_to_store = _awaited([item.after for item in stores])
    gives_load, gives_store = set(load_to_compute.values()), set(store_to_compute.values())
    to_load, to_store = set(compute_to_load.values()), set(compute_to_store.values())

    program: list[Instruction] = []
    layers: list[int] = []
    next_load = next_store = 0

    def add(instruction: Instruction, layer: int) -> None:
        program.append(instruction)
        layers.append(layer)

    for index, item in enumerate(computes):
        while next_load < len(loads) and loads[next_load].after < index:
            load = loads[next_load]
            for number, transfer in enumerate(load.instructions):
                pops = number == 0 and next_load in compute_to_load
                pushes = number == len(load.instructions) - 1 and next_load in gives_load
                add(replace(transfer, pop_next=pops, push_next=pushes), load.layer)
            next_load += 1
        assert item.load < next_load and item.store < next_store
        add(
            replace(
                item.instruction,
                pop_prev=index in load_to_compute,
                pop_next=index in store_to_compute,
                push_prev=index in to_load,
                push_next=index in to_store,
            ),
            item.layer,
        )
        while next_store < len(stores) and stores[next_store].after <= index:
            store = stores[next_store]
            pops, pushes = next_store in compute_to_store, next_store in gives_store
            add(replace(store.instruction, pop_prev=pops, push_prev=pushes), store.layer)
            next_store += 1
    return program, layers


def _stay_close(computes: Sequence[_Compute], stores: Sequence[_Store]) -> None:
    """Keep compute from running so far ahead of a slow store that compute's tokens fill the queue."""
    pairs = list(_awaited([store.after for store in stores]).items())  # store, the computation that gives its token
    for number in range(MOST_WAITING, len(pairs), WAITING_STEP):
        giver = computes[pairs[number][1]]
        giver.store = max(giver.store, pairs[number - MOST_WAITING][0])


def _take_early(computes: Sequence[_Compute], stores: Sequence[_Store]) -> None:
    """Let computations take tokens of stores before they pile up in the queue.

    A store gives its token when it ends; a computation may take it much later. So the computation that makes the data
    for the MOST_WAITING-th token after a store's token takes that token, if it comes after the store's own data.
    """
    given = sorted(set(_awaited([item.store for item in computes]).values()))
    for store, later in zip(given, given[MOST_WAITING:], strict=False):
        at = stores[later].after
        if stores[store].after < at:
            computes[at].store = max(computes[at].store, store)


def _awaited(needs: Sequence[int]) -> dict[int, int]:
    """Operations that wait -> the operation of the other module that they wait for."""
    awaited, latest = {}, NOTHING
    for index, need in enumerate(needs):
        if need > latest:
            awaited[index] = latest = need
    return awaited
