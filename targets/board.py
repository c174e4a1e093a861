"""An artifact on another machine, over ssh: its run.py is started there, gets images as they come and prints answers.

The files stay in ``~/.cache/squeezeedge`` of that machine and are copied again only if they changed, or if run.py finds
them damaged. Nothing but ssh, a shell, tar and what run.py needs has to be there. The script there ends when ssh does.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.device.run import COPY_AGAIN, DEVICE, GOLDEN, MANIFEST, SCRIPT, Artifact

__all__ = ["BoardNetwork"]

SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10")

REMOTE_CACHE = ".cache/squeezeedge"

LOGIN = "exec bash -lc"
"""Runs a command in a login shell: that is where boards set up Python and their device's libraries (/etc/profile.d)."""

AS_ROOT = 'if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; exec $root bash -lc'
"""The same as root."""

WATCHED = """
import os, runpy, select, sys, threading
def watch():
    poll = select.poll()
    poll.register(1, 0)
    poll.poll()
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
sys.path, sys.argv = [path for path in sys.path if path], sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script until nobody is there any more to read what it prints, even if it hangs: sshd sends it no signal."""

SSH_FAILED, NOT_FOUND = 255, 127
REFUSED = {
    "Permission denied": "it must log in without a password: ssh-copy-id {board}",
    "Host key verification failed": "log in once by hand to see its key: ssh {board}",
}
"""What ssh says when it may not log in, and what to do."""

TOLD = f"{SCRIPT}: error: "
TOO_OLD = "future feature annotations is not defined"
PYTHON_NEEDED = "Python 3.8 or later with numpy is needed there, as python3"
CLOSING_S = 10
"""How long the script may take to end when it gets no more images."""

ANSWER = frozenset({"image", "index", "classes", "labels", "logits", "scores", "sums"})
"""Keys of an answer's line; all others are timings."""

CHECK = frozenset({"golden", "differing_sums", "largest_error"})
"""Keys of the golden inputs' line; all others are timings or what the device says of itself."""


