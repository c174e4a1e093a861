"""Runs an artifact on a board over ssh: copies it there, starts its run.py and reads what that prints.

The artifact stays in ``~/.cache/squeezeedge`` of the board and is copied again only if it changed. pynq needs root:
log in as root, or as a user with sudo that asks for no password.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets import RunResult
from squeezeedge.targets.vta.bitstream import BITSTREAM_FILES
from squeezeedge.targets.vta.run import BITSTREAM, DRAM, GOLDEN, MANIFEST, PROGRAM

__all__ = ["BOARD_FILES", "run_on_board"]

SCRIPT = "run.py"

BOARD_FILES = (
    SCRIPT,
    MANIFEST,
    PROGRAM,
    DRAM,
    GOLDEN,
    *(name for name in BITSTREAM_FILES if not name.endswith(".xsa")),
)
"""Files of an artifact that a board needs."""

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10")

REMOTE_CACHE = ".cache/squeezeedge"

AS_ROOT = 'if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; exec $root bash -lc'
"""Runs a command as root in a login shell: that is where PYNQ images set up Python and XRT (/etc/profile.d)."""

SSH_FAILED = 255


def run_on_board(
    artifact: Path, images: NDArray[np.uint8], board: str | None, bitstream: Path | None = None
) -> RunResult:
    """Run images on a board.

    Args:
        artifact: folder that ``compile`` made.
        images: uint8 [N, H, W, 3].
        board: ``user@host`` as for ssh.
        bitstream: .bit file with its .hwh beside it; ``None``: the artifact's.

    Returns:
        int32 class sums [N, classes]; latency from the image in the board's memory to its sums. The metrics are
        ``pack_ms``, the host's median share of it, and ``pynq``, the board's version of that.

    Raises:
        UnavailableError: no board, ssh does not reach it, or it lacks pynq, root or the bitstream.
        GateError: the board's own check on the golden inputs failed.
        SqueezeEdgeError: the board's script failed otherwise; the text has its last line.
    """
    if board is None:
        raise UnavailableError("--device vta runs on a board: name one with --board user@host, or use --device vta-sim")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", board):
        raise UsageError(f"--board {board}: must be user@host")
    for tool in ("ssh", "scp"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not on the path; install an OpenSSH client")
    folder = _copy_artifact(artifact, board, bitstream)
    with tempfile.TemporaryDirectory(prefix="squeezeedge-") as scratch:
        path = Path(scratch) / "images.npy"
        np.save(path, images)
        _scp([path], board, f"{folder}/images.npy")
    script = ["python3", f"{folder}/{SCRIPT}", f"{folder}/images.npy", "--top", "1", "--sums"]
    if bitstream is not None:
        script += ["--bitstream", f"{folder}/{bitstream.name}"]
    output = _ssh(board, f"{AS_ROOT} {shlex.quote(shlex.join(script))}")
    return _result(board, output, len(images))


def _copy_artifact(artifact: Path, board: str, bitstream: Path | None) -> str:
    """Copy what the board lacks; returns the folder there, relative to the login's home.

    Raises:
        UnavailableError: there is no bitstream, or the board does not answer.
    """
    files = [artifact / name for name in BOARD_FILES if (artifact / name).is_file()]
    if bitstream is not None:
        files = [file for file in files if file.name not in BITSTREAM_FILES]
        files += [bitstream, bitstream.with_suffix(".hwh")]
    elif artifact / BITSTREAM not in files:
        raise UnavailableError(f"{artifact}: has no bitstream; compile with --bitstream")
    for file in files:
        if not file.is_file():
            raise UnavailableError(f"{file}: missing; pynq needs a bitstream's .hwh beside it")
    hasher = hashlib.sha256()
    for file in files:
        hasher.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    folder = f"{REMOTE_CACHE}/{hasher.hexdigest()[:24]}"
    partial = f"{folder}.partial"
    asked = f"if [ -d {folder} ]; then echo there; else rm -rf {partial} && mkdir -p {partial}; fi"
    if _ssh(board, asked).strip() != "there":
        _scp(files, board, f"{partial}/")
        _ssh(board, f"mv {partial} {folder}")
    return folder


def _ssh(board: str, command: str) -> str:
    return _checked(board, ["ssh", *SSH_OPTIONS, board, f"sh -c {shlex.quote(command)}"])


def _scp(files: Sequence[Path], board: str, where: str) -> None:
    _checked(board, ["scp", "-q", *SSH_OPTIONS, *(str(file.resolve()) for file in files), f"{board}:{where}"])


def _checked(board: str, command: list[str]) -> str:
    """Output of a command that worked; its failure as an error of ours."""
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if not result.returncode:
        return result.stdout
    lines = result.stderr.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {result.returncode}")
    text = f"board {board}: {last.removeprefix('run.py: error: ')}"
    if command[0] == "scp" or result.returncode == SSH_FAILED:
        raise UnavailableError(f"{text} ({command[0]} failed; it must log in without a password)")
    if "sudo:" in last:
        raise UnavailableError(f"{text} (pynq needs root: log in as root or allow sudo without a password)")
    kinds = {UnavailableError.exit_code: UnavailableError, GateError.exit_code: GateError}
    raise kinds.get(result.returncode, SqueezeEdgeError)(text)


def _result(board: str, output: str, count: int) -> RunResult:
    """Parse the script's JSON lines; pynq may print others between them."""
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        check = next(record for record in records if "golden" in record)
        answers = [record for record in records if "sums" in record]
        sums = np.array([answer["sums"] for answer in answers], np.int32)
        latency = np.array([answer["latency_ms"] for answer in answers], np.float64)
        packing = np.array([answer["pack_ms"] for answer in answers], np.float64)
        version = str(check["pynq"])
    except (ValueError, KeyError, TypeError, StopIteration, OverflowError) as error:
        raise SqueezeEdgeError(f"board {board}: answered something else than {SCRIPT} prints: {error!r}") from error
    if len(sums) != count or sums.ndim != 2:
        raise SqueezeEdgeError(f"board {board}: answered {len(sums)} of {count} images")
    return RunResult(sums, latency, {"pack_ms": float(np.median(packing)), "pynq": version})
