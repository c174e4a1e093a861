"""The PTX of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda.device import read_plan
from squeezeedge.targets.device.run import Artifact

__all__ = ["ptx_lines"]


def ptx_lines(folder: Path) -> Iterator[str]:
    """The PTX of an artifact, line by line, one architecture after the other.

    Raises:
        CorruptFileError: it has none, or a file is damaged.
    """
    try:
        artifact = Artifact(folder)
        files = read_plan(artifact)["ptx"].values()
        return iter([line for file in files for line in artifact.read(file).decode("ascii").splitlines()])
    except ValueError as error:
        raise CorruptFileError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from error
