"""Processes of this machine, by their numbers."""

from __future__ import annotations

from pathlib import Path


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and is not waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def children(process: int) -> list[int]:
    """Of its first thread."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
