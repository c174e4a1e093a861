"""What the accelerator executes, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.trace import no_such_layer
from squeezeedge.targets.vta.device import PROGRAM
from squeezeedge.targets.vta.isa.program import read_program
from squeezeedge.targets.vta.isa.words import disassemble

__all__ = ["listing"]

WIDTH = 160
"""Columns of an instruction; its layer's name follows."""


def listing(folder: Path, layer: str | None = None) -> Iterator[str]:
    """The instructions of an artifact, disassembled, each with its layer.

    Args:
        folder: the artifact.
        layer: only those of a layer of the program, or of the one that a layer of the graph is part of.

    Raises:
        UsageError: the program has no such layer.
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
    names = [known.name for known in program.layers]
    if layer is not None and not any(_is_of(layer, name) for name in names):
        raise no_such_layer(layer, names)
    for line, index in zip(lines, program.instruction_layers, strict=True):
        if layer is None or _is_of(layer, names[index]):
            yield f"{line:<{WIDTH}}  ; {names[index]}"


def _is_of(layer: str, name: str) -> bool:
    """Whether a layer of the program, such as ``fire.concat+pool``, has that name or contains that layer."""
    return layer == name or layer in name.split("+")
