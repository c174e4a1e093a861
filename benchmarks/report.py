"""What a benchmark prints and writes: tables, notes, and a JSON file with the machine that was measured on."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from squeezeedge.evaluation.machine import processor
from squeezeedge.evaluation.tables import Table
from squeezeedge.files import write_file

__all__ = ["note", "print_table", "report", "versions", "write_report"]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print figures on stdout; the first column is text."""
    print(Table(title, columns, rows))


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr)


def versions(packages: tuple[str, ...]) -> dict[str, str] | None:
    """Installed versions, or ``None`` if one is missing."""
    try:
        return {package: metadata.version(package) for package in packages}
    except metadata.PackageNotFoundError:
        return None


def report(benchmark: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON values)
    """A benchmark's figures and the machine that they were measured on, as JSON values."""
    return {"benchmark": benchmark, "machine": _machine(), **values}


def write_report(path: Path, benchmark: str, **values: Any) -> None:  # noqa: ANN401  (JSON values)
    """Write :func:`report`'s values as a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f"{json.dumps(report(benchmark, **values), indent=1)}\n".encode())


def _machine() -> dict[str, Any]:
    """What the figures were measured on."""
    own = versions(("squeezeedge", "apache-tvm", "torch", "numpy"))
    return {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(), "versions": own}
