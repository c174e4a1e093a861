"""Runs an artifact on a board over ssh, with the artifact's own bitstream or another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.targets.protocol import Runner, RunResult
from squeezeedge.targets.remote import SCRIPT, open_remote
from squeezeedge.targets.vta.board.bitstream import BITSTREAM_FILES
from squeezeedge.targets.vta.run import BITSTREAM, DRAM, GOLDEN, MANIFEST, PROGRAM

__all__ = ["BOARD_FILES", "open_board"]

BOARD_FILES = (
    SCRIPT,
    MANIFEST,
    PROGRAM,
    DRAM,
    GOLDEN,
    *(name for name in BITSTREAM_FILES if not name.endswith(".xsa")),
)
"""Files of an artifact that a board needs."""


@contextmanager
def open_board(artifact: Path, board: str) -> Iterator[Runner]:
    """A board over ssh, with its FPGA programmed; pynq needs root there.

    Latency is from the image in the board's memory to its sums. The metrics are ``pack_ms``, the host's median share of
    it, and ``pynq``, the board's version of that.

    Args:
        artifact: folder that ``compile --bitstream`` made.
        board: ``user@host`` as for ssh.

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
    packing: list[float] = []
    with open_remote(board, files, root=True) as remote:

        def run(images: NDArray[np.uint8]) -> RunResult:
            answers = remote(images)
            try:
                packing.extend(float(line["pack_ms"]) for line in answers.lines)
                version = str(answers.check["pynq"])
            except (KeyError, TypeError, ValueError) as error:
                raise SqueezeEdgeError(
                    f"board {board}: answered something else than {SCRIPT} prints: {error!r}"
                ) from error
            return RunResult(answers.sums, answers.latency_ms, {"pack_ms": float(np.median(packing)), "pynq": version})

        yield run
