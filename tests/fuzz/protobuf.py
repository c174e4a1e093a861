"""A mutator of protobuf messages that needs no schema: the wire format's fields, with every length recomputed."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import NamedTuple

from tests.fuzz.values import NUMBERS, TEXTS, change_bytes, change_number, change_text, some

__all__ = ["change_protobuf"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LARGEST_PARSED = 1 << 16


class Field(NamedTuple):
    """A field: its number, wire type and value (a number, bytes, or fields)."""

    number: int
    wire: int
    value: int | bytes | tuple[Field, ...]


def change_protobuf(random: Random, data: bytes, most: int = 3) -> bytes:
    """A message with a few fields, at any depth, changed, taken out, repeated or exchanged."""
    fields = _parse(data)
    if fields is None or random.random() < 0.05:
        return change_bytes(random, data)
    for _ in range(some(random, most)):
        fields = _changed(random, fields)
    return b"".join(map(_encoded, fields))


def _changed(random: Random, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """One change, in one of the fields or below it: deeper ones are reached as often as there are many."""
    if not fields:
        return (Field(random.randrange(1, 16), VARINT, random.choice(NUMBERS)),)
    place = random.choices(range(len(fields)), [_weight(field) for field in fields])[0]
    field = fields[place]
    below = field.value
    if isinstance(below, tuple) and random.random() < 0.85:
        return (*fields[:place], field._replace(value=_changed(random, below)), *fields[place + 1 :])
    match random.randrange(8):
        case 0:
            return (*fields[:place], *fields[place + 1 :])
        case 1:
            return (*fields[:place], field, *fields[place:])
        case 2:
            return (*fields[:place], random.choice(fields), *fields[place + 1 :])
        case 3:
            changed = field._replace(number=random.randrange(1, 30))
        case 4 if random.random() < 0.3:
            changed = field._replace(wire=random.choice((VARINT, FIXED64, BYTES, 3, 4, FIXED32)))
        case _:
            changed = field._replace(value=_another(random, field))
    return (*fields[:place], changed, *fields[place + 1 :])


def _weight(field: Field) -> int:
    return sum(map(_weight, field.value)) + 1 if isinstance(field.value, tuple) else 1


def _another(random: Random, field: Field) -> int | bytes | tuple[Field, ...]:
    value = field.value
    if isinstance(value, int):
        return change_number(random, value)
    if isinstance(value, bytes):
        if value.isascii() and random.random() < 0.7:
            return change_text(random, value.decode()).encode("utf-8", random.choice(("surrogatepass", "replace")))
        return change_bytes(random, value)
    return random.choice(TEXTS).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=256)
def _parse(data: bytes) -> tuple[Field, ...] | None:
    """The fields of a message, ``None`` if it is none."""
    fields, place = [], 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if number == 0:
            return None
        value: int | bytes | tuple[Field, ...]
        if wire == VARINT:
            value, place = _varint(data, place)
        elif wire in (FIXED32, FIXED64):
            width = 4 if wire == FIXED32 else 8
            value, place = int.from_bytes(data[place : place + width], "little"), place + width
        elif wire == BYTES:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        else:
            return None
        if place > len(data):
            return None
        if isinstance(value, bytes) and 1 < len(value) <= LARGEST_PARSED:
            value = _parse(value) or value
        fields.append(Field(number, wire, value))
    return tuple(fields)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """(value, place behind it); a place beyond the end if it is cut off."""
    value = shift = 0
    while place < len(data) and shift < 70:
        value |= (data[place] & 0x7F) << shift
        shift += 7
        place += 1
        if not data[place - 1] & 0x80:
            return value, place
    return value, len(data) + 1


def _encoded(field: Field) -> bytes:
    value, key = field.value, _encoded_varint(field.number << 3 | field.wire)
    if isinstance(value, tuple):
        value = b"".join(map(_encoded, value))
    if isinstance(value, bytes):
        return key + (_encoded_varint(len(value)) if field.wire == BYTES else b"") + value
    if field.wire in (FIXED32, FIXED64):
        width = 4 if field.wire == FIXED32 else 8
        return key + (value % (1 << 8 * width)).to_bytes(width, "little")
    return key + _encoded_varint(value)


def _encoded_varint(value: int) -> bytes:
    value %= 1 << 64
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
