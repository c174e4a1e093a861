"""The artifact's run.py used from here: in this process, or over ssh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnavailableError
from squeezeedge.targets.cuda.options import PTX
from squeezeedge.targets.cuda.run import CONSTANTS, PLAN, Network, Unavailable
from squeezeedge.targets.protocol import Runner, RunResult, summary
from squeezeedge.targets.remote import SCRIPT, open_remote

__all__ = ["FILES", "open_here", "open_there", "ptx_lines"]

FILES = (SCRIPT, "manifest.json", "golden.npz", PLAN, CONSTANTS, PTX)
"""What a GPU machine needs of an artifact, beside the machine code."""


@contextmanager
def open_here(artifact: Path) -> Iterator[Runner]:
    """This machine's first GPU, image by image.

    Raises:
        UnavailableError: there is no driver or GPU for this artifact.
        SqueezeEdgeError: the driver fails, or a file is damaged.
    """
    with _failures(artifact):
        network = Network(artifact)
    device_ms = np.empty(0)

    def run(images: NDArray[np.uint8]) -> RunResult:
        nonlocal device_ms
        with _failures(artifact):
            sums, latency, device = network.run(images)
            device_ms = np.append(device_ms, device)
            return RunResult(sums, latency, {"device_ms": summary(device_ms), **network.metrics()})

    try:
        yield run
    finally:
        with _failures(artifact):
            network.close()


@contextmanager
def _failures(artifact: Path) -> Iterator[None]:
    """Failures of run.py as errors of ours."""
    try:
        yield
    except Unavailable as error:
        raise UnavailableError(str(error)) from None
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise SqueezeEdgeError(f"{artifact}: {error}") from error


@contextmanager
def open_there(artifact: Path, board: str) -> Iterator[Runner]:
    """Another machine's first GPU.

    Raises:
        UnavailableError: the machine can't be reached, or it has no driver or GPU for this artifact.
        GateError: its own check on the golden inputs failed.
        SqueezeEdgeError: run.py fails there otherwise.
    """
    device_ms: list[float] = []
    with open_remote(board, [artifact / name for name in FILES] + sorted(artifact.glob("*.cubin"))) as remote:

        def run(images: NDArray[np.uint8]) -> RunResult:
            answers = remote(images)
            try:
                device_ms.extend(float(line["device_ms"]) for line in answers.lines)
                about = {key: answers.check[key] for key in ("gpu", "cuda", "code")}
            except (KeyError, TypeError, ValueError) as error:
                raise SqueezeEdgeError(
                    f"board {board}: answered something else than {SCRIPT} prints: {error!r}"
                ) from error
            return RunResult(answers.sums, answers.latency_ms, {"device_ms": summary(np.array(device_ms)), **about})

        yield run


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
