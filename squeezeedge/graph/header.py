"""The values of an .sqe file's header: JSON, checked before anything is made of it."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.integer import INTEGER_OPERATORS, Node

__all__ = ["FIRST_VERSION", "fields_of", "integer_of", "list_of", "no_constant", "node_of", "value_of"]

MAX_INTEGER = 2**16
FIRST_VERSION = {"groups": 2}
"""Fields of nodes that older versions lack."""
OPERATORS = {operator.__name__: operator for operator in INTEGER_OPERATORS}


def node_of(entry: object, arrays: dict[str, NDArray[Any]], version: int) -> Node:
    """Build one node from its record, taking its arrays out of ``arrays``."""
    operator = OPERATORS.get(str(entry.get("op"))) if isinstance(entry, dict) else None
    if operator is None:
        raise CorruptFileError(f"a node is not an object with an op of {', '.join(OPERATORS)}")
    hints = typing.get_type_hints(operator)
    names = [field.name for field in fields(operator) if FIRST_VERSION.get(field.name, 1) <= version]
    scalars = {name for name in names if hints[name] in (int, str, bool) or typing.get_origin(hints[name]) is tuple}
    record = fields_of(f"a node {operator.__name__}", entry, scalars | {"op"})
    node = value_of("name of a node", str, record["name"])
    values: dict[str, Any] = {}
    for name in names:
        if name in scalars:
            values[name] = value_of(f"{node}.{name}", hints[name], record[name])
        elif (key := f"{node}.{name}") in arrays:
            values[name] = arrays.pop(key)
        else:
            raise CorruptFileError(f"the array {key!r} is missing")
    return operator(**values)


def value_of(where: str, hint: object, value: object) -> Any:  # noqa: ANN401
    """A JSON value as the type that a node's field is annotated with."""
    if hint is int:
        return integer_of(where, value, MAX_INTEGER)
    if typing.get_origin(hint) is tuple:
        items, hints = list_of(where, value), typing.get_args(hint)
        if hints[-1] is Ellipsis:
            hints = hints[:1] * len(items)
        if len(items) != len(hints):
            raise CorruptFileError(f"{where} has {len(items)} values instead of {len(hints)}")
        return tuple(value_of(where, kind, item) for kind, item in zip(hints, items, strict=True))
    assert hint in (str, bool), hint
    if type(value) is not hint:
        raise CorruptFileError(f"{where} is not a {hint}")
    return value


def integer_of(where: str, value: object, limit: int) -> int:
    """A whole number up to a limit."""
    if type(value) is not int or not 0 <= value <= limit:
        raise CorruptFileError(f"{where} is {str(value)[:40]}, must be an integer in 0..{limit}")
    return value


def list_of(where: str, value: object) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise CorruptFileError(f"{where} is not a list")
    return value


def fields_of(where: str, value: object, names: set[str]) -> dict[str, Any]:
    """An object of exactly these fields."""
    if not isinstance(value, dict):
        raise CorruptFileError(f"{where} is not an object")
    if value.keys() != names:
        wrong = ", ".join(sorted(value.keys() ^ names))
        raise CorruptFileError(f"{where} lacks or should not have: {wrong[:200]}")
    return value


def no_constant(text: str) -> None:
    """Refuse NaN and infinities (``parse_constant`` of :func:`json.loads`)."""
    raise ValueError(f"{text} is not a JSON number")
