"""What the accelerator executes, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.vta.device import PROGRAM
from squeezeedge.targets.vta.isa.program import read_program
from squeezeedge.targets.vta.isa.words import disassemble

__all__ = ["listing"]

WIDTH = 160
"""Columns of an instruction; its layer's name follows."""


def listing(folder: Path) -> Iterator[str]:
    """The instructions of an artifact, disassembled, each with its layer.

    Raises:
        CorruptFileError: a file is damaged; the text names it.
    """
    try:
        program = read_program(Artifact(folder))
    except ValueError as error:
        raise CorruptFileError(str(error)) from error
    try:
        lines = disassemble(program.words(), program.geometry, program.instructions).splitlines()
    except CorruptFileError as error:
        raise CorruptFileError(f"{folder / PROGRAM}: {error}; compile again") from error
    for line, layer in zip(lines, program.instruction_layers, strict=True):
        yield f"{line:<{WIDTH}}  ; {program.layers[layer].name}"
