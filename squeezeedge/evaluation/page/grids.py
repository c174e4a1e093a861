"""Tables for people in a page."""

from __future__ import annotations

import re
from dataclasses import dataclass

from squeezeedge.evaluation.tables import Table

__all__ = ["NOTHING", "Grid", "grid"]

NOTHING = "-"
_FIGURE = re.compile(r"[-+]?[0-9][0-9.,]*(\.\.[-+]?[0-9][0-9.,]*)?( [%a-zA-Z]{1,3})?|yes|no")


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        columns: their names.
        figures: which of them hold figures.
        rows: texts; a dash where nothing is known.
    """

    columns: tuple[str, ...]
    figures: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def grid(table: Table) -> Grid:
    """A table for people, without rows and columns that say nothing; the first column is always names."""
    rows = [["" if cell == "-" else cell for cell in row] for row in table.rows]
    rows = [row for row in rows if any(row[1:])]
    kept = [0, *(place for place in range(1, len(table.columns)) if any(row[place] for row in rows))]
    figures = [all(_FIGURE.fullmatch(row[place]) for row in rows if row[place]) for place in kept]
    return Grid(
        tuple(table.columns[place] for place in kept),
        (False, *figures[1:]),
        tuple(tuple(row[place] or NOTHING for place in kept) for row in rows),
    )
