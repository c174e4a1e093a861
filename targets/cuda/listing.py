"""The PTX of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda.options import PTX

__all__ = ["ptx_lines"]


def ptx_lines(artifact: Path) -> Iterator[str]:
    """The PTX of an artifact, line by line.

    Raises:
        CorruptFileError: it has none.
    """
    path = artifact / PTX
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path}: not readable as PTX: {error}; compile the model again") from error
    return iter(text.splitlines())
