"""Runs an artifact on a board over ssh, with the artifact's own bitstream or another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.targets import RunResult
from squeezeedge.targets.remote import SCRIPT, run_remotely
from squeezeedge.targets.vta.bitstream import BITSTREAM_FILES
from squeezeedge.targets.vta.run import BITSTREAM, DRAM, GOLDEN, MANIFEST, PROGRAM

__all__ = ["BOARD_FILES", "run_on_board"]

BOARD_FILES = (
    SCRIPT,
    MANIFEST,
    PROGRAM,
    DRAM,
    GOLDEN,
    *(name for name in BITSTREAM_FILES if not name.endswith(".xsa")),
)
"""Files of an artifact that a board needs."""


def run_on_board(artifact: Path, images: NDArray[np.uint8], board: str) -> RunResult:
    """Run images on a board; pynq needs root there.

    Args:
        artifact: folder that ``compile --bitstream`` made.
        images: uint8 [N, H, W, 3].
        board: ``user@host`` as for ssh.

    Returns:
        int32 class sums [N, classes]; latency from the image in the board's memory to its sums. The metrics are
        ``pack_ms``, the host's median share of it, and ``pynq``, the board's version of that.

    Raises:
        UnavailableError: ssh does not reach the board, or it lacks pynq, root or the bitstream.
        GateError: the board's own check on the golden inputs failed.
        SqueezeEdgeError: the board's script failed otherwise; the text has its last line.
    """
    files = [artifact / name for name in BOARD_FILES if (artifact / name).is_file()]
    if artifact / BITSTREAM not in files:
        raise UnavailableError(f"{artifact}: has no bitstream; compile with --bitstream")
    if (artifact / BITSTREAM).with_suffix(".hwh") not in files:
        raise UnavailableError(f"{(artifact / BITSTREAM).with_suffix('.hwh')}: missing; compile with --bitstream again")
    answers = run_remotely(board, files, images, root=True)
    try:
        packing = np.array([line["pack_ms"] for line in answers.lines], np.float64)
        version = str(answers.check["pynq"])
    except (KeyError, TypeError, ValueError) as error:
        raise SqueezeEdgeError(f"board {board}: answered something else than {SCRIPT} prints: {error!r}") from error
    return RunResult(answers.sums, answers.latency_ms, {"pack_ms": float(np.median(packing)), "pynq": version})
