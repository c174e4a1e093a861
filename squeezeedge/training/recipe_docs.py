"""docs/recipes.md: every key of a recipe, made of the dataclasses that read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from inspect import cleandoc, getdoc
from typing import Any, Literal, get_args, get_origin, get_type_hints

from squeezeedge.training.recipe import Recipe

__all__ = ["recipe_page"]

HEAD = cleandoc("""
    # The keys of a recipe

    A recipe is a TOML file: `squeezeedge recipes` lists those that are embedded, `--recipe FILE.toml` takes another
    one, and `--set KEY=VALUE` changes one value, `--set TABLE.KEY=VALUE` one in a table. What has no default must be
    there. How training works is told in [training.md](training.md).

    This page is written from the program by `pytest tests/training/test_recipe_docs.py --update-golden`.
""")


def recipe_page() -> str:
    """The page: a table of the keys at the top of the file, and one for each TOML table."""
    return "\n".join([HEAD, *_tables(Recipe, "")]) + "\n"


def _tables(kind: type[Any], name: str) -> Iterator[str]:
    """Lines on a dataclass, then on those of its fields that are dataclasses."""
    hints, told = get_type_hints(kind), _told(kind)
    own = [field for field in fields(kind) if not is_dataclass(hints[field.name])]
    yield f"\n## {f'[{name}]' if name else 'The run'}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |"
    for field in own:
        default = "" if field.default is MISSING else f"`{_toml(field.default)}`"
        yield f"| `{field.name}` | {_values(hints[field.name])} | {default} | {told[field.name]} |"
    for field in fields(kind):
        if field not in own:
            yield from _tables(hints[field.name], f"{name}.{field.name}".lstrip("."))


def _told(kind: type[Any]) -> dict[str, str]:
    """What a dataclass's docstring says of each attribute."""
    text = (getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r":\w+:`([^`]*)`", r"`\1`", " ".join(said.split())).replace("``", "`") for name, said in found}


def _values(hint: Any) -> str:  # noqa: ANN401  (a type)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in get_args(hint))
    kinds = get_args(hint) or (hint,)
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return " or ".join(
        words.get(kind, str(getattr(kind, "__name__", kind))) for kind in kinds if kind is not type(None)
    )


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
