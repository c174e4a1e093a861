"""The one output sink: results on stdout (a table, or JSON lines with ``--json``), everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["emit_json", "emit_table", "error", "note", "progress", "warnings_as_notes"]


WIDTH = 160
"""Columns of output that is not read on a terminal."""


def emit_json(value: object) -> None:
    """Print one JSON value on one line of stdout; numbers that are not finite, which JSON lacks, are null."""
    sys.stdout.write(json.dumps(_finite(value), allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_FIGURE = re.compile(r"[-+]?[0-9][0-9.,]*( %)?|-|")
"""A cell that is a number, or says that there is none."""
_FEW_ROWS = 4


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: text on the left, figures on the right and never broken.

    A table of a few rows that is too wide for the terminal is printed with rows and columns exchanged; a longer one
    goes beyond the terminal's width.
    """
    from rich.console import Console

    console = Console(soft_wrap=False)
    table = _table(title, columns, rows)
    least = console.measure(table).minimum
    if console.is_terminal and least > console.width and len(rows) <= _FEW_ROWS:
        names, *figures = zip(columns, *rows, strict=True)
        table = _table(title, names, figures)
        least = console.measure(table).minimum
    if not console.is_terminal and "COLUMNS" not in os.environ:
        least = max(least, WIDTH)
    Console(width=max(console.width, least)).print(table)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        figures = index > 0 and all(_FIGURE.fullmatch(row[index]) for row in rows)
        if figures:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def note(text: str) -> None:
    """Print a remark on stderr."""
    sys.stderr.write(f"{text}\n")


def error(text: str) -> None:
    """Print a failure on stderr."""
    note(f"squeezeedge: error: {text}")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print warnings of what will change (FutureWarning) as notes, each once; others as ever."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", FutureWarning)
        as_ever = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:  # noqa: ANN401
            if not issubclass(category, FutureWarning):
                as_ever(message, category, *place, **more)
            elif str(message) not in seen:
                seen.add(str(message))
                note(f"note: {message}")

        warnings.showwarning = show
        yield


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, shown on a terminal only.

    Yields:
        ``advance(steps=1, detail="")``.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)

        def advance(steps: int = 1, detail: str = "") -> None:
            bar.update(task, advance=steps, description=f"{label} {detail}".rstrip())

        yield advance
