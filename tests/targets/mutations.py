"""Damaged JSON records: values that are missing, of another type, out of range, of another length."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["VALUES", "flipped", "mutations"]

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        7,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "7",
        "sm_80",
        "../../secret",
        "\0",
        "\ud800",
    ),
    *(2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**31), -(2**63), -(10**30)),
    *([], {}, [[]], [0], [1, 2, 3, 4, 5, 6, 7], ["input", 0], {"a": []}, [[[[[[]]]]]], [None] * 3, [float("nan")] * 2),
)
"""What a value is replaced by."""


def mutations(record: Any, count: int, seed: int) -> Iterator[Any]:  # noqa: ANN401  (JSON)
    """Copies of a JSON value, each damaged in one to three places; the same ones for the same seed."""
    chooser = random.Random(seed)
    for _ in range(count):
        damaged = json.loads(json.dumps(record))
        for _ in range(chooser.choice((1, 1, 1, 2, 3))):
            damaged = _damaged(damaged, chooser)
        yield damaged


def flipped(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a file with some bytes changed, cut off, or repeated."""
    chooser = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(data)
        kind = chooser.random()
        if kind < 0.1:
            del damaged[chooser.randrange(len(damaged)) :]
        elif kind < 0.2:
            at = chooser.randrange(len(damaged))
            damaged[at:at] = damaged[at : at + chooser.randrange(1, 200)]
        for _ in range(chooser.choice((1, 1, 2, 8))):
            if damaged:
                damaged[chooser.randrange(len(damaged))] = chooser.randrange(256)
        yield bytes(damaged)


def _damaged(record: Any, chooser: random.Random) -> Any:  # noqa: ANN401
    places = list(_places(record))
    if not places:
        return chooser.choice(VALUES)
    holder, key = chooser.choice(places)
    if chooser.random() < 0.5:
        holder[key] = copy.deepcopy(chooser.choice(VALUES))
    else:
        change: Callable[[Any, Any], None] = chooser.choice((_delete, _repeat, _wrap, _nudge))
        change(holder, key)
    return record


def _places(record: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    """Every (container, key or index)."""
    entries = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in list(entries):
        yield record, key
        yield from _places(value)


def _delete(holder: Any, key: Any) -> None:  # noqa: ANN401
    del holder[key]


def _repeat(holder: Any, key: Any) -> None:  # noqa: ANN401
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}2"] = holder[key]


def _wrap(holder: Any, key: Any) -> None:  # noqa: ANN401
    holder[key] = [holder[key]]


def _nudge(holder: Any, key: Any) -> None:  # noqa: ANN401
    value = holder[key]
    if type(value) is int:
        holder[key] = -value if value % 2 else value + 1
    elif isinstance(value, str):
        holder[key] = value + "x"
    else:
        holder[key] = str(value)
