"""docs/recipes.md says what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezeedge.training.recipe import Augmentation, Recipe, Schedule
from squeezeedge.training.recipe_docs import recipe_page

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PAGE.write_text(recipe_page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == recipe_page(), (
        "pytest tests/training/test_recipe_docs.py --update-golden"
    )


def test_every_key_is_told_with_its_default() -> None:
    lines = recipe_page().splitlines()
    for kind in (Recipe, Schedule, Augmentation):
        for field in vars(kind)["__dataclass_fields__"]:
            assert any(line.startswith(f"| `{field}` |") for line in lines) or f"## [{field}]" in lines, field
    assert any(line.startswith("| `batch_norm` | true or false | `false` | normalize the squeeze") for line in lines)
    assert any(line.startswith("| `epochs` | whole number |  | times that each image is seen. |") for line in lines)
