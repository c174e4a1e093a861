"""The verifier against the simulator: what it accepts ends in every timing and leaves what its instructions mean.

Random programs, most of them accepted: every change of the module has a token, and of some programs one is dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, Instruction, InstructionSet, Module
from squeezeedge.targets.vta.isa.extended import XAdd, XPool
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.published import AluOp, Finish
from squeezeedge.targets.vta.isa.state import State
from squeezeedge.targets.vta.sim.simulator import Registers, Simulator, Timing
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from tests.targets.vta.verify.by_hand import BLOCK, GEOMETRY, alu, gemm, load, program, store, x

TIMINGS = (Timing(), Timing(1, 300), Timing(64, 1))
SEED = 0
ORDER = (Module.LOAD, Module.COMPUTE, Module.STORE)


class Maker:
    """Random instructions on eight elements of everything, with the tokens that keep them in order."""

    def __init__(self, instructions: InstructionSet, seed: int) -> None:
        self.random = np.random.default_rng([seed, len(instructions)])
        self.instructions: InstructionSet = instructions
        self.code: list[Instruction] = []
        self.stored, self.summed = 8, False

    def number(self, least: int, most: int) -> int:
        return int(self.random.integers(least, most + 1))

    def flip(self) -> bool:
        return bool(self.random.integers(0, 2))

    def add(self, instruction: Instruction) -> None:
        """Behind what is there, and after it."""
        if self.code:
            before = ORDER.index(self.code[-1].module)
            step = ORDER.index(instruction.module) - before
            if abs(step) == 2:
                self.add(alu(iter_out=0))
                step //= 2
            if step:
                push, pop = ("push_next", "pop_prev") if step > 0 else ("push_prev", "pop_next")
                self.code[-1] = replace(self.code[-1], **{push: True})
                instruction = replace(instruction, **{pop: True})
        self.code.append(instruction)

    def inputs(self) -> Instruction:
        stored = self.stored - 8
        again = stored > 0 and self.flip()
        return load(
            Memory.INP,
            self.number(1, stored) if again else self.number(1, 8),
            sram_base=self.number(0, 8),
            dram_base=8 if again else 0,
            x_pad_0=self.number(0, 2),
            y_pad_1=self.number(0, 1),
            pad_low=self.instructions == "extended" and self.flip(),
        )

    def constants(self) -> Instruction:
        if self.flip():
            return load(Memory.WGT, sram_base=8 * self.number(0, 1))
        return load(Memory.PAR) if self.instructions == "extended" else load(Memory.ACC, sram_base=24)

    def stores(self) -> Instruction:
        """To what no other one stores to."""
        if self.instructions == "extended" and self.number(0, 2) == 0 and not self.summed:
            self.summed = True
            return replace(store(0, 1, sram_base=self.number(0, 8)), memory=Memory.ACC)
        first, size = self.stored, self.number(1, 3)
        if first + size > 16:
            return self.computes()
        self.stored += size
        if self.instructions == "published" or self.flip():
            return store(first, size, sram_base=self.number(0, 12))
        return XPool(
            sram_base=0,
            dram_base=first,
            kernel_h=self.number(1, 3),
            kernel_w=2,
            stride_h=1,
            stride_w=self.number(1, 2),
            y_size=1,
            x_size=size,
            x_stride=4,
            rows=2,
            cols=4,
        )

    def computes(self) -> Instruction:
        if self.instructions == "extended":
            return self._extended()
        first = self.number(0, 23)
        if self.number(0, 2):
            loops = {"iter_out": self.number(1, 2), "dst_out": 8 * self.number(0, 1), "src_out": self.number(0, 1)}
            return gemm(reset=self.flip(), uop_bgn=first, uop_end=first + 1, src_in=self.number(0, 1), **loops)
        op = AluOp(self.number(0, 3))
        if self.flip():
            return alu(op, uop_bgn=first, uop_end=first + 1, imm=self.number(-8, 8), iter_in=self.number(4, 8))
        vector = 24 + self.number(0, 7)
        return alu(op, uop_bgn=vector, uop_end=vector + 1, use_imm=False)

    def _extended(self) -> Instruction:
        if not self.number(0, 3):
            return XAdd(
                blocks=self.number(1, 2),
                count=4,
                par=self.number(0, 2),
                low=self.flip(),
                a_base=self.number(0, 4),
                b_base=self.number(0, 4),
                dst_base=self.number(0, 4),
            )
        return x(
            uop_bgn=self.number(0, 20),
            uops=self.number(1, 4),
            blocks=self.number(1, 2),
            rows=2,
            cols=4,
            epilogue=self.number(0, 2),
            accumulate=self.number(0, 4) == 0,
            low=self.flip(),
            relu=self.flip(),
            src_row=self.number(0, 2),
            src_col=self.number(0, 1),
            dst_base=self.number(0, 1),
            dst_block=8,
            par=self.number(0, 4),
        )

    def program(self) -> VtaProgram:
        first: list[Instruction] = [load(Memory.UOP, 32), load(Memory.WGT), load(Memory.INP, 8, x_pad_0=4, x_pad_1=4)]
        if self.instructions == "extended":
            first += [load(Memory.PAR), load(Memory.WGT, sram_base=8)]
            first += [x(epilogue=number, rows=2, cols=8) for number in range(2)]
        else:
            first += [load(Memory.ACC, sram_base=24), gemm(reset=True, iter_out=3, dst_out=8)]
        makers = [self.inputs, self.constants, self.computes, self.computes, self.computes, self.stores]
        for instruction in first:
            self.add(instruction)
        for _ in range(self.number(3, 9)):
            self.add(makers[self.number(0, len(makers) - 1)]())
        self.add(self.stores())
        self.add(Finish())
        if self.flip():
            self._drop()
        micro_ops = [
            MicroOp(number and self.number(0, 8), self.number(0, 7), self.number(0, 7)) for number in range(24)
        ]
        micro_ops += [MicroOp(self.number(0, 8), 24 + index) for index in range(8)]  # of vectors
        return self._constants(program(self.code, self.instructions, micro_ops))

    def _drop(self) -> None:
        """A token less, at both of its ends."""
        at = [n for n, i in enumerate(self.code[:-1]) if i.push_next or i.push_prev]
        number = at[self.number(0, len(at) - 1)]
        self.code[number] = replace(self.code[number], push_next=False, push_prev=False)
        self.code[number + 1] = replace(self.code[number + 1], pop_next=False, pop_prev=False)

    def _constants(self, made: VtaProgram) -> VtaProgram:
        """Random weights and biases, shifts, and vectors that may be either."""
        image = np.frombuffer(made.image, np.uint8).copy()
        for name in ("wgt", "par", "acc"):
            region = made.region(name)
            image[region.offset :][: region.size] = self.random.integers(0, 256, region.size)
        par = image[made.region("par").offset :][: 8 * 5 * BLOCK].reshape(8, -1)
        par[:, 3 : 4 * BLOCK : 4] = 0  # biases below 2^24
        par[:, 4 * BLOCK :] %= 16
        acc = image[made.region("acc").offset :][: 8 * 4 * BLOCK].view("<i4").reshape(8, -1)
        acc[::2] %= 16
        return replace(made, image=image.tobytes())


@cache
def simulator() -> Simulator:
    return Simulator(GEOMETRY)


def meaning(made: VtaProgram, dram: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The instructions' reference bodies, one after the other."""
    bases = {memory: made.bases[memory.name.lower()] for memory in Memory}
    state = State(GEOMETRY, dram.copy(), bases)
    for instruction in made.decoded():
        instruction.execute(state)
    return state.dram


def fate(made: VtaProgram, seed: int) -> str:
    try:
        verify(made)
    except VerificationError:
        return "refused"
    random = np.random.default_rng(seed)
    before = np.zeros(made.dram_bytes, np.uint8)
    before[: len(made.image)] = np.frombuffer(made.image, np.uint8)
    host = made.region("image")
    before[host.offset :][: host.size] = random.integers(0, 256, host.size)
    expected = meaning(made, before)
    for timing in TIMINGS:
        for memory in Memory:
            contents = simulator().memory(memory)
            contents[:64] = random.integers(0, 256, contents[:64].shape)
        dram = before.copy()
        simulator().run(dram, Registers(**made.registers()), timing)
        assert np.array_equal(dram, expected), f"program {seed}, {timing}"
    return "accepted"


@pytest.mark.parametrize("programs", [25, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_accepted_programs_run_and_mean_the_same(instructions: InstructionSet, programs: int) -> None:
    fates = Counter(fate(Maker(instructions, seed).program(), seed) for seed in range(SEED, SEED + programs))
    assert min(fates["accepted"], fates["refused"]) > programs / 4, fates
