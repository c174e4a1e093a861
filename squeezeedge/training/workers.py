"""Worker processes that answer requests in order. They end with this process; one that dies is replaced.

Each worker has a socket of its own to this process. No locks or memory are shared, so a worker that is killed at any
moment blocks nobody. A worker reads in a thread, which ends the worker at once when the other end is closed: by
:meth:`Workers.close`, or because this process is gone, even while the worker starts. A terminal, a scheduler or a
service manager signals all processes of a group. Workers block these signals; this process decides what they mean.

Importing this loads nothing large, so a worker watches this process before it loads what it works with.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

from squeezeedge.errors import SqueezeEdgeError

__all__ = ["Workers", "serve"]

Request = TypeVar("Request")
Answer = TypeVar("Answer")

AHEAD = 2
"""Requests that each worker has: one in work, one that waits."""
DEATHS = 3
"""So often workers die over one request before it is given up."""
NUMBER = struct.Struct("<Q")
"""In front of what is sent stands how many parts it has, and how many bytes each of them."""
_Parts: TypeAlias = Sequence[bytes | memoryview]
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Workers(Generic[Request, Answer]):
    """Some worker processes; they are started when they are first asked.

    Args:
        answer: request -> answer; a function that can be pickled, as requests and answers can. What it raises is
            raised where the answer is asked for.
        processes: how many; with 0 this one answers.
        on_death: told that a worker died and is replaced.
    """

    def __init__(
        self, answer: Callable[[Request], Answer], processes: int, on_death: Callable[[str], None] = lambda text: None
    ) -> None:
        self._answer = answer
        self._processes = processes
        self._on_death = on_death
        self._workers: list[_Worker] = []
        self._numbers = count()

    def __enter__(self) -> Workers[Request, Answer]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        _end(self._workers)

    def answers(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """The answers in the order of the requests, some of which are made ahead.

        Raises:
            SqueezeEdgeError: workers die over one request again and again.
        """
        if not self._processes:
            yield from map(self._answer, requests)
            return
        if not self._workers:
            self._workers += _start(self._answer, self._processes)
        work = _Work[Request]()
        for number, request in zip(self._numbers, requests, strict=False):
            work.asked[number] = request
            work.waiting.append(number)
            if len(work.asked) == AHEAD * self._processes:
                yield self._next(work)
        while work.asked:
            yield self._next(work)

    def _next(self, work: _Work[Request]) -> Answer:
        """The answer to the earliest request."""
        first = next(iter(work.asked))
        self._give(work)
        while first not in work.found:
            self._receive(work)
            self._give(work)
        del work.asked[first]
        failed, answer = work.found.pop(first)
        if failed:
            raise answer
        result: Answer = answer
        return result

    def _give(self, work: _Work[Request]) -> None:
        """Hand out requests, the earliest ones first, each to the worker with the fewest."""
        while work.waiting:
            worker = min(self._workers, key=lambda worker: len(worker.numbers))
            if len(worker.numbers) >= AHEAD:
                return
            number = work.waiting.pop(0)
            worker.numbers.append(number)
            worker.send(_dumped((number, work.asked[number])))

    def _receive(self, work: _Work[Request]) -> None:
        """Wait for an answer, and take those that have come; those to an earlier round's requests are dropped."""
        ready = wait([worker.connection for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                number, failed, answer = _loaded(_receive(worker.connection))
            except (EOFError, OSError):
                self._replace(worker, work)
                continue
            worker.numbers.remove(number)
            if number in work.asked:
                work.found[number] = (failed, answer)

    def _replace(self, dead: _Worker, work: _Work[Request]) -> None:
        """Put another worker in the place of a dead one; its requests are the next ones to be handed out."""
        dead.connection.close()
        code = dead.wait()
        cause = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        numbers = [number for number in dead.numbers if number in work.asked]
        work.waiting = sorted([*work.waiting, *numbers])
        if numbers:
            work.deaths[numbers[0]] += 1
            if work.deaths[numbers[0]] == DEATHS:
                raise SqueezeEdgeError(
                    f"a process that prepares images died {DEATHS} times over the same ones, the last time {cause}; "
                    "is there enough memory? Try fewer workers"
                )
        self._workers[self._workers.index(dead)] = _start(self._answer, 1)[0]
        self._on_death(f"a process that prepares images died ({cause}); another one takes its place")


class _Work(Generic[Request]):
    """What is asked for in one round, by the request's number.

    Attributes:
        asked: all whose answer is still to be given out, in order.
        waiting: those of them that no worker has.
        found: whether it failed, and the answer or the exception.
        deaths: of workers that had it in work.
    """

    def __init__(self) -> None:
        self.asked: dict[int, Request] = {}
        self.waiting: list[int] = []
        self.found: dict[int, tuple[bool, Any]] = {}
        self.deaths: Counter[int] = Counter()


class _Worker:
    """One worker process, and the numbers of the requests that it has."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection = ours
        self.numbers: list[int] = []
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)  # which the worker inherits
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def send(self, parts: _Parts) -> None:
        with suppress(OSError):  # it is dead; the wait for its answer handles that
            _send(self.connection, parts)

    def wait(self) -> int:
        """Wait until the closed connection ends the worker; return its exit code."""
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _start(answer: Callable[[Any], Any], processes: int) -> list[_Worker]:
    workers: list[_Worker] = []
    try:
        while len(workers) < processes:
            workers.append(_Worker())
        parts = _dumped(answer)
        for worker in workers:
            worker.send(parts)
    except BaseException:
        _end(workers)
        raise
    return workers


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    while workers:
        workers.pop().wait()


def serve(descriptor: int) -> None:
    """What a worker does, given its end of the connection."""
    connection = socket.socket(fileno=descriptor)
    received: queue.SimpleQueue[list[bytearray]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, received), daemon=True).start()
    answer = _loaded(received.get())
    while True:
        number, request = _loaded(received.get())
        try:
            result = (number, False, answer(request))
        except Exception as error:  # whatever it is, it is raised where the answer is asked for
            if not isinstance(error, SqueezeEdgeError):
                error.add_note(traceback.format_exc())
            result = (number, True, error)
        _send(connection, _dumped(result))


def _read(connection: socket.socket, received: queue.SimpleQueue[list[bytearray]]) -> None:
    """Receive without end; otherwise, both sides could wait for the other one to read."""
    try:
        while True:
            received.put(_receive(connection))
    except (EOFError, OSError):
        os._exit(0)


def _dumped(value: object) -> _Parts:
    """Pickled; the content of arrays stands behind it and is not copied."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return [pickled, *(buffer.raw() for buffer in buffers)]


def _loaded(parts: list[bytearray]) -> Any:  # noqa: ANN401
    return pickle.loads(parts[0], buffers=parts[1:])


def _send(connection: socket.socket, parts: _Parts) -> None:
    connection.sendall(b"".join(NUMBER.pack(number) for number in (len(parts), *map(len, parts))))
    for part in parts:
        connection.sendall(part)


def _receive(connection: socket.socket) -> list[bytearray]:
    """The parts that the other side sent.

    Raises:
        EOFError: it has closed the connection.
    """
    (count,) = NUMBER.unpack(_exactly(connection, NUMBER.size))
    lengths = [length for (length,) in NUMBER.iter_unpack(_exactly(connection, count * NUMBER.size))]
    return [_exactly(connection, length) for length in lengths]


def _exactly(connection: socket.socket, length: int) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return content
