"""The one output sink: results on stdout (a table, or JSON lines with ``--json``), everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from squeezeedge.cli.wording import in_options
from squeezeedge.errors import PackageWarning

__all__ = [
    "emit_json",
    "emit_lines",
    "emit_table",
    "emit_text",
    "error",
    "note",
    "printable",
    "progress",
    "warnings_as_notes",
]


FOR_USERS = (FutureWarning, PackageWarning)
"""Warnings of what will change, and of packages that cannot be used."""
DEFAULT_WIDTH = 80
"""Columns where no terminal says how many it has."""

_COMMANDS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that command a terminal or turn the order of others, and bytes of names that are no text."""


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
    """Print a table on stdout, as wide as the terminal; without a terminal, 80 columns or ``COLUMNS``."""
    from squeezeedge.evaluation.tables import Table

    shown = Table(printable(title), [*map(printable, columns)], [[*map(printable, row)] for row in rows])
    sys.stdout.write(f"{shown.text(_width(), _heading)}\n\n")


def emit_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout, none of which is broken, whatever its length."""
    for line in lines:
        sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """A text as one line that cannot control a terminal: control characters and invalid bytes are escaped.

    Names of files, layers and classes come from untrusted sources.
    """
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def emit_text(text: str) -> None:
    """Print a paragraph on stdout, in the words of the command line, as wide as a table."""
    sys.stdout.write(f"{_broken(in_options(text), _width())}\n")


def note(text: str) -> None:
    """Print a remark on stderr, in the words of the command line; on a terminal it is broken between words."""
    sys.stderr.write(f"{_broken(in_options(text), _terminal_width(sys.stderr))}\n")


def _heading(line: str) -> str:
    """A line in bold type, on a terminal that takes it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return line if plain else f"\x1b[1m{line}\x1b[0m"


def _broken(text: str, width: int | None) -> str:
    """Printable lines of at most ``width`` columns, unless a word is longer; what was indented stays so."""
    given = [*map(printable, text.splitlines())]
    if width is None:
        return "\n".join(given)
    lines = []
    for line in given:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def _width() -> int:
    """Columns for what is printed on stdout."""
    given = os.environ.get("COLUMNS", "")
    return (int(given) if given.isdecimal() else 0) or _terminal_width(sys.stdout) or DEFAULT_WIDTH


def _terminal_width(stream: TextIO) -> int | None:
    """Columns of a terminal; ``None``: the stream is none."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH


def error(text: str) -> None:
    """Print a failure on stderr."""
    note(f"squeezeedge: error: {text}")


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print warnings for users (:data:`FOR_USERS`) as notes, each once; others are shown as usual."""
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
def progress(label: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, shown on a terminal only.

    Args:
        label: what is done, in front of the bar.
        total: how many steps there are.

    Yields:
        ``advance(steps=1, detail="", done=None, total=None)``; the last two begin to count anew.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)

        def advance(steps: int = 1, detail: str = "", done: int | None = None, total: int | None = None) -> None:
            counted: dict[str, Any] = {"advance": steps} if done is None else {"completed": done, "total": total}
            bar.update(task, description=printable(f"{label} {detail}".rstrip()), **counted)

        yield advance
