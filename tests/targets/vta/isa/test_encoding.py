"""How fields become bits, for the instructions and for one of every kind of field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

import numpy as np
import pytest

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction, Module, Slot, bits, slots
from squeezeedge.targets.vta.isa.geometry import Geometry, load_config
from squeezeedge.targets.vta.isa.published import Finish
from squeezeedge.targets.vta.isa.state import State
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS, decode

GEOMETRIES = [load_config().geometry, load_config("zcu104-block32").geometry]


class Kind(IntEnum):
    FIRST = 0
    SECOND = 2


@dataclass(frozen=True, kw_only=True)
class Sample(Instruction):
    opcode: ClassVar[int] = 6
    mnemonic: ClassVar[str] = "sample"

    count: int = bits("uop_bits", extra=1, word=0)
    kind: Kind = bits(2, word=0, kind=Kind, default=Kind.FIRST)  # noqa: RUF009  (a field)
    offset: int = bits(16, word=1, signed=True, default=0)
    flag: bool = bits(1, word=1, kind=bool, extended=True, default=False)

    @property
    def module(self) -> Module:
        return Module.STORE

    def execute(self, state: State) -> None:
        raise NotImplementedError

    def operands(self) -> str:
        return f"{self.count} {self.kind.name.lower()}"


SAMPLE = Sample(count=3, kind=Kind.SECOND, offset=-2, flag=True, pop_prev=True)


def test_fields_follow_each_other_in_their_words() -> None:
    own = [slot for slot in slots(Sample, Geometry()) if not slot.name.startswith(("pop", "push"))]
    assert own == [
        Slot("count", 0, 7, 14, False, False, int),
        Slot("kind", 0, 21, 2, False, False, Kind),
        Slot("offset", 1, 0, 16, True, False, int),
        Slot("flag", 1, 16, 1, False, True, bool),
    ]
    wider = {slot.name: slot.low for slot in slots(Sample, replace(Geometry(), uop_buffer=1 << 12))}
    assert wider["kind"] == 18, "a width of the geometry"


def test_a_field_may_not_cross_a_word() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wide(Sample):
        more: int = bits(42, word=0, default=0)

    with pytest.raises(AssertionError, match=r"Wide\.more crosses a word"):
        slots(Wide, Geometry())


def test_words_of_values() -> None:
    words = (6 | 1 << 3 | 3 << 7 | 2 << 21, 0xFFFE | 1 << 16)
    assert SAMPLE.encode(Geometry()) == words
    assert Sample.from_words(words, Geometry()) == SAMPLE
    assert str(SAMPLE) == f"sample     {'3 second':<72} pop_prev"
    assert (SAMPLE.unit, SAMPLE.steps, SAMPLE.bytes_moved(Geometry())) == (None, 0, 0)


FIELDS: dict[str, Callable[[int], Sample]] = {
    "count": lambda value: replace(SAMPLE, count=value),
    "offset": lambda value: replace(SAMPLE, offset=value),
}


@pytest.mark.parametrize(
    ("name", "least", "most", "width"), [("count", 0, (1 << 14) - 1, 14), ("offset", -(1 << 15), (1 << 15) - 1, 16)]
)
def test_values_that_do_not_fit(name: str, least: int, most: int, width: int) -> None:
    make = FIELDS[name]
    for value in (least, most):
        assert Sample.from_words(make(value).encode(Geometry()), Geometry()) == make(value)
    for value in (least - 1, most + 1):
        with pytest.raises(UnsupportedError, match=f"sample: {name} = {value} does not fit into {width} bits"):
            make(value).encode(Geometry())


def test_what_is_not_defined_is_not_decoded() -> None:
    low, high = SAMPLE.encode(Geometry())
    with pytest.raises(CorruptFileError, match="sample: kind = 3 is not defined"):
        Sample.from_words((low | 1 << 21, high), Geometry())
    with pytest.raises(CorruptFileError, match="sample: unused bits are set"):
        Sample.from_words((low, high | 1 << 17), Geometry())
    with pytest.raises(CorruptFileError, match="sample: the store module has no next module"):
        Sample.from_words((low | 1 << 6, high), Geometry())
    with pytest.raises(UnsupportedError, match="sample: the store module has no next module"):
        replace(SAMPLE, pop_next=True).encode(Geometry())


def test_one_field_may_make_an_instruction_an_extended_one() -> None:
    assert SAMPLE.is_extended and not replace(SAMPLE, flag=False).is_extended


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("instruction", INSTRUCTIONS.values())
def test_fields_are_disjoint(instruction: type[Instruction], geometry: Geometry) -> None:
    taken = {(0, bit) for bit in range(3)}
    for slot in slots(instruction, geometry):
        bits = {(slot.word, bit) for bit in range(slot.low, slot.low + slot.width)}
        assert not bits & taken
        assert slot.low + slot.width <= 64
        taken |= bits


@pytest.mark.parametrize("word", [0, 1])
def test_every_unused_bit_is_refused(word: int) -> None:
    used = {(slot.word, bit) for slot in slots(Finish, Geometry()) for bit in range(slot.low, slot.low + slot.width)}
    for bit in range(3 if word == 0 else 0, 64):
        if (word, bit) in used:
            continue
        words = np.zeros((1, 2), np.uint64)
        words[0, 0] = Finish.opcode
        words[0, word] |= np.uint64(1) << np.uint64(bit)
        with pytest.raises(CorruptFileError, match="unused bits"):
            decode(words, Geometry(), "published")
