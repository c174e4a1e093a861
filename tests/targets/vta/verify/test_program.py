"""The static verifier: what it proves of real programs, and what it says of wrong ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS, InstructionSet
from squeezeedge.targets.vta.isa.program import VtaProgram
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.lower import compiler
from squeezeedge.targets.vta.verify.program import VerificationError, verify
from tests.graphs import random_graph
from tests.targets.vta.compiled import BLOCK32, SMALL, build_with_layers, small
from tests.targets.vta.verify.by_hand import GOOD, Wrong, program, refused

GEOMETRIES = {"small": SMALL, "block32": BLOCK32}


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("seed", [0, pytest.param(5, marks=pytest.mark.slow)])
def test_random_graphs_pass(seed: int, geometry: str, instructions: InstructionSet) -> None:
    program, _ = build_with_layers(random_graph(seed), instructions, GEOMETRIES[geometry])  # verified with its layers
    verify(program)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_defect_of_the_compiler_is_not_written(instructions: InstructionSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*arguments: Any) -> NDArray[np.uint64]:  # noqa: ANN401
        words = encode(*arguments)
        words[-1, 0] ^= np.uint64(1 << 4)  # finish: pop_next
        return words

    monkeypatch.setattr(compiler, "encode", damaged)
    with pytest.raises(VerificationError, match=r"instruction \d+ \(layer"):
        build_with_layers(random_graph(19), instructions, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_a_program_that_was_read_passes_without_layers(instructions: InstructionSet) -> None:
    made, _ = small(instructions)
    verify(VtaProgram.from_json(json.loads(json.dumps(made.to_json())), made.image))


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.sampled_from(INSTRUCTION_SETS), st.integers(0, 1 << 30), st.integers(0, 255))
def test_damaged_programs_that_are_read_give_one_error(instructions: InstructionSet, at: int, value: int) -> None:
    """Without layers, and whatever byte of the program or the micro-ops differs."""
    made, _ = small(instructions)
    image = bytearray(made.image)
    image[at % (made.region("uop").offset + made.region("uop").size)] = value
    record = replace(made, image=bytes(image)).to_json()
    try:
        verify(VtaProgram.from_json(record, bytes(image)))
    except VerificationError as error:
        assert str(error).startswith("VTA program: ")


def test_a_good_program() -> None:
    verify(program(GOOD))


def corrupted() -> VtaProgram:
    made = program(GOOD)
    image = bytearray(made.image)
    image[48:64] = b"\xff" * 16
    return replace(made, image=bytes(image))


WRONG: Wrong = {
    "a word of ones": (lambda: corrupted(), "instruction 3: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_are_refused(name: str) -> None:
    refused(WRONG, name)
