"""Tiles in the accumulators: their places, and what the pipelines need between two uses of one."""

from __future__ import annotations

import pytest

from squeezeedge.targets.vta.emit.accumulators import PIPELINE, Planes, vectors
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Alu, Gemm, Load
from squeezeedge.targets.vta.verify import machine
from tests.graphs import random_graph
from tests.targets.vta.compiled import DEFAULT, SMALL, build


def test_bias_and_shift_have_a_part_of_the_memory() -> None:
    assert (vectors(DEFAULT), vectors(SMALL)) == (2048 // 16, 512 // 16)
    assert Planes(first=3, blocks=2, rows=4, columns=5).plane == 20


def test_the_verifier_knows_the_same_pipelines() -> None:
    assert PIPELINE == machine.PIPELINE


@pytest.mark.parametrize("seed", [pytest.param(19, marks=pytest.mark.slow), 33])
def test_published_program_keeps_the_pipelines_distance(seed: int) -> None:
    """No instruction writes an accumulator that it has used in the last steps: hardware does not wait for it."""
    program = build(random_graph(seed), "published")
    instructions = program.decoded()
    assert not any(instruction.is_extended for instruction in instructions)
    uops: dict[int, MicroOp] = {}
    for instruction in instructions:
        if isinstance(instruction, Load) and instruction.memory == Memory.UOP and instruction.x_size:
            words = program.micro_ops()[instruction.dram_base :][: instruction.x_size]
            uops = {index: MicroOp.decode(int(word), DEFAULT) for index, word in enumerate(words)}
        if not isinstance(instruction, Gemm | Alu):
            continue
        recent: dict[int, int] = {}
        step = 0
        for y in range(instruction.iter_out):
            for x in range(instruction.iter_in):
                for u in range(instruction.uop_bgn, instruction.uop_end):
                    dst = uops[u].dst + y * instruction.dst_out + x * instruction.dst_in
                    assert step - recent.get(dst, -PIPELINE) >= PIPELINE, instruction
                    recent[dst] = step
                    step += 1
