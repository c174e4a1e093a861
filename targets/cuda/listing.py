"""The PTX of an artifact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda.device import read_plan
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.trace import step_of

__all__ = ["ptx_lines"]


def ptx_lines(folder: Path, layer: str | None = None) -> Iterator[str]:
    """The PTX of an artifact, line by line, one architecture after the other.

    Args:
        folder: the artifact.
        layer: only the kernel that makes a layer.

    Raises:
        UsageError: no layer has that name.
        CorruptFileError: it has none, or a file is damaged.
    """
    try:
        artifact = Artifact(folder)
        plan = read_plan(artifact)
        lines = [line for file in plan["ptx"].values() for line in artifact.read(file).decode("ascii").splitlines()]
        if layer is None:
            return iter(lines)
        kernels = [launch["kernel"] for launch in plan["launches"]]
        step = step_of(artifact, layer, len(kernels) - 1)
        if step >= len(kernels):
            raise ValueError(f"{folder}: trace.json is of another plan; compile the model again")
        return _entry(lines, kernels[step])
    except ValueError as error:
        raise CorruptFileError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from error


def _entry(lines: list[str], kernel: str) -> Iterator[str]:
    """A kernel's lines, of each architecture."""
    inside = False
    for line in lines:
        inside = inside or re.search(rf"\.entry {re.escape(kernel)}\(", line) is not None
        if inside:
            yield line
        inside = inside and line != "}"
