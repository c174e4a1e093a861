"""Hands inputs to worker processes, counts what comes of them and keeps those with faults."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from tests.fuzz import HARD_SECONDS
from tests.fuzz.formats import get_format
from tests.fuzz.judge import Verdict, make_input, write_files
from tests.fuzz.worker import serve

__all__ = ["Fault", "Report", "fuzz", "plan"]

READY_SECONDS = 300.0
IN_MEMORY = Path("/dev/shm")
PROGRESS = 1000
INPUTS_A_WORKER = 20_000
"""A worker is replaced after so many: memory that torch and onnx keep is not the next input's."""


@dataclass(frozen=True)
class Fault:
    """An input that something is wrong with.

    Attributes:
        format: its format's name.
        number: of the input.
        seed: of the run.
        text: what is wrong.
        kept: folder that its files were written to, if any.
    """

    format: str
    number: int
    seed: int
    text: str
    kept: Path | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """The same for inputs that the same line of code stumbles over: the format and the last place in the trace."""
        places = [line.strip() for line in self.text.splitlines() if line.startswith('  File "')]
        return self.format, places[-1] if places else re.sub(r"[0-9a-f]{2,}|/\S+|'.*'", "", self.text)[:80]

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --format {self.format} --seed {self.seed} --only {self.number}"
        return f"{self.format} {self.number}: {self.text.strip()[-1500:]}\n  files: {self.kept}\n  again: {again}"


@dataclass
class Report:
    """Counts of a run.

    Attributes:
        outcomes: format -> outcome -> inputs.
        faults: the first of each kind, in the order in which they were found.
        kinds: how many there are of each.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, fault: Fault, keep: Path | None) -> None:
        """Count a fault; the first of its kind is listed, and its input written below ``keep``."""
        self.kinds[fault.kind] += 1
        if self.kinds[fault.kind] > 1:
            return
        if keep is not None:
            folder, format = keep / f"{fault.format}-{fault.seed}-{fault.number}", get_format(fault.format)
            fault = replace(fault, kept=folder)
            write_files(folder / "input", make_input(format, format.seeds(), fault.seed, fault.number))
            (folder / "fault.txt").write_text(f"{fault}\n", errors="replace")
        self.faults.append(fault)

    @property
    def inputs(self) -> int:
        """All of them."""
        return sum(counts.total() for counts in self.outcomes.values())

    def table(self) -> str:
        """A line a format: inputs, accepted, refused by class, faults."""
        lines = [f"{'format':<14}{'inputs':>9}{'accepted':>10}{'faults':>8}  refused"]
        for name, counts in sorted(self.outcomes.items()):
            faults = sum(count for (format, _), count in self.kinds.items() if format == name)
            refused = ", ".join(f"{key} {count}" for key, count in counts.most_common() if key != "accepted")
            lines.append(f"{name:<14}{counts.total():>9}{counts['accepted']:>10}{faults:>8}  {refused}")
        lines.append(f"{'all':<14}{self.inputs:>9}{'':>10}{self.kinds.total():>8}")
        return "\n".join(lines)


class _Worker:
    """A worker process, started when it is needed and again when it has ended."""

    def __init__(self, names: tuple[str, ...], seed: int) -> None:
        self._names, self._seed = names, seed
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._left = 0

    def run(self, name: str, number: int) -> Verdict:
        """The verdict on an input."""
        if self._left == 0:
            self.close()
        if self._process is None:
            self._start()
        self._left -= 1
        try:
            self._tasks.send((name, number))
            if not self._tasks.poll(HARD_SECONDS):
                self._kill()
                return Verdict("time", f"no answer in {HARD_SECONDS:g} s")
            verdict = self._tasks.recv()
            assert isinstance(verdict, Verdict)
        except (EOFError, OSError):
            return Verdict("end of the process", f"the process ended: {self._ended()}")
        return verdict

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._tasks.send(None)
            self._process.join(HARD_SECONDS)
            self._kill()

    def _start(self) -> None:
        place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz.", dir=place)
        folder = Path(self._folder.name)
        self._tasks, other = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(other, self._names, self._seed, folder), daemon=True)
        self._process.start()
        other.close()
        try:
            ready = self._tasks.recv() if self._tasks.poll(READY_SECONDS) else None
        except EOFError:
            ready = None
        if ready is None or ready.outcome != "ready":
            self._kill()
            raise RuntimeError(f"the worker did not start: {ready.fault if ready else 'it ended, or takes too long'}")
        self._left = INPUTS_A_WORKER

    def _kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.join()
        self._folder.cleanup()
        self._process, self._left = None, 0

    def _ended(self) -> str:
        assert self._process is not None
        self._process.join(HARD_SECONDS)
        code = self._process.exitcode
        self._kill()
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def plan(names: Sequence[str], first: int = 0) -> Iterator[tuple[str, int]]:
    """(format, number) for ever, each format as often as its share."""
    numbers = dict.fromkeys(names, first)
    while True:
        for name in names:
            for _ in range(get_format(name).share):
                yield name, numbers[name]
                numbers[name] += 1


def fuzz(
    names: Sequence[str],
    seed: int,
    *,
    inputs: int | None = None,
    minutes: float | None = None,
    only: int | None = None,
    workers: int = 1,
    keep: Path | None = None,
    on_progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Try inputs.

    Args:
        names: of formats.
        seed: of the inputs.
        inputs: so many; ``None``: any number.
        minutes: for so long; ``None``: for any time.
        only: the input of this number alone, of each format.
        workers: processes at a time.
        keep: folder for the inputs with faults.
        on_progress: called after every :data:`PROGRESS` inputs.

    Returns:
        What was found, also when Ctrl-C ends it.

    Raises:
        RuntimeError: a worker does not start, or a seed is refused.
    """
    report, lock = Report(), threading.Lock()
    tasks = iter([(name, only) for name in names]) if only is not None else islice(plan(names), inputs)
    end = time.monotonic() + minutes * 60 if minutes is not None else None
    failures: list[BaseException] = []
    interrupted = threading.Event()

    def next_task() -> tuple[str, int] | None:
        with lock:
            if failures or interrupted.is_set() or (end is not None and time.monotonic() > end):
                return None
            return next(tasks, None)

    def work() -> None:
        worker = _Worker(tuple(names), seed)
        try:
            while (task := next_task()) is not None:
                verdict = worker.run(*task)
                with lock:
                    report.outcomes.setdefault(task[0], Counter())[verdict.outcome] += 1
                    if verdict.fault is not None:
                        report.add(Fault(*task, seed, verdict.fault), keep)
                    if report.inputs % PROGRESS == 0:
                        on_progress(report)
            worker.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        interrupted.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return report
