"""Mutators of bytes, numbers, texts and JSON trees, which the formats' own are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.fuzz import BAIT

__all__ = ["NUMBERS", "TEXTS", "change_bytes", "change_json", "change_number", "change_text", "dump_json", "some"]

NUMBERS = (
    *(0, 1, -1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 1000, 4096, 32767, 65535, 65536),
    *(2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 10**30),
)
TEXTS = (
    *("", "a", "0", "-1", "..", ".", "/", "~", "-", "--help", "None", "nan", "\0", "a\0b", "\n", "a\nb", "\x1b[31m"),
    *("\ud800", "é", "\u202e", "x" * 5000, "a/" * 3000, f"../{BAIT}", f"x/../../{BAIT}", "/etc/passwd", "/dev/zero"),
    *("%s%n", "{0}", "uint8", "float32", "int64", "object", ">f4", "relu", "input", "output", "image"),
)
_DEEP, _LONG = "@deep nesting@", "@long number@"
_ODD: tuple[Any, ...] = (None, True, False, 0.5, -1.5, 1e308, float("nan"), float("inf"), [], {}, [[]], _DEEP, _LONG)


def some(random: Random, most: int) -> int:
    """A count from 1 to ``most``, small ones more often."""
    count = 1
    while count < most and random.random() < 0.4:
        count += 1
    return count


def change_number(random: Random, number: int) -> int:
    """Another integer: a special one, or one nearby."""
    match random.randrange(5):
        case 0:
            return number + random.choice((-1, 1))
        case 1:
            return number * random.choice((-1, 2, 3, 1000)) + random.choice((0, 1))
        case 2:
            return number ^ (1 << random.randrange(33))
    return random.choice(NUMBERS)


def change_text(random: Random, text: str) -> str:
    """Another text: a special one, or this one a little different."""
    match random.randrange(6):
        case 0 if text:
            place = random.randrange(len(text))
            return text[:place] + random.choice(("", "\0", "x", "/", "é", " ", "\n", ".")) + text[place + 1 :]
        case 1:
            return text + random.choice(TEXTS)
        case 2:
            return text[: random.randrange(len(text) + 1)]
        case 3:
            return text * random.choice((2, 100))
    return random.choice(TEXTS)


def change_bytes(random: Random, data: bytes, most: int = 6) -> bytes:
    """A few places of the bytes changed, taken out, repeated, or the end cut off."""
    changed = bytearray(data)
    for _ in range(some(random, most)):
        if not changed:
            return random.randbytes(random.randrange(64))
        place = random.randrange(len(changed)) if random.random() < 0.6 else random.randrange(min(len(changed), 64))
        length = random.choice((1, 1, 2, 4, 8, 64))
        match random.randrange(9):
            case 0 | 1:
                changed[place] ^= 1 << random.randrange(8)
            case 2:
                changed[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 3:
                width = random.choice((2, 4, 8))
                number = random.choice(NUMBERS) % (1 << 8 * width)
                changed[place : place + width] = number.to_bytes(width, random.choice(("little", "big")))
            case 4:
                del changed[place : place + length]
            case 5:
                changed[place:place] = changed[place : place + length]
            case 6:
                changed[place:place] = random.randbytes(length)
            case 7:
                other = random.randrange(len(changed))
                changed[place : place + length] = changed[other : other + length]
            case 8:
                del changed[place:]
    return bytes(changed)


def change_json(random: Random, value: Any, most: int = 3) -> Any:  # noqa: ANN401  (JSON)
    """A tree with a few nodes replaced, removed, repeated, renamed or exchanged; ``value`` itself stays."""
    value = json.loads(json.dumps(value))
    for _ in range(some(random, most)):
        places = list(_places(value))
        if not places:
            return _another(random, value)
        container, key = random.choice(places)
        match random.randrange(8):
            case 0:
                del container[key]
            case 1:
                other, place = random.choice(places)
                if place in other if isinstance(other, dict) else True:
                    container[key] = json.loads(json.dumps(other[place]))
            case 2 if isinstance(container, dict):
                container[change_text(random, str(key))] = container.pop(key)
            case 2:
                container.insert(key, json.loads(json.dumps(container[key])))
            case 3:
                container[key] = random.choice(([container[key]], {"name": container[key]}, str(container[key])))
            case _:
                container[key] = _another(random, container[key])
    return value


def dump_json(value: Any) -> bytes:  # noqa: ANN401  (JSON)
    """The tree as text; what json cannot write (deep nesting, numbers of 5,000 digits) in place of its marks."""
    text = json.dumps(value)
    text = text.replace(f'"{_DEEP}"', "[" * 20_000 + "]" * 20_000)
    return text.replace(f'"{_LONG}"', "9" * 5_000).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401  (JSON)
    """(container, key) of every node of a tree below its root."""
    if isinstance(value, dict | list):
        for key in range(len(value)) if isinstance(value, list) else value:
            yield value, key
            yield from _places(value[key])


def _another(random: Random, value: Any) -> Any:  # noqa: ANN401  (JSON)
    """A value in place of another, of the same type more often than not."""
    if random.random() < 0.7:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return change_number(random, value)
        if isinstance(value, float):
            return random.choice((-value, value * 2, 0.0, 1e-40, 1e39, float("nan"), float("inf")))
        if isinstance(value, str):
            return change_text(random, value)
    return random.choice((random.choice(_ODD), random.choice(NUMBERS), random.choice(TEXTS)))
