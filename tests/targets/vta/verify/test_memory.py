"""Accesses that are not allowed: places, elements that nobody wrote, and orders that no token enforces."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.published import Finish
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from tests.targets.vta.verify.by_hand import (
    FINISH,
    GOOD,
    RESET,
    Wrong,
    changed,
    load,
    program,
    refused,
    store,
)

WRONG: Wrong = {
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
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name: str) -> None:
    refused(WRONG, name)


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
