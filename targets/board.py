"""An artifact on another machine: ssh starts its run.py there, which receives images and prints their answers.

:mod:`.remote` reaches the machine and keeps the artifact's files there. The time limit of each answer follows from the
time of the golden inputs. Every answer is checked. The script on the machine ends when ssh ends.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UsageError
from squeezeedge.targets.device.run import DEVICE, GOLDEN, MANIFEST, SCRIPT, TRACE, Artifact
from squeezeedge.targets.remote import Remote

__all__ = ["BoardNetwork"]

WATCHED = """
import os, runpy, select, sys
read, write = os.pipe()
script, out = os.getpid(), os.dup(1)
if os.fork() == 0:
    os.close(write)
    poll = select.poll()
    poll.register(out, 0)
    poll.register(read, 0)
    if out in [number for number, _ in poll.poll()]:
        os.kill(script, 9)
    os._exit(0)
os.close(read)
os.dup2(2, 1)
os.write(out, b"\\n")
sys.stdout = os.fdopen(out, "w")
sys.path, sys.argv = [path for path in sys.path if path], sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script until nobody is there any more to read what it prints: sshd sends it no signal.

A process of its own sees to that, for the script may be stopped or hang in a library. What libraries print through the
descriptor goes to the standard error, and the script's lines begin behind whatever the login shell has printed.
"""

START_S = 300.0
"""How long setting up the device and checking it may take; drivers may compile for minutes."""
LEAST_ANSWER_S, ANSWER_LATENCIES = 60.0, 100.0
"""How long an answer may take: so many times what a golden input took, and at least the former, for the network."""
LONGEST_S = 86_400.0
CLOSING_S = 10.0
"""How long the script may take to end when it gets no more images."""

MOST_LINE, MOST_TENSOR_LINE = 1 << 24, 1 << 26
"""Bytes of a line, and of one with a tensor; longer ones are not what the script prints."""
MOST_TENSORS, MOST_TRACED = 1 << 14, 1 << 30
"""Tensors of an image that are taken, and bytes of all."""
MOST_ERRORS = 1 << 16
"""Bytes of the end of the standard error that are looked at."""
BLOCK = 1 << 16

ANSWER = frozenset({"image", "index", "classes", "labels", "logits", "scores", "sums"})
"""Keys of an answer's line; all others are timings."""

TENSOR_TYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "int32": np.dtype("<i4")}

CHECK = frozenset({"golden", "differing_sums", "largest_error"})
"""Keys of the golden inputs' line; all others are timings or what the device says of itself."""


