"""The simulator beside the instructions' reference bodies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.simulator import Registers, Simulator
from squeezeedge.targets.vta.state import State

DRAM_BYTES = 1 << 20
PROGRAM_BYTES = 1024
BASES = {memory: PROGRAM_BYTES + 4096 * number for number, memory in enumerate(Memory)}


def registers(count: int) -> Registers:
    """A program at the beginning of the DRAM, the memories behind it."""
    return Registers(count=count, program=0, **{memory.name.lower(): base for memory, base in BASES.items()})


def compare_with_reference(simulator: Simulator, program: Sequence[Instruction], seed: int) -> None:
    """Both execute a program from the same random contents; after every instruction all bytes must be equal."""
    geometry = simulator.geometry
    state = random_state(geometry, seed)
    dram = state.dram.copy()
    for memory in Memory:
        simulator.memory(memory)[:] = raw(state, memory)
    for number, instruction in enumerate(program):  # one run each: without tokens their order would be open
        words = encode([instruction], geometry, "extended").view(np.uint8).ravel()
        state.dram[: len(words)] = dram[: len(words)] = words
        instruction.execute(state)
        simulator.run(dram, registers(1))
        for memory in Memory:
            differing = (simulator.memory(memory) != raw(state, memory)).any(1).nonzero()[0]
            assert not len(differing), f"{number}: {instruction}: {memory.name}{differing}"
        assert np.array_equal(dram, state.dram), f"{number}: {instruction}: DRAM"


def random_state(geometry: Geometry, seed: int) -> State:
    """Random contents everywhere; accumulators and biases are mostly far from overflow, sometimes near it."""
    random = np.random.default_rng(seed)
    state = State(geometry, random.integers(0, 256, DRAM_BYTES, np.uint8), BASES)
    for memory in (state.wgt, state.inp, state.out):
        memory[:] = random.integers(-128, 128, memory.shape)
    state.uop[:] = random.integers(0, 1 << 32, state.uop.shape, np.uint32)
    for memory in (state.acc, state.bias):
        scale = random.choice([12, 20, 31], memory.shape)
        memory[:] = random.integers(-(1 << scale), 1 << scale)
    state.shift[:] = random.integers(0, 16, state.shift.shape)
    return state


def raw(state: State, memory: Memory) -> NDArray[np.uint8]:
    """A memory's bytes as they lie in DRAM: uint8 [depth, bytes of an element]."""
    if memory == Memory.PAR:
        parts = [state.bias.astype("<i4").view(np.uint8), state.shift.view(np.uint8)]
        return np.concatenate(parts, 1)
    array = getattr(state, memory.name.lower())
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).view(np.uint8).reshape(len(array), -1)
