"""Tables: what a call does, and that over the whole package no cell of (operator x consumer) is empty."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import squeezeedge
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import dispatch
from squeezeedge.graph.dispatch import Table, all_tables
from squeezeedge.graph.operator_docs import empty_cells, operators_markdown

OPTIONAL = {"acl", "ais_bench", "nncf", "openvino", "pynq"}
"""Devices' and peers' libraries that need not be here; modules that import them may stay out."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"


class _Square:
    name = "square"


class _Round:
    name = "round"


class _Slab(_Square):
    name = "slab"


class _Kind(StrEnum):
    FIRST = "first"
    SECOND = "second"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, Table[Any, Any]]]:
    """An empty list of tables in place of the package's."""
    monkeypatch.setattr(dispatch, "_TABLES", {})
    yield all_tables()


@pytest.mark.usefixtures("registry")
def test_a_call_goes_to_the_function_of_the_node_s_class() -> None:
    table: Table[object, str] = Table("draw", (_Square, _Round))

    @table.implements(_Square)
    def _square(node: _Square, times: int, *, end: str) -> str:
        return node.name * times + end

    @table.implements(_Round)
    def _round(node: _Round, times: int, *, end: str) -> str:
        return "o" * times + end

    assert table(_Square(), 2, end="!") == "squaresquare!"
    assert table(_Round(), 3, end="") == "ooo"
    assert table(_Slab(), 1, end="") == "slab"
    assert table.cells() == {_Square: "", _Round: ""}


@pytest.mark.usefixtures("registry")
def test_the_nearest_class_of_the_family_counts() -> None:
    table: Table[object, str] = Table("draw", (_Square, _Slab))
    table.implements(_Square)(lambda node: "square")
    table.implements(_Slab)(lambda node: "slab")
    assert (table(_Slab()), table(_Square())) == ("slab", "square")


@pytest.mark.usefixtures("registry")
def test_a_key_of_its_own() -> None:
    table: Table[tuple[_Kind, int], int] = Table("count", tuple(_Kind), key=lambda node: node[0])
    table.implements(*_Kind)(lambda node: node[1] + 1)
    assert [table((kind, 2)) for kind in _Kind] == [3, 3]


@pytest.mark.usefixtures("registry")
def test_what_is_refused_names_node_consumer_and_reason() -> None:
    table: Table[object, str] = Table("the plotter", (_Square, _Round))
    table.refuses(_Round, why="it has no compass; draw squares")
    with pytest.raises(UnsupportedError, match=r"^round: the plotter has no _Round: it has no compass; draw squares$"):
        table(_Round())
    with pytest.raises(UnsupportedError, match=r"^square: the plotter has no _Square: it does not know the operator$"):
        table(_Square())
    with pytest.raises(UnsupportedError, match=r"^network: the plotter has no int: it does not know"):
        table(5)
    assert table.cells() == {_Square: None, _Round: "it has no compass; draw squares"}


@pytest.mark.usefixtures("registry")
def test_a_cell_is_filled_once_and_by_its_family_only() -> None:
    table: Table[object, str] = Table("draw", (_Square,))
    table.refuses(_Square, why="no")
    with pytest.raises(AssertionError, match="_Square"):
        table.implements(_Square)(lambda node: "square")
    with pytest.raises(AssertionError, match="draw: _Round is not of its family"):
        table.refuses(_Round, why="no")
    with pytest.raises(AssertionError, match="draw"):
        Table("draw", (_Round,))


def test_tables_are_listed(registry: Mapping[str, Table[Any, Any]]) -> None:
    first, second = Table[object, str]("first", (_Square,)), Table[object, str]("second", (_Square,))
    assert registry == {"first": first, "second": second}


@pytest.fixture(scope="module")
def tables() -> list[Table[Any, Any]]:
    """All tables of the package, after every module of it has been imported."""
    for module in pkgutil.walk_packages(squeezeedge.__path__, "squeezeedge.", onerror=_fail):
        if module.name.rpartition(".")[2] != "__main__":
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if str(error.name).partition(".")[0] not in OPTIONAL:
                    raise
    return list(all_tables().values())


def _fail(name: str) -> None:
    raise AssertionError(f"{name} cannot be imported")


def test_every_consumer_says_something_about_every_operator(tables: list[Table[Any, Any]]) -> None:
    assert {"oracle", "graph checks", "float run", "Relax", "ONNX"} <= {table.consumer for table in tables}
    missing = empty_cells(tables)
    assert not missing, "nothing is said of\n" + "\n".join(missing)


def test_the_documentation_is_what_the_tables_say(
    tables: list[Table[Any, Any]], request: pytest.FixtureRequest
) -> None:
    text = operators_markdown(tables)
    if request.config.getoption("--update-golden"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "docs/operators.md differs; run pytest --update-golden"
