"""Tables as text, laid out for a terminal's width. Names and figures are never broken, so that they can be copied."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len

__all__ = ["WIDTH", "Table", "interval", "number"]

WIDTH = 80
"""Columns where nobody says how many there are."""
GAP = INDENT = "  "
LEAST_TEXT = 16
"""Columns that a text of several words is broken into at least."""
FEW_ROWS = 2

_NUMBER = r"[-+]?[0-9][0-9.,]*"
_FIGURE = re.compile(rf"{_NUMBER}(\.\.{_NUMBER})?( %)?|yes|no|-|")
"""A cell that is a number or a range, answers a question, or says that there is nothing."""
_NOTHING = ("", "-")


class Table(NamedTuple):
    """Names, words and figures for people.

    Attributes:
        title: one sentence or less.
        columns: their names; the first column names the rows.
        rows: one text a column each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH, heading: Callable[[str], str] = str) -> str:
        """The table in at most ``width`` columns, unless a name or figure is wider; no newline at the end.

        Text is aligned left, figures right. Rows and columns without content are left out. Text of several words is
        broken between words. A table that is still too wide gets another layout: few rows are exchanged with the
        columns; long names get lines of their own; any other table is split into pieces that repeat the names.

        Args:
            width: of the terminal.
            heading: sets off the lines of the title and of the columns' names.
        """
        columns = _telling(self.columns, self.rows)
        title = textwrap.wrap(self.title, width, break_long_words=False, break_on_hyphens=False)
        pieces = ["\n".join(lines) for lines in _laid_out(columns, width, heading)]
        return "\n\n".join(["\n".join(map(heading, title)), *pieces])


def number(value: float | None, digits: int = 2) -> str:
    """A figure for a table; a dash where it is unknown."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(ends: tuple[float, float] | None, *, signed: bool = False) -> str:
    """An interval for a table, as ``"98.20..99.60"``; a dash where it is unknown."""
    return "-" if ends is None else "..".join(f"{end:{'+' if signed else ''}.2f}" for end in ends)


class _Column:
    """A column: its name and cells, how wide it can be, and whether it holds figures."""

    def __init__(self, name: str, cells: Sequence[str], *, names: bool = False) -> None:
        self.name, self.cells, self.names = name, tuple(cells), names
        self.figures = not names and all(map(_FIGURE.fullmatch, cells))
        whole = max(map(cell_len, cells), default=0)
        words = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
        least = whole if names or self.figures else max(words, min(whole, LEAST_TEXT))
        self.least = max(least, *(cell_len(word) for word in (*name.split(), "")))
        self.most = max(whole, self.least, cell_len(name))

    def lines(self, cell: str, width: int) -> list[str]:
        """A cell, or the name, in lines of that width."""
        if cell_len(cell) <= width:
            return [cell]
        return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]

    def placed(self, line: str, width: int) -> str:
        """A line, filled up with blanks on its left or right."""
        blanks = " " * (width - cell_len(line))
        return blanks + line if self.figures else line + blanks


def _telling(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[_Column]:
    """The columns of the rows, both without those that say nothing."""
    kept = [row for row in rows if len(row) == 1 or any(cell not in _NOTHING for cell in row[1:])]
    cells = list(zip(*kept, strict=True)) if kept else [()] * len(names)
    return [
        _Column(name, column, names=not index)
        for index, (name, column) in enumerate(zip(names, cells, strict=True))
        if not (index and kept and all(cell in _NOTHING for cell in column))
    ]


def _laid_out(columns: Sequence[_Column], width: int, heading: Callable[[str], str]) -> Iterator[list[str]]:
    """The lines of each piece."""
    names, *others = columns
    if not others or _needed(columns) <= width:
        yield _block(columns, width, heading)
        return
    if 0 < len(names.cells) <= FEW_ROWS:
        exchanged = _exchanged(columns)
        if _needed(exchanged) <= width:
            yield _block(exchanged, width, heading)
            return
    if 2 * names.least > width and len(INDENT) + _needed(others) <= width:
        yield _under_names(columns, width, heading)
        return
    while others:
        count = 1
        while count < len(others) and _needed([names, *others[: count + 1]]) <= width:
            count += 1
        yield _block([names, *others[:count]], width, heading)
        others = others[count:]


def _needed(columns: Sequence[_Column]) -> int:
    return sum(column.least for column in columns) + len(GAP) * (len(columns) - 1)


def _exchanged(columns: Sequence[_Column]) -> list[_Column]:
    names, *others = columns
    labels = _Column(names.name, [column.name for column in others], names=True)
    return [
        labels,
        *(_Column(name, [column.cells[row] for column in others]) for row, name in enumerate(names.cells)),
    ]


def _block(columns: Sequence[_Column], width: int, heading: Callable[[str], str]) -> list[str]:
    """Lines of columns beside each other."""
    return [line for row in _rows(columns, width, heading) for line in row]


def _rows(columns: Sequence[_Column], width: int, heading: Callable[[str], str]) -> list[list[str]]:
    """Lines of the columns' names and of each row; the room that is left is for text, and for names in one line."""
    room = max(width - _needed(columns), 0)
    widths = []
    for column in columns:
        widths.append(min(column.most, column.least + room))
        room -= widths[-1] - column.least
    names = _row(columns, [column.name for column in columns], widths)
    cells = zip(*(column.cells for column in columns), strict=True)
    return [[heading(line) for line in names], *(_row(columns, row, widths) for row in cells)]


def _row(columns: Sequence[_Column], cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    broken = [column.lines(cell, width) for column, cell, width in zip(columns, cells, widths, strict=True)]
    lines = []
    for index in range(max(map(len, broken))):
        parts = [
            column.placed(found[index] if index < len(found) else "", width)
            for column, found, width in zip(columns, broken, widths, strict=True)
        ]
        lines.append(GAP.join(parts).rstrip())
    return lines


def _under_names(columns: Sequence[_Column], width: int, heading: Callable[[str], str]) -> list[str]:
    """Each name on a line of its own, the row indented below it."""
    names, *others = columns
    head, *rows = _rows(others, width - len(INDENT), heading)
    lines = [heading(names.name), *(INDENT + line for line in head)]
    for name, row in zip(names.cells, rows, strict=True):
        lines += [name, *(INDENT + line for line in row)]
    return lines
