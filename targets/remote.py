"""Runs an artifact's run.py on another machine over ssh: copies the files there, starts it and reads what it prints.

The files stay in ``~/.cache/squeezeedge`` of the board and are copied again only if they changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError

__all__ = ["SCRIPT", "Answers", "run_remotely"]

SCRIPT = "run.py"
"""An artifact's device side."""

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10")

REMOTE_CACHE = ".cache/squeezeedge"

LOGIN = "exec bash -lc"
"""Runs a command in a login shell: that is where boards set up Python and their device's libraries (/etc/profile.d)."""

AS_ROOT = 'if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; exec $root bash -lc'
"""The same as root."""

SSH_FAILED = 255


@dataclass(frozen=True)
class Answers:
    """What a device's run.py printed.

    Attributes:
        check: the line about the golden inputs.
        lines: one an image.
        sums: int32 [N, classes].
        latency_ms: float64 [N].
    """

    check: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    sums: NDArray[np.int32]
    latency_ms: NDArray[np.float64]


def run_remotely(board: str, files: Sequence[Path], images: NDArray[np.uint8], *, root: bool = False) -> Answers:
    """Run images on a board.

    Args:
        board: ``user@host`` as for ssh, which must log in without a password.
        files: what the board needs, :data:`SCRIPT` among it; they land in one folder.
        images: uint8 [N, H, W, 3].
        root: whether the script needs root there: log in as root, or as a user with sudo that asks for no password.

    Raises:
        UsageError: not the name of a board.
        UnavailableError: ssh is missing or does not reach the board, or the script says that it lacks something.
        GateError: the script's own check on the golden inputs failed.
        SqueezeEdgeError: the script failed otherwise; the text has its last line.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", board):
        raise UsageError(f"--board {board}: must be user@host")
    for tool in ("ssh", "scp"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not on the path; install an OpenSSH client")
    folder = _copy(board, files)
    with tempfile.TemporaryDirectory(prefix="squeezeedge-") as scratch:
        path = Path(scratch) / "images.npy"
        np.save(path, images)
        _scp([path], board, f"{folder}/images.npy")
    script = ["python3", f"{folder}/{SCRIPT}", f"{folder}/images.npy", "--top", "1", "--sums"]
    output = _ssh(board, f"{AS_ROOT if root else LOGIN} {shlex.quote(shlex.join(script))}")
    return _answers(board, output, len(images))


def _copy(board: str, files: Sequence[Path]) -> str:
    """Copy what the board lacks; returns the folder there, relative to the login's home."""
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
        raise UnavailableError(f"{text} (this needs root: log in as root or allow sudo without a password)")
    kinds = {UnavailableError.exit_code: UnavailableError, GateError.exit_code: GateError}
    raise kinds.get(result.returncode, SqueezeEdgeError)(text)


def _answers(board: str, output: str, count: int) -> Answers:
    """Parse the script's JSON lines; the device's libraries may print others between them."""
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        check = next(record for record in records if "golden" in record)
        lines = [record for record in records if "sums" in record]
        sums = np.array([line["sums"] for line in lines], np.int32)
        latency = np.array([line["latency_ms"] for line in lines], np.float64)
    except (ValueError, KeyError, TypeError, StopIteration, OverflowError) as error:
        raise SqueezeEdgeError(f"board {board}: answered something else than {SCRIPT} prints: {error!r}") from error
    if len(sums) != count or sums.ndim != 2:
        raise SqueezeEdgeError(f"board {board}: answered {len(sums)} of {count} images")
    return Answers(check, lines, sums, latency)
