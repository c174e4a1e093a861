"""Runs an artifact's run.py on another machine over ssh.

The files are copied there and the script is started; it gets images as they come and prints the answers. The files
stay in ``~/.cache/squeezeedge`` of the board and are copied again only if they changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError

__all__ = ["SCRIPT", "Answers", "open_remote"]

SCRIPT = "run.py"
"""An artifact's device side."""

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10")

REMOTE_CACHE = ".cache/squeezeedge"

LOGIN = "exec bash -lc"
"""Runs a command in a login shell: that is where boards set up Python and their device's libraries (/etc/profile.d)."""

AS_ROOT = 'if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; exec $root bash -lc'
"""The same as root."""

SSH_FAILED = 255
CLOSING_S = 10
"""How long the script may take to end when it gets no more images."""


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


@contextmanager
def open_remote(
    board: str, files: Sequence[Path], *, root: bool = False
) -> Iterator[Callable[[NDArray[np.uint8]], Answers]]:
    """Start the script on a board, where it serves until the end of the block.

    Args:
        board: ``user@host`` as for ssh, which must log in without a password.
        files: what the board needs, :data:`SCRIPT` among it; they land in one folder.
        root: whether the script needs root there: log in as root, or as a user with sudo that asks for no password.

    Yields:
        What runs images, uint8 [N, H, W, 3], on the board. It raises as this.

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
    script = shlex.join(["python3", f"{folder}/{SCRIPT}", "-", "--top", "1", "--sums"])
    command = _command(board, f"{AS_ROOT if root else LOGIN} {shlex.quote(script)}")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            remote = _Script(board, process, errors)
            yield remote.run
            remote.close()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # what it has not read
                    pipe.close()


class _Script:
    """The script that runs on a board. The device's libraries may print lines of their own between its answers."""

    def __init__(self, board: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._board, self._process, self._errors = board, process, errors
        self._check = next(self._records("golden"), None)
        if self._check is None:
            self._end()
            raise self._strange("no check of the golden inputs")

    def run(self, images: NDArray[np.uint8]) -> Answers:
        """Send images and wait for their answers."""
        assert self._process.stdin is not None and self._check is not None
        array = io.BytesIO()
        np.save(array, images)
        with suppress(BrokenPipeError):  # it has ended, which the answers will tell
            self._process.stdin.write(array.getbuffer())
            self._process.stdin.flush()
        lines = list(islice(self._records("sums"), len(images)))
        if len(lines) < len(images):
            self._end()
            raise SqueezeEdgeError(f"board {self._board}: answered {len(lines)} of {len(images)} images")
        try:
            sums = np.array([line["sums"] for line in lines], np.int32)
            latency = np.array([line["latency_ms"] for line in lines], np.float64)
            if sums.ndim != 2:
                raise ValueError("sums of no class")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._strange(repr(error)) from error
        return Answers(self._check, lines, sums, latency)

    def close(self) -> None:
        """Let it end, and see that it ended well."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._end()

    def _records(self, key: str) -> Iterator[dict[str, Any]]:
        """The records with a key that it prints, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                try:
                    record: dict[str, Any] = json.loads(line)
                except ValueError as error:
                    raise self._strange(repr(error)) from error
                if key in record:
                    yield record

    def _end(self) -> None:
        """Wait for its end, and raise if it failed."""
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            raise SqueezeEdgeError(f"board {self._board}: {SCRIPT} does not end") from None
        if self._process.returncode:
            self._errors.seek(0)
            raise _failure(self._board, "ssh", self._process.returncode, self._errors.read())

    def _strange(self, what: str) -> SqueezeEdgeError:
        return SqueezeEdgeError(f"board {self._board}: answered something else than {SCRIPT} prints: {what}")


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


def _command(board: str, command: str) -> list[str]:
    return ["ssh", *SSH_OPTIONS, board, f"sh -c {shlex.quote(command)}"]


def _ssh(board: str, command: str) -> str:
    return _checked(board, _command(board, command))


def _scp(files: Sequence[Path], board: str, where: str) -> None:
    _checked(board, ["scp", "-q", *SSH_OPTIONS, *(str(file.resolve()) for file in files), f"{board}:{where}"])


def _checked(board: str, command: list[str]) -> str:
    """Output of a command that worked; its failure as an error of ours."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if result.returncode:
        raise _failure(board, command[0], result.returncode, result.stderr)
    return result.stdout.decode(errors="replace")


def _failure(board: str, tool: str, code: int, errors: bytes) -> SqueezeEdgeError:
    """What ssh, scp or the script on the board failed with."""
    lines = errors.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    text = f"board {board}: {last.removeprefix('run.py: error: ')}"
    if tool == "scp" or code == SSH_FAILED:
        return UnavailableError(f"{text} ({tool} failed; it must log in without a password)")
    if "sudo:" in last:
        return UnavailableError(f"{text} (this needs root: log in as root or allow sudo without a password)")
    kinds = {UnavailableError.exit_code: UnavailableError, GateError.exit_code: GateError}
    return kinds.get(code, SqueezeEdgeError)(text)
