"""docs/operators.md from the tables: which consumer takes which operator.

tests/graph/test_dispatch.py imports every module that has a table, and writes or compares the file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from squeezeedge.graph.dispatch import Table, operator_name

__all__ = ["empty_cells", "operators_markdown"]

INTRODUCTION = """\
# Operators

Which part of the compiler takes which operator; the rows are operators, the columns are what reads them. A cell is
`yes`, or why the operator is not met there. "Before" says that it has been rewritten by then: by a pass over the float
graph (`squeezeedge/quantization/passes.py`), or for a target that has no kernels for it
(`squeezeedge/lower/legalize.py`); networks with it are taken all the same.

This file is written from the code by `pytest tests/graph/test_dispatch.py --update-golden`.
"""


def empty_cells(tables: Iterable[Table[Any, Any]]) -> list[str]:
    """Cells without an entry, as "consumer: operator"."""
    return [
        f"{table.consumer}: {operator_name(operator)}"
        for table in tables
        for operator, cell in table.cells().items()
        if cell is None
    ]


def operators_markdown(tables: Iterable[Table[Any, Any]]) -> str:
    """The file: one table a family of operators.

    Args:
        tables: those that belong in it, in any order; all their cells are filled.
    """
    families: dict[tuple[Hashable, ...], list[Table[Any, Any]]] = {}
    for table in sorted(tables, key=lambda table: table.consumer):
        families.setdefault(table.operators, []).append(table)
    sections = sorted(f"\n## {_home(operators)}\n\n{_grid(operators, found)}" for operators, found in families.items())
    return INTRODUCTION + "".join(sections)


def _home(operators: tuple[Hashable, ...]) -> str:
    """The module that the family is from: that of its first operator."""
    first = operators[0]
    return f"`{(first if isinstance(first, type) else type(first)).__module__}`"


def _grid(operators: tuple[Hashable, ...], tables: list[Table[Any, Any]]) -> str:
    rows = [["operator", *(table.consumer for table in tables)], ["---"] * (len(tables) + 1)]
    rows += [[operator_name(op), *(_cell(table, op) for table in tables)] for op in operators]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(table: Table[Any, Any], operator: Hashable) -> str:
    cell = table.cells()[operator]
    assert cell is not None, f"{table.consumer} says nothing of {operator_name(operator)}"
    return cell or "yes"
