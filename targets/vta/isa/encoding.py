"""The layout of instructions: every field of a class declares its width and its 64-bit word.

An instruction is two little-endian 64-bit words. Fields follow each other from bit 0 up in the order of declaration
and never straddle the words. A width is a number of bits or the name of a :class:`Geometry` attribute.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from squeezeedge.errors import CorruptFileError, UnsupportedError

if TYPE_CHECKING:
    from squeezeedge.targets.vta.isa.geometry import Geometry
    from squeezeedge.targets.vta.isa.state import State

__all__ = [
    "INSTRUCTION_SETS",
    "MAX_SHIFT",
    "SHIFT_BITS",
    "Instruction",
    "InstructionSet",
    "Module",
    "Slot",
    "Unit",
    "bits",
    "slots",
]

OPCODE_BITS = 3

SHIFT_BITS = 4
"""Width of a right shift in the hardware: a parameter's shift has these bits; a published shift one more, its sign."""

MAX_SHIFT = (1 << SHIFT_BITS) - 1
"""The accelerator's own limit of a shift, whatever the rules of the integer graph allow."""

InstructionSet = Literal["extended", "published"]
"""``published``: VTA's own instructions only; ``extended``: with this project's."""

INSTRUCTION_SETS: tuple[InstructionSet, ...] = get_args(InstructionSet)

Unit = Literal["gemm", "alu", "pool", "dram"]
"""The multiplier array, the vector unit, the pooling unit and the bus to the DRAM."""


class Module(Enum):
    """The processes that execute instructions, in the order of the data flow."""

    FETCH = 0
    LOAD = 1
    COMPUTE = 2
    STORE = 3


def bits(
    width: int | str,
    *,
    word: int,
    extra: int = 0,
    signed: bool = False,
    extended: bool = False,
    kind: type[IntEnum] | type[bool] | None = None,
    default: Any = dataclasses.MISSING,  # noqa: ANN401
) -> Any:  # noqa: ANN401  (as dataclasses.field)
    """Declare an instruction's field.

    Args:
        width: bits, or the name of the Geometry attribute that gives them.
        word: 0 or 1.
        extra: bits more than ``width``.
        signed: two's complement.
        extended: the published instruction has nothing there; a non-zero value needs the extended instructions.
        kind: Python type of the decoded value; ``None``: int.
        default: of the dataclass field; mandatory if missing.
    """
    metadata = {"width": width, "word": word, "extra": extra, "signed": signed, "extended": extended, "kind": kind}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Slot:
    """Where a field lies.

    Attributes:
        name: of the field.
        word: 0 or 1.
        low: first bit.
        width: bits.
        signed: two's complement.
        extended: see :func:`bits`.
        kind: Python type of the value.
    """

    name: str
    word: int
    low: int
    width: int
    signed: bool
    extended: bool
    kind: type[IntEnum] | type[bool] | type[int]


