"""Programs as instructions, as words, and as a listing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.targets.vta.isa.encoding import OPCODE_BITS, Instruction, InstructionSet
from squeezeedge.targets.vta.isa.extended import XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Alu, Finish, Gemm, Load, Store

__all__ = ["INSTRUCTIONS", "decode", "disassemble", "encode", "encode_micro_ops", "listing"]

INSTRUCTIONS: dict[int, type[Instruction]] = {
    instruction.opcode: instruction for instruction in (Load, Store, Gemm, Finish, Alu, XGemm, XPool, XAdd)
}
"""Every instruction by opcode."""


def encode(program: Iterable[Instruction], geometry: Geometry, instructions: InstructionSet) -> NDArray[np.uint64]:
    """Instructions -> little-endian words, uint64 [n, 2]: as they lie in DRAM.

    Raises:
        UnsupportedError: a value does not fit, or is not one of the instructions; the text names the instruction.
    """
    words = []
    for number, instruction in enumerate(program):
        if instructions == "published" and instruction.is_extended:
            raise UnsupportedError(f"instruction {number}: {instruction.mnemonic} needs the extended instructions")
        try:
            words.append(instruction.encode(geometry))
        except UnsupportedError as error:
            raise UnsupportedError(f"instruction {number}: {error}") from error
    return np.array(words, "<u8").reshape(-1, 2)


def decode(words: NDArray[np.uint64], geometry: Geometry, instructions: InstructionSet) -> list[Instruction]:
    """Words, uint64 [n, 2], -> instructions; encoding them gives the same words.

    Raises:
        CorruptFileError: not one of the instructions; the text names its number.
    """
    program = []
    for number, (low, high) in enumerate(words.tolist()):
        try:
            instruction = INSTRUCTIONS[low & ((1 << OPCODE_BITS) - 1)].from_words((low, high), geometry)
        except CorruptFileError as error:
            raise CorruptFileError(f"instruction {number}: {error}") from error
        if instructions == "published" and instruction.is_extended:
            raise CorruptFileError(f"instruction {number}: {instruction.mnemonic} needs the extended instructions")
        program.append(instruction)
    return program


def encode_micro_ops(micro_ops: Sequence[MicroOp], geometry: Geometry) -> NDArray[np.uint32]:
    """Micro-ops -> little-endian words, uint32 [n]: as they lie in DRAM."""
    return np.array([micro_op.encode(geometry) for micro_op in micro_ops], "<u4")


def listing(program: Sequence[Instruction], geometry: Geometry) -> str:
    """One line an instruction: number, words in hexadecimal, module, mnemonic, operands, tokens."""
    lines = []
    for number, instruction in enumerate(program):
        low, high = instruction.encode(geometry)
        module = instruction.module.name.lower()
        lines.append(f"{number:6d}  {high:016x}_{low:016x}  {module:<8} {instruction}\n")
    return "".join(lines)


def disassemble(words: NDArray[np.uint64], geometry: Geometry, instructions: InstructionSet) -> str:
    """The listing of words, uint64 [n, 2].

    Raises:
        CorruptFileError: not one of the instructions.
    """
    return listing(decode(words, geometry, instructions), geometry)
