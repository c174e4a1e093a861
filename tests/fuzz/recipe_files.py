"""Recipes: values, keys and tables of the TOML, and the changes that the command line makes to them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from squeezeedge.training.recipe import embedded_recipes, load_recipe
from tests.fuzz import Files, Format
from tests.fuzz.values import change_bytes, change_json, change_text

__all__ = ["RECIPE", "to_toml"]

NAME, CHANGES = "recipe.toml", "changes.json"
ODD = ("inf", "nan", "-0.0", "1e400", "1979-05-27", "07:32:00", "0x10", "[" * 3000, "9" * 5000, "{a = 1}", "'", '"""')


def to_toml(table: Any, prefix: str = "") -> str:  # noqa: ANN401  (JSON)
    """A tree as TOML; what is no table is a value, as JSON writes it (TOML reads most of that)."""
    if not isinstance(table, dict):
        return f"value = {json.dumps(table)}\n"
    lines = [
        f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in table.items() if not isinstance(value, dict)
    ]
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{json.dumps(key)}"
            lines.append(f"[{name}]\n{to_toml(value, f'{name}.')}")
    return "".join(lines)


def _mutate(random: Random, files: Files) -> Files:
    data = files[NAME]
    changes: Any = []
    match random.randrange(6):
        case 0:
            data = change_bytes(random, data)
        case 1:
            lines = data.decode().splitlines()
            place = random.randrange(len(lines))
            key = lines[place].partition("=")[0]
            lines[place] = random.choice((f"{key}= {random.choice(ODD)}", change_text(random, lines[place])))
            data = "\n".join(lines).encode("utf-8", "surrogatepass")
        case 2:
            table = tomllib.loads(data.decode())
            key = random.choice([*table, *(f"optimizer.{key}" for key in table.get("optimizer", {})), "input.size"])
            change = f"{key}={random.choice((*ODD, '1', '0.5', 'true', 'sgd', ''))}"
            changes = [change_text(random, change) if random.random() < 0.5 else change]
        case _:
            data = to_toml(change_json(random, tomllib.loads(data.decode()))).encode()
    return {NAME: data, CHANGES: json.dumps(changes).encode()}


def _read(folder: Path) -> object:
    return load_recipe(str(folder / NAME), json.loads((folder / CHANGES).read_bytes())).to_json()


def _train(folder: Path) -> list[str]:
    return ["train", "--recipe", str(folder / NAME), "--data", str(folder / "none"), "-o", str(folder / "run")]


RECIPE = Format(
    name="recipe",
    share=8,
    seeds=lambda: [{NAME: path.read_bytes(), CHANGES: b"[]"} for path in embedded_recipes().values()],
    mutate=_mutate,
    readers=(_read,),
    command=_train,
)
