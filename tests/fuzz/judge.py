"""Runs the readers of a format on one input, in this process, and says what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from tests.fuzz import BAIT, LIBRARY, MEMORY_BYTES, PROGRAMS, RARE, SECONDS, Files, Format, Reader

__all__ = ["Judge", "Verdict", "make_input", "write_files"]

ACCEPTED = "accepted"
WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
SHOWN = 3000


@dataclass(frozen=True)
class Verdict:
    """What came of an input.

    Attributes:
        outcome: "accepted", or the class of the error that the first reader refused it with.
        fault: what is wrong with that, if something is.
        text: the error's.
    """

    outcome: str
    fault: str | None = None
    text: str = ""


class _TooSlow(BaseException):
    """No reader can catch it by accident."""


def make_input(format: Format, seeds: list[Files], seed: int, number: int) -> Files:
    """The input of that number."""
    random = Random(f"{seed} {format.name} {number}")
    return format.mutate(random, random.choice(seeds))


def write_files(folder: Path, files: Files) -> None:
    """Write an input; names lead nowhere else, they are the mutators' own."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Judge:
    """Watches what this process does while readers run; there is one in a process.

    Args:
        folder: for the inputs; must be there and empty.
    """

    def __init__(self, folder: Path) -> None:
        self._root = Path(os.path.realpath(folder))
        (self._root / BAIT).write_bytes(b"not of the input")
        self._input, temporary = self._root / "input", self._root / "temporary"
        temporary.mkdir(exist_ok=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        self._own = tuple(f"{path}{os.sep}" for path in (self._input, temporary))
        self._errors = tempfile.TemporaryFile(dir=folder)
        os.dup2(self._errors.fileno(), 2)
        self._caught: list[str] = []
        self._watching = False
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._stop)

    def limit_memory(self) -> None:
        """From now on this process gets no more than :data:`MEMORY_BYTES` beyond what it has."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def judge(self, format: Format, files: Files, number: int) -> Verdict:
        """Write an input and run the readers on it."""
        self._clear()
        self._input.mkdir()
        write_files(self._input, files)
        readers: list[Reader] = list(format.readers)
        if number % RARE == 0:
            readers += format.rare
            if format.command is not None:
                readers.append(lambda folder: _command(format, folder))
        verdicts = [self._try(reader, files) for reader in readers]
        return next((verdict for verdict in verdicts if verdict.fault), verdicts[0])

    def _try(self, reader: Reader, files: Files) -> Verdict:
        self._caught.clear()
        outcome, fault, text = ACCEPTED, None, ""
        out = io.StringIO()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        self._watching = True
        try:
            with contextlib.redirect_stdout(out):
                reader(self._input)
        except SqueezeEdgeError as error:
            outcome, text = type(error).__name__, str(error)[:SHOWN]
            if isinstance(error, CorruptFileError) and not self._names_a_file(text, files):
                fault = f"names no file: {text}"
        except _TooSlow:
            outcome, fault = "time", f"over {SECONDS:g} s\n{self._trace()}"
        except BaseException as error:  # whatever it is
            outcome, fault = type(error).__name__, self._trace()
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
        printed = self._printed()
        if self._caught:
            fault = f"{fault or ''}{'; '.join(self._caught)}"
        elif "Traceback" in printed and fault is None:
            fault = f"a traceback on the standard error: {printed}"
        return Verdict(outcome, fault and fault[:SHOWN], text)

    @staticmethod
    def _trace() -> str:
        return "".join(traceback.format_exc(limit=-12))[-SHOWN:]

    def _names_a_file(self, text: str, files: Files) -> bool:
        return str(self._input) in text or any(name in text for name in files)

    def _printed(self) -> str:
        """What the standard error has got; it is empty afterwards."""
        sys.stderr.flush()
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), SHOWN, 0).decode(errors="replace")
        if size:
            self._errors.truncate(0)
            os.lseek(self._errors.fileno(), 0, os.SEEK_SET)
        return text

    def _clear(self) -> None:
        """Remove the input before."""
        if not self._input.exists():
            return
        for folder, folders, names in os.walk(self._input, topdown=False):
            for name in names:
                Path(folder, name).unlink()
            for name in folders:
                path = Path(folder, name)
                if path.is_symlink():
                    path.unlink()
                else:
                    path.rmdir()
        self._input.rmdir()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit events: what is opened, written, started, loaded."""
        if not self._watching:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, str | bytes | os.PathLike):
                writes = (isinstance(mode, str) and not {"w", "a", "x", "+"}.isdisjoint(mode)) or (
                    isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                )
                self._check_path("written" if writes else "opened", path, bool(writes))
        elif event in WRITES:
            for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._check_path(event, path, True)
        elif event in STARTS:
            program = os.fsdecode(arguments[0] if isinstance(arguments[0], str | bytes) else str(arguments[0]))
            if Path(program).name not in PROGRAMS:
                self._caught.append(f"program started: {event}{arguments!r}"[:300])
        elif (
            event == "ctypes.dlopen"
            and str(self._root) in str(arguments[0])
            and not str(arguments[0]).endswith(LIBRARY)
        ):
            self._caught.append(f"library loaded: {arguments[0]}")

    def _check_path(self, what: str, path: str | bytes | os.PathLike[str], writes: bool) -> None:
        try:
            real = os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return  # nothing of that name can be opened
        if (writes and not f"{real}{os.sep}".startswith(self._own) and real != os.devnull) or real == str(
            self._root / BAIT
        ):
            self._caught.append(f"outside of the input's folder {what}: {real}")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._watching:
            raise _TooSlow


def _command(format: Format, folder: Path) -> None:
    """The command line on an input, in this process; its own exit is its answer."""
    from squeezeedge.cli import main

    assert format.command is not None
    with _arguments(["squeezeedge", *format.command(folder)]):
        try:
            main()
        except SystemExit as end:
            if end.code not in (None, 0, 1, 2, 3, 4):
                raise AssertionError(f"exit code {end.code}") from end


@contextlib.contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before
