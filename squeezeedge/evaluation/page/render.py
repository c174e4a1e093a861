"""Findings -> one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import check_path
from squeezeedge.evaluation.page.contents import page_of
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.files import write_file

if TYPE_CHECKING:  # it is loaded when a page is made
    from jinja2 import Environment

__all__ = ["render", "write_report"]

TEMPLATE = "report.html.jinja"


def render(
    findings: Findings, command: Sequence[str] = (), *, date: datetime | None = None, words: Callable[[str], str] = str
) -> str:
    """The page as text: it needs no other file, no network and no script, and every text of the findings is escaped.

    Args:
        findings: what it shows.
        command: the words of the command line that makes it; empty: nobody typed one.
        date: that it bears; ``None``: now.
        words: makes the options of a program of the library's arguments in backquotes.

    Raises:
        SqueezeEdgeError: an image that was evaluated cannot be read any more.
    """
    when = datetime.now(UTC) if date is None else date
    page = page_of(findings, command, f"{when:%Y-%m-%d %H:%M} UTC", words)
    return _environment().get_template(TEMPLATE).render(page=page)


@cache
def _environment() -> Environment:
    """Where the templates are, which are read once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("squeezeedge.evaluation.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(
    findings: Findings,
    path: str | os.PathLike[str],
    command: Sequence[str] = (),
    *,
    force: bool = False,
    words: Callable[[str], str] = str,
) -> None:
    """Write the page, whole or not at all.

    Args:
        findings: what it shows.
        path: the file.
        command: see :func:`render`.
        force: replace what is there.
        words: see :func:`render`.

    Raises:
        UsageError: something is there that is not to be replaced.
        SqueezeEdgeError: an image cannot be read any more, or the file cannot be written.
    """
    check_path("path", path)
    text = render(findings, command, words=words)
    write_file(Path(path), text.encode("utf-8", "backslashreplace"), force=force)  # of names that are no text