class BoardNetwork:
    """The :class:`squeezeedge.targets.protocol.Network` of a board.

    Args:
        artifact: its files.
        board: ``user@host[:port]``, where ssh must log in without a password.
        patterns: glob patterns of the files that the device needs beside those that every device needs.
        root: whether the script needs root there: log in as root, or as a user with sudo that asks for no password.
        timeout: seconds for the set-up and for each answer; ``None``: 300 s, then 100 times as long as a golden
            input, at least 60 s.
        trace: whether :meth:`trace` will be called: then the script prints every image's tensors.
        threads: how many compute; ``None``: as the device chooses.

    Raises:
        UsageError: not the name of a board, or no time-out.
        UnavailableError: ssh is missing or does not reach the board, or the script says that it lacks something.
        GateError: the script's check of the golden inputs failed.
        SqueezeEdgeError: the script failed otherwise; the text has its last line.
    """

    def __init__(
        self,
        artifact: Artifact,
        board: str,
        patterns: Sequence[str],
        *,
        root: bool,
        timeout: float | None = None,
        trace: bool = False,
        threads: int | None = None,
    ) -> None:
        if timeout is not None and not 0 < timeout <= LONGEST_S:
            raise UsageError(f"a time-out of {timeout} s: must be more than 0 and at most {LONGEST_S:.0f}")
        self._remote = remote = Remote.of(board)
        self._classes, self._golden = artifact.classes, len(artifact.golden()[0])
        self._timings: frozenset[str] = frozenset()
        self._answered, self._received = 0, bytearray()
        self._images: Iterator[memoryview] = iter(())
        self._failure: SqueezeEdgeError | None = None
        self._closed = False
        folder = remote.place(_files(artifact, patterns))
        self._artifact = artifact
        chosen = [*(["--trace", "-"] if trace else []), *(["--threads", str(threads)] if threads is not None else [])]
        options = " ".join(["-", "--check", "--top", "1", "--sums", *chosen])
        script = f'python3 -c {shlex.quote(WATCHED)} "$0/{SCRIPT}" {options}'
        command = remote.logged_in(script, f"$PWD/{folder}", root=root)
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._stdin, self._stdout = self._process.stdin, self._process.stdout
            for pipe in (self._stdin, self._stdout):
                os.set_blocking(pipe.fileno(), False)
            self._to_send = memoryview(b"")
            self._check = self._checked(self._next(START_S if timeout is None else timeout, "golden"))
            latency_s = self._milliseconds(self._check, "latency_ms") / 1000
            self._limit = max(LEAST_ANSWER_S, ANSWER_LATENCIES * latency_s) if timeout is None else timeout
        except BaseException:
            self._kill()
            raise

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        """Send images and wait for their answers, each of which is checked.

        Args:
            images: uint8 [N, height, width, 3].

        Raises:
            SqueezeEdgeError: the script ended or failed, took too long or answered something strange.
        """
        with self._until_a_failure():
            return self._answers(images)

    def trace(self, image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Send an image and wait for its tensors, each of which is checked; the device was opened with ``trace``.

        Args:
            image: uint8 [height, width, 3].

        Returns:
            (name, uint8 [height, width, channels]), last (head name, int32 [classes]): what the script prints.

        Raises:
            SqueezeEdgeError: as :meth:`run`, or the artifact was compiled for no trace.
        """
        with self._until_a_failure():
            return iter(self._tensors(image))

    def unseen(self) -> Mapping[str, str]:
        """The tensors that the device does not show, and why, as the artifact states it."""
        return self._artifact.trace().unseen if self._artifact.has(TRACE) else {}

    @property
    def tolerance(self) -> float:
        """The largest allowed difference of class sums from the golden ones, as a share of the largest sum."""
        value = self._artifact.compiled.get("tolerance", 0)
        return float(value) if type(value) in (int, float) and 0 <= value < 1 else 0.0

    @contextmanager
    def _until_a_failure(self) -> Iterator[None]:
        """Send nothing after a failure: answers that are still on the way would be matched with the wrong images."""
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        try:
            yield
        except BaseException as failure:
            self._failure = failure if isinstance(failure, SqueezeEdgeError) else self._error("is given up")
            self._kill()
            raise

    def _tensors(self, image: NDArray[np.uint8]) -> list[tuple[str, NDArray[Any]]]:
        """The tensors that the script prints before an image's answer."""
        self._images = map(_npy, [image])
        found: list[tuple[str, NDArray[Any]]] = []
        left = MOST_TRACED
        while line := self._next(self._limit, "tensor", "image"):
            if "image" in line:
                self._sums(line)
                self._answered += 1
                return found
            found.append(self._tensor(line))
            left -= found[-1][1].nbytes
            if left < 0 or len(found) > MOST_TENSORS:
                raise self._strange(f"more tensors than {MOST_TENSORS}, or of more than {MOST_TRACED} bytes")
        self._end()
        raise self._error("printed an image's tensors and ended")

    def _tensor(self, line: Mapping[str, Any]) -> tuple[str, NDArray[Any]]:
        name, shape, dtype = line["tensor"], line.get("shape"), TENSOR_TYPES.get(str(line.get("dtype")))
        if type(name) is not str or type(line.get("index")) is not int or line["index"] != self._answered:
            raise self._strange(f"a tensor {name!r:.40} of image {line.get('index')!r:.40}")
        if dtype is None or type(shape) is not list or not all(type(size) is int and size > 0 for size in shape):
            raise self._strange(f"{name:.40}: neither uint8 nor int32, or of no shape")
        try:
            data = base64.b64decode(line["data"], validate=True)
        except (LookupError, TypeError, ValueError) as error:
            raise self._strange(f"{name:.40}: {error!r}") from error
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise self._strange(f"{name:.40}: {len(data)} bytes for {shape!r:.80}")
        return name, np.frombuffer(data, dtype).reshape(shape)

    def _answers(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        sums, lines = np.empty((len(images), self._classes), np.int32), []
        self._images = map(_npy, images)
        for position in range(len(images)):
            line = self._next(self._limit, "image")
            if line is None:
                self._end()
                raise self._error(f"answered {position} of {len(images)} images and ended")
            sums[position] = self._sums(line)
            lines.append(line)
            self._answered += 1
        if lines:
            self._timings = frozenset(lines[0].keys() - ANSWER)
        timings = {
            name: np.array([self._milliseconds(line, name) for line in lines], np.float64)
            for name in sorted(self._timings | {"latency_ms"})
        }
        return sums, timings

    def about(self) -> Mapping[str, Any]:
        """What the device says of itself."""
        return {key: value for key, value in self._check.items() if key not in CHECK | self._timings | {"latency_ms"}}

    def close(self) -> None:
        """Let the script end and check that it succeeded; one that does not end in time is killed without an error."""
        if self._closed:
            return
        try:
            with suppress(BrokenPipeError):
                self._stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSING_S)
                self._end()
        finally:
            self._kill()

    def _next(self, limit: float, *keys: str) -> dict[str, Any] | None:
        """Send what is pending and wait for an object that begins with one of the keys; ``None``: the script ended.

        Other output is skipped: libraries may print lines of their own, or text before the object on its line.
        """
        begin, deadline = re.compile(f'{{"(?:{"|".join(keys)})"'.encode()), time.monotonic() + limit
        most = MOST_TENSOR_LINE if "tensor" in keys else MOST_LINE
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while True:
            while (end := self._received.find(b"\n")) >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                if start := begin.search(line):
                    return self._record(line[start.start() :])
            if len(self._received) > most:
                raise self._strange(f"a line of more than {most} bytes")
            self._to_send = self._to_send or next(self._images, memoryview(b""))
            if self._to_send:
                poll.register(self._stdin, select.POLLOUT)
            left = deadline - time.monotonic()
            ready = poll.poll(max(0.0, left) * 1000)
            if not ready or left <= 0:  # a script that prints without an end is always ready
                raise self._error(f"no answer in {limit:g} s, the time-out: {self._hint(keys[0])}")
            for descriptor, _ in ready:
                if descriptor == self._stdout.fileno():
                    data = self._stdout.read(BLOCK)
                    if data == b"":
                        return None
                    self._received += data or b""
                else:
                    try:
                        self._to_send = self._to_send[self._stdin.write(self._to_send[:BLOCK]) or 0 :]
                    except BrokenPipeError:  # it has ended, which the answers will tell
                        self._to_send, self._images = memoryview(b""), iter(())
                    if not self._to_send:
                        poll.unregister(self._stdin)

    def _hint(self, key: str) -> str:
        if key == "golden":
            return "does the login shell wait for something, or does the device take longer to be set up?"
        return f"does the device hang after {self._answered} images, or take longer?"

    def _record(self, line: bytes) -> dict[str, Any]:
        """A line as standard JSON: NaN, Infinity and numbers beyond float64 are refused."""
        try:
            record: dict[str, Any] = json.loads(line, parse_constant=_no_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise self._strange(repr(error)) from error
        return record

    def _checked(self, check: dict[str, Any] | None) -> dict[str, Any]:
        """The golden inputs' line.

        Raises:
            GateError: sums differ, and the device states no tolerance.
            SqueezeEdgeError: the script ended, or the line is not as expected.
        """
        if check is None:
            self._end()
            raise self._strange("no check of the golden inputs")
        if type(check["golden"]) is not int or check["golden"] != self._golden:
            raise self._strange(f"{check['golden']!r} golden inputs, not {self._golden}")
        wrong, error = check.get("differing_sums"), check.get("largest_error", 0)
        if type(wrong) is not int or not 0 <= wrong <= self._golden * self._classes:
            raise self._strange(f"differing_sums is {wrong!r}")
        if type(error) not in (int, float) or error < 0:
            raise self._strange(f"largest_error is {error!r}")
        if wrong and "largest_error" not in check:
            self._end()  # which tells more
            raise self._error(f"{wrong} class sums differ from the golden ones", GateError)
        return check

    def _sums(self, line: Mapping[str, Any]) -> list[int]:
        index = self._answered
        if type(line.get("index")) is not int or line["index"] != index:
            raise self._strange(f"index {line.get('index')!r} for image {index}")
        sums = line.get("sums")
        if type(sums) is not list or len(sums) != self._classes:
            raise self._strange(f"the sums of image {index} are not those of {self._classes} classes")
        if not all(type(value) is int and -(2**31) <= value < 2**31 for value in sums):
            raise self._strange(f"a sum of image {index} is not an int32")
        return sums

    def _milliseconds(self, line: Mapping[str, Any], name: str) -> float:
        value: Any = line.get(name)
        try:
            if type(value) in (int, float) and (value > 0 or (value == 0 and name != "latency_ms")):
                return float(value)
        except OverflowError:  # an integer that float64 can not hold
            pass
        raise self._strange(f"{name} is {value!r:.40}")

    def _end(self) -> None:
        """Wait for its end, and raise if it failed."""
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            raise self._error(f"{SCRIPT} has stopped printing and does not end") from None
        if self._process.returncode:
            self._errors.seek(-min(MOST_ERRORS, self._errors.seek(0, os.SEEK_END)), os.SEEK_CUR)
            raise self._remote.failure(self._process.returncode, self._errors.read())

    def _kill(self) -> None:
        self._closed = True
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what it has not read
                pipe.close()

    def _strange(self, what: str) -> SqueezeEdgeError:
        return self._error(f"answered something else than {SCRIPT} prints: {what}")

    def _error(self, text: str, kind: type[SqueezeEdgeError] = SqueezeEdgeError) -> SqueezeEdgeError:
        return kind(f"board {self._remote.name}: {text}")


def _npy(image: NDArray[np.uint8]) -> memoryview:
    array = io.BytesIO()
    np.save(array, image)
    return array.getbuffer()


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _files(artifact: Artifact, patterns: Sequence[str]) -> dict[str, bytes]:
    """The files that the board needs: name relative to the artifact's folder -> content, checked by its checksum."""
    listed = [name for name in artifact.manifest["files"] if any(fnmatchcase(name, pattern) for pattern in patterns)]
    files = {MANIFEST: (artifact.folder / MANIFEST).read_bytes()}
    files.update((name, artifact.read(name)) for name in (SCRIPT, DEVICE, GOLDEN, *listed))
    for pattern in patterns:  # and what was made after compiling, as model.om by ATC
        for path in sorted(artifact.folder.glob(pattern)):
            if artifact.folder.resolve() not in path.resolve().parents:
                raise ValueError(f"{path}: leads out of the artifact; remove it")
            files.setdefault(path.relative_to(artifact.folder).as_posix(), path.read_bytes())
    return files
