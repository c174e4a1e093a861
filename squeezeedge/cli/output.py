"""The one output sink: results on stdout (a table, or JSON lines with ``--json``), everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["emit_json", "emit_table", "error", "note", "progress", "warnings_as_notes"]


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


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column is text, the others are right-aligned."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=max(console.width, 160))
    console.print(table)


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
