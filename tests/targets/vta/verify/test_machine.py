"""What the verifier says of instructions that the hardware would execute in another way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.published import AluOp, Finish
from squeezeedge.targets.vta.verify.program import verify
from tests.targets.vta.verify.by_hand import (
    BLOCK,
    GOOD,
    OPS,
    UOPS,
    X_LOADS,
    Wrong,
    alu,
    changed,
    load,
    program,
    refused,
    x,
)


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


WRONG: Wrong = {
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


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name: str) -> None:
    refused(WRONG, name)


def test_a_shift_of_15_is_fine() -> None:
    verify(shifted(15))
    verify(parameter(15))