@dataclass(frozen=True, kw_only=True)
class Instruction(ABC):
    """What all instructions share: the opcode in bits 0..2 and the dependency bits 3..6.

    Modules form a line load - compute - store; "previous" and "next" are the neighbours in it. Tokens are popped
    before and pushed after the instruction's work.

    Attributes:
        pop_prev: wait for a token of the previous module.
        pop_next: wait for a token of the next module.
        push_prev: give a token to the previous module.
        push_next: give a token to the next module.
    """

    opcode: ClassVar[int]
    mnemonic: ClassVar[str]
    extended: ClassVar[bool] = False

    pop_prev: bool = bits(1, word=0, kind=bool, default=False)
    pop_next: bool = bits(1, word=0, kind=bool, default=False)
    push_prev: bool = bits(1, word=0, kind=bool, default=False)
    push_next: bool = bits(1, word=0, kind=bool, default=False)

    @property
    @abstractmethod
    def module(self) -> Module:
        """The module that executes it."""

    @property
    def steps(self) -> int:
        """Passes through its unit's pipeline."""
        return 0

    @property
    def unit(self) -> Unit | None:
        """What works on it, besides the bus."""
        return "alu" if self.module is Module.COMPUTE else None

    def bytes_moved(self, geometry: Geometry) -> int:
        """What it moves between DRAM and chip."""
        return 0

    @abstractmethod
    def execute(self, state: State) -> None:
        """The meaning, on numpy arrays."""

    @abstractmethod
    def operands(self) -> str:
        """The operands as text for a listing."""

    def __str__(self) -> str:
        tokens = " ".join(name for name in ("pop_prev", "pop_next", "push_prev", "push_next") if getattr(self, name))
        return f"{self.mnemonic:<10} {self.operands():<72} {tokens}".rstrip()

    def problem(self, geometry: Geometry) -> str | None:
        """Why the hardware could not execute these fields; ``None`` if it can."""
        if self.module is Module.LOAD and (self.pop_prev or self.push_prev):
            return "the load module has no previous module"
        if self.module is Module.STORE and (self.pop_next or self.push_next):
            return "the store module has no next module"
        return None

    @property
    def is_extended(self) -> bool:
        """Whether the published instructions lack it."""
        return self.extended or any(
            field.metadata["extended"] and getattr(self, field.name) for field in dataclasses.fields(self)
        )

    def encode(self, geometry: Geometry) -> tuple[int, int]:
        """The two 64-bit words.

        Raises:
            UnsupportedError: a value does not fit into its field, or see :meth:`problem`.
        """
        words = [self.opcode, 0]
        for slot in slots(type(self), geometry):
            value = int(getattr(self, slot.name))
            least = -(1 << slot.width - 1) if slot.signed else 0
            if not least <= value < least + (1 << slot.width):
                raise UnsupportedError(
                    f"{self.mnemonic}: {slot.name} = {value} does not fit into {slot.width} bits; use smaller tiles"
                )
            words[slot.word] |= (value & ((1 << slot.width) - 1)) << slot.low
        problem = self.problem(geometry)
        if problem:
            raise UnsupportedError(f"{self.mnemonic}: {problem}")
        return words[0], words[1]

    @classmethod
    def from_words(cls, words: tuple[int, int], geometry: Geometry) -> Instruction:
        """Decode two words that have this class's opcode.

        Raises:
            CorruptFileError: an unused bit is set, or a value is not a defined one.
        """
        values: dict[str, Any] = {}
        rest = [words[0] >> OPCODE_BITS << OPCODE_BITS, words[1]]
        for slot in slots(cls, geometry):
            raw = words[slot.word] >> slot.low & ((1 << slot.width) - 1)
            rest[slot.word] &= ~(raw << slot.low)
            if slot.signed and raw >> slot.width - 1:
                raw -= 1 << slot.width
            try:
                values[slot.name] = slot.kind(raw)
            except ValueError as error:
                raise CorruptFileError(f"{cls.mnemonic}: {slot.name} = {raw} is not defined") from error
        if any(rest):
            raise CorruptFileError(f"{cls.mnemonic}: unused bits are set")
        instruction = cls(**values)
        problem = instruction.problem(geometry)
        if problem:
            raise CorruptFileError(f"{cls.mnemonic}: {problem}")
        return instruction


@cache
def slots(instruction: type[Instruction], geometry: Geometry) -> tuple[Slot, ...]:
    """The layout of an instruction's fields, the dependency bits included."""
    return tuple(_layout(instruction, geometry))


def _layout(instruction: type[Instruction], geometry: Geometry) -> Iterator[Slot]:
    low = [OPCODE_BITS, 0]
    for field in dataclasses.fields(instruction):
        data = field.metadata
        width = data["width"] if isinstance(data["width"], int) else getattr(geometry, data["width"])
        width += data["extra"]
        word = data["word"]
        kind = data["kind"] or int
        yield Slot(field.name, word, low[word], width, data["signed"], data["extended"], kind)
        low[word] += width
        assert low[word] <= 64, f"{instruction.__name__}.{field.name} crosses a word"
