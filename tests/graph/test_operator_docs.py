"""How the table of operators is written."""

from __future__ import annotations

from enum import StrEnum

import pytest

from squeezeedge.graph import dispatch
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.operator_docs import INTRODUCTION, empty_cells, operators_markdown


class _Square:
    pass


class _Round:
    pass


class _Kind(StrEnum):
    ONLY = "only"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Table[object, None]]:
    monkeypatch.setattr(dispatch, "_TABLES", {})
    first: Table[object, None] = Table("printer", (_Square, _Round))
    first.implements(_Square)(lambda node: None)
    first.refuses(_Round, why="no compass")
    second: Table[object, None] = Table("knife", (_Square, _Round))
    second.implements(_Square, _Round)(lambda node: None)
    third: Table[object, None] = Table("lathe", tuple(_Kind), key=lambda node: _Kind.ONLY)
    third.implements(_Kind.ONLY)(lambda node: None)
    return [first, second, third]


def test_one_grid_a_family(tables: list[Table[object, None]]) -> None:
    home = f"\n## `{__name__}`\n\n"
    shapes = f"{home}| operator | knife | printer |\n| --- | --- | --- |\n"
    shapes += "| _Square | yes | yes |\n| _Round | yes | no compass |\n"
    kinds = f"{home}| operator | lathe |\n| --- | --- |\n| only | yes |\n"
    assert operators_markdown(tables) == operators_markdown(tables[::-1]) == INTRODUCTION + shapes + kinds


def test_empty_cells_are_named(tables: list[Table[object, None]]) -> None:
    assert empty_cells(tables) == []
    unfinished: Table[object, None] = Table("saw", (_Square, _Round))
    unfinished.implements(_Round)(lambda node: None)
    assert empty_cells([*tables, unfinished]) == ["saw: _Square"]
