"""The artifact's run.py used from here: in this process, or over ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnavailableError
from squeezeedge.targets import RunResult, summary
from squeezeedge.targets.cuda.compile import CONSTANTS, PLAN, PTX
from squeezeedge.targets.cuda.run import Network, Unavailable
from squeezeedge.targets.remote import SCRIPT, run_remotely

__all__ = ["FILES", "ptx_lines", "run_here", "run_there"]

FILES = (SCRIPT, "manifest.json", "golden.npz", PLAN, CONSTANTS, PTX)
"""What a GPU machine needs of an artifact, beside the machine code."""


def run_here(artifact: Path, images: NDArray[np.uint8]) -> RunResult:
    """Run on this machine's first GPU, image by image.

    Raises:
        UnavailableError: there is no driver or GPU for this artifact.
        SqueezeEdgeError: the driver fails, or a file is damaged.
    """
    try:
        network = Network(artifact)
        try:
            sums, latency, device = network.run(images)
            return RunResult(sums, latency, {"device_ms": summary(device), **network.metrics()})
        finally:
            network.close()
    except Unavailable as error:
        raise UnavailableError(str(error)) from None
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise SqueezeEdgeError(f"{artifact}: {error}") from error


def run_there(artifact: Path, images: NDArray[np.uint8], board: str) -> RunResult:
    """Run on another machine's first GPU.

    Raises:
        UnavailableError: the machine can't be reached, or it has no driver or GPU for this artifact.
        GateError: its own check on the golden inputs failed.
        SqueezeEdgeError: run.py fails there otherwise.
    """
    answers = run_remotely(board, [artifact / name for name in FILES] + sorted(artifact.glob("*.cubin")), images)
    try:
        device = np.array([line["device_ms"] for line in answers.lines], np.float64)
        about = {key: answers.check[key] for key in ("gpu", "cuda", "code")}
    except (KeyError, TypeError, ValueError) as error:
        raise SqueezeEdgeError(f"board {board}: answered something else than {SCRIPT} prints: {error!r}") from error
    return RunResult(answers.sums, answers.latency_ms, {"device_ms": summary(device), **about})


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
