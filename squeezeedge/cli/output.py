"""The one output sink: results on stdout (a table, or JSON lines with ``--json``), everything else on stderr."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from squeezeedge.cli.wording import in_options
from squeezeedge.errors import PackageWarning

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["emit_json", "emit_table", "error", "note", "progress", "warnings_as_notes"]


FOR_USERS = (FutureWarning, PackageWarning)
"""Warnings of what will change, and of packages that cannot be used."""
UNBOUNDED = 10_000
"""Columns where nothing has to be broken."""


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
_LEAST_TEXT = 12
"""Columns that text is broken into at least."""


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: text on the left, figures on the right and never broken.

    A table of a few rows that is too wide for the terminal is printed with rows and columns exchanged; a longer one
    goes beyond the terminal's width. Elsewhere than on a terminal nothing is broken.
    """
    from rich.console import Console

    console = Console(soft_wrap=False)
    table = _table(title, columns, rows)
    needed = console.measure(table, options=console.options.update(width=UNBOUNDED))
    if not console.is_terminal:
        Console(width=max(console.width, needed.maximum)).print(table)
        return
    if needed.minimum > console.width and len(rows) <= _FEW_ROWS:
        names, *figures = zip(columns, *rows, strict=True)
        table = _table(title, names, figures)
        needed = console.measure(table, options=console.options.update(width=UNBOUNDED))
    Console(width=max(console.width, needed.minimum + len(columns))).print(table)  # rich counts too little


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        longest = max((len(row[index]) for row in rows), default=0)
        figures = index > 0 and all(_FIGURE.fullmatch(row[index]) for row in rows)
        whole = figures or index == 0
        least = longest if whole else min(longest, _LEAST_TEXT)  # what is longer is broken
        table.add_column(
            column, justify="right" if figures else "left", overflow="fold", min_width=least, no_wrap=whole
        )
    for row in rows:
        table.add_row(*row)
    return table


def note(text: str) -> None:
    """Print a remark on stderr, in the words of the command line."""
    sys.stderr.write(f"{in_options(text)}\n")


def error(text: str) -> None:
    """Print a failure on stderr."""
    note(f"squeezeedge: error: {text}")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print warnings that are for users (:data:`FOR_USERS`) as notes, each once; others as ever."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        for category in FOR_USERS:
            warnings.simplefilter("always", category)
        as_ever = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:  # noqa: ANN401
            if not issubclass(category, FOR_USERS):
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