class BoardNetwork:
    """The :class:`squeezeedge.targets.protocol.Network` of a board.

    Args:
        artifact: its files.
        board: ``user@host`` as for ssh, which must log in without a password.
        patterns: glob patterns of the files that the device needs beside those that every device needs.
        root: whether the script needs root there: log in as root, or as a user with sudo that asks for no password.

    Raises:
        UsageError: not the name of a board.
        UnavailableError: ssh is missing or does not reach the board, or the script says that it lacks something.
        GateError: the script's own check on the golden inputs failed.
        SqueezeEdgeError: the script failed otherwise; the text has its last line.
    """

    def __init__(self, artifact: Artifact, board: str, patterns: Sequence[str], *, root: bool) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*", board):
            raise UsageError(f"`board` {board}: must be user@host")
        if shutil.which("ssh") is None:
            raise UnavailableError("ssh is not on the path; install an OpenSSH client")
        self._board, self._classes = board, artifact.classes
        self._timings: frozenset[str] = frozenset()
        self._damaged = False
        names = _files(artifact, patterns)
        folder = f"{REMOTE_CACHE}/{_digest(artifact.folder, names)}"
        script = shlex.join(["python3", "-c", WATCHED, f"{folder}/{SCRIPT}", "-", "--check", "--top", "1", "--sums"])
        command = _command(board, f"{AS_ROOT if root else LOGIN} {shlex.quote(script)}")
        there = _ssh(board, f"if [ -d {folder} ]; then echo there; fi").strip() == b"there"
        if not there:
            _copy(board, folder, _archive(artifact.folder, names))
        try:
            self._start(command)
        except SqueezeEdgeError:
            if not there or not self._damaged:
                raise
            _copy(board, folder, _archive(artifact.folder, names), again=True)
            self._start(command)

    def _start(self, command: Sequence[str]) -> None:
        """Start the script and wait for its check of the golden inputs."""
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        try:
            check = next(self._lines("golden"), None)
            if check is None:
                self._end()
                self._damaged = True  # an empty run.py does nothing
                raise self._strange("no check of the golden inputs")
            self._check = check
        except BaseException:
            self._kill()
            raise

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        """Send images and wait for their answers, each of which is checked.

        Args:
            images: uint8 [N, height, width, 3].

        Raises:
            SqueezeEdgeError: the script ended or failed, or answered something strange.
        """
        try:
            return self._answers(images)
        except (KeyboardInterrupt, SystemExit):
            self._kill()  # its last answers are not waited for
            raise

    def _answers(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        assert self._process.stdin is not None
        array = io.BytesIO()
        np.save(array, images)
        with suppress(BrokenPipeError):  # it has ended, which the answers will tell
            self._process.stdin.write(array.getbuffer())
            self._process.stdin.flush()
        lines = list(islice(self._lines("sums"), len(images)))
        if len(lines) < len(images):
            self._end()
            raise SqueezeEdgeError(f"board {self._board}: answered {len(lines)} of {len(images)} images")
        sums = np.array([self._sums(line, index) for index, line in enumerate(lines)], np.int32)
        self._timings = frozenset(lines[0].keys() - ANSWER if lines else ["latency_ms"])
        timings = {
            name: np.array([self._milliseconds(line, name) for line in lines], np.float64)
            for name in sorted(self._timings | {"latency_ms"})
        }
        return sums.reshape(len(images), self._classes), timings

    def about(self) -> Mapping[str, Any]:
        """What the device says of itself."""
        return {key: value for key, value in self._check.items() if key not in CHECK | self._timings | {"latency_ms"}}

    def close(self) -> None:
        """Let the script end, and see that it ended well."""
        assert self._process.stdin is not None
        if self._errors.closed:  # it is killed
            return
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._end()
        finally:
            self._kill()

    def _lines(self, key: str) -> Iterator[dict[str, Any]]:
        """The objects with a key that it prints, until it ends; its libraries may print lines of their own between."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                try:
                    record: dict[str, Any] = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._strange(repr(error)) from error
                if key in record:
                    yield record

    def _sums(self, line: Mapping[str, Any], index: int) -> list[int]:
        sums = line["sums"]
        if type(sums) is not list or len(sums) != self._classes:
            raise self._strange(f"the sums of image {index} are not those of {self._classes} classes")
        if not all(type(value) is int and -(2**31) <= value < 2**31 for value in sums):
            raise self._strange(f"a sum of image {index} is not an int32")
        if type(line.get("index")) is not int or line["index"] != index:
            raise self._strange(f"index {line.get('index')!r} for image {index}")
        return sums

    def _milliseconds(self, line: Mapping[str, Any], name: str) -> float:
        value: Any = line.get(name)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise self._strange(f"{name} is {value!r}")
        if name == "latency_ms" and value == 0:
            raise self._strange("latency_ms is 0")
        return float(value)

    def _end(self) -> None:
        """Wait for its end, and raise if it failed."""
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            raise SqueezeEdgeError(f"board {self._board}: {SCRIPT} does not end") from None
        if self._process.returncode:
            self._errors.seek(0)
            errors = self._errors.read()
            self._damaged = COPY_AGAIN.encode() in errors or TOLD.encode() not in errors
            raise _failure(self._board, self._process.returncode, errors)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what it has not read
                pipe.close()

    def _strange(self, what: str) -> SqueezeEdgeError:
        return SqueezeEdgeError(f"board {self._board}: answered something else than {SCRIPT} prints: {what}")


def _files(artifact: Artifact, patterns: Sequence[str]) -> list[str]:
    """Names of what the board needs, relative to the artifact's folder; each has its checksum."""
    names = [MANIFEST, SCRIPT, DEVICE, GOLDEN]
    names += [name for name in artifact.manifest["files"] if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for name in names[1:]:
        artifact.path(name)
    for pattern in patterns:  # and what was made after compiling, as model.om by ATC
        for path in sorted(artifact.folder.glob(pattern)):
            if artifact.folder.resolve() not in path.resolve().parents:
                raise ValueError(f"{path}: leads out of the artifact; remove it")
            names.append(path.relative_to(artifact.folder).as_posix())
    return list(dict.fromkeys(names))


def _digest(artifact: Path, names: Sequence[str]) -> str:
    """Of the names and contents of files."""
    hasher = hashlib.sha256()
    for name in names:
        hasher.update(name.encode() + b"\0" + hashlib.sha256((artifact / name).read_bytes()).digest())
    return hasher.hexdigest()[:24]


def _copy(board: str, folder: str, archive: bytes, *, again: bool = False) -> None:
    """Put the files of an archive into a folder there, relative to the login's home; again: instead of those there."""
    partial, before = f"{folder}.$$", f"{folder}.$$.before"  # the shell's number there: two copies at once do not meet
    unpacked = f"mkdir -p {partial} && tar -xf - -C {partial}"
    renamed = f"if [ -d {folder} ]; then rm -rf {partial}; else mv {partial} {folder}; fi"
    if again:
        renamed = f"mv {folder} {before} && mv {partial} {folder} && rm -rf {before}"
    _ssh(board, f"{unpacked} && {{ {renamed}; }} || {{ rm -rf {partial}; exit 1; }}", archive)


def _archive(artifact: Path, names: Sequence[str]) -> bytes:
    """The files as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            data = (artifact / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def _command(board: str, command: str) -> list[str]:
    return ["ssh", *SSH_OPTIONS, board, f"sh -c {shlex.quote(command)}"]


def _ssh(board: str, command: str, data: bytes = b"") -> bytes:
    """Output of a command that worked; its failure as an error of ours."""
    result = subprocess.run(_command(board, command), input=data, capture_output=True, check=False)
    if result.returncode:
        raise _failure(board, result.returncode, result.stderr)
    return result.stdout


def _failure(board: str, code: int, errors: bytes) -> SqueezeEdgeError:
    """What ssh or the script on the board failed with; the script's own words count more than those of others."""
    lines = [line.strip() for line in errors.decode(errors="replace").split("\n") if line.strip()]
    told = [line for line in lines if line.startswith(TOLD)]
    last = (told or lines or [f"exit code {code}"])[-1].removeprefix(TOLD)
    if code == SSH_FAILED and not told:
        for line in reversed(lines):
            for words, fix in REFUSED.items():
                if words in line:
                    return UnavailableError(
                        f"board {board}: {line.removeprefix(f'{board}: ')} (ssh failed; {fix.format(board=board)})"
                    )
        return UnavailableError(f"board {board}: {last} (ssh failed)")
    text = f"board {board}: {last}"
    if "sudo:" in last:
        return UnavailableError(f"{text} (this needs root: log in as root or allow sudo without a password)")
    if code == NOT_FOUND or TOO_OLD in last:
        return UnavailableError(f"{text} ({PYTHON_NEEDED})")
    kinds = {UnavailableError.exit_code: UnavailableError, GateError.exit_code: GateError}
    return kinds.get(code, SqueezeEdgeError)(text)
