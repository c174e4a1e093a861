"""Worker processes: answers in order, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.training.workers import Workers
from tests.training.answers import Killed, blocked, failing, large, square
from tests.training.processes import alive, children


@pytest.mark.parametrize("processes", [0, 2])
def test_answers_come_in_order(processes: int) -> None:
    with Workers(square, processes) as workers:
        assert [answer for answer, _ in workers.answers(range(50))] == [n * n for n in range(50)]
        rounds = workers.answers(range(9))
        next(rounds)
        rounds.close()  # type: ignore[attr-defined]
        answers = list(workers.answers(range(100, 103)))
        assert [answer for answer, _ in answers] == [10_000, 10_201, 10_404], "those of a round that ended are dropped"
        assert list(workers.answers([])) == []
        others = {process for _, process in answers} - {os.getpid()}
        assert len(others) == processes or others <= {worker.process.pid for worker in workers._workers}
    assert not any(alive(process) for process in others)


def test_signals_of_the_whole_group_are_for_the_first_process() -> None:
    with Workers(blocked, 1) as workers:
        assert list(workers.answers([0])) == [{signal.SIGINT, signal.SIGTERM, signal.SIGHUP}]
    assert signal.SIGTERM not in blocked(0)


def test_what_a_request_raises_is_raised_in_its_place() -> None:
    with Workers(failing, 1) as workers:
        answers = workers.answers(range(6))
        assert [next(answers) for _ in range(3)] == [-1, -1, -1]
        with pytest.raises(UsageError, match="three"):
            next(answers)
        with pytest.raises(ZeroDivisionError) as failure:
            next(workers.answers([5]))
        assert "in failing" in failure.value.__notes__[0]


def test_neither_side_waits_for_the_other_one_to_read() -> None:
    with Workers(large, 1) as workers:
        assert [len(answer) for answer in workers.answers([1, 2, 3])] == [1 << 20, 2 << 20, 3 << 20]


def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    told: list[str] = []
    with Workers(Killed(4, 2, tmp_path), 2, told.append) as workers:
        assert list(workers.answers(range(10))) == list(range(10))
    assert told == ["a process that prepares images died (by signal SIGKILL); another one takes its place"] * 2


def test_workers_that_die_again_and_again(tmp_path: Path) -> None:
    with Workers(Killed(1, 99, tmp_path), 1) as workers:
        answers = workers.answers(range(3))
        assert next(answers) == 0
        with pytest.raises(
            SqueezeEdgeError, match="died 3 times over the same ones, the last time by signal SIGKILL; is"
        ):
            next(answers)


PARENT = """
from squeezeedge.training.workers import Workers
from tests.training.answers import asleep
workers = Workers(asleep, 2)
print("begin", flush=True)
for answer in workers.answers(range(9)):
    print(answer, flush=True)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("starting", [True, False])
def test_workers_end_with_their_parent(parent: subprocess.Popen[str], starting: bool) -> None:
    """Killed while they start, and while they work."""
    assert parent.stdout is not None and parent.stderr is not None
    for line in ("begin",) if starting else ("begin", "0", "1"):
        assert parent.stdout.readline() == f"{line}\n"
    deadline = time.monotonic() + 20
    while len(workers := children(parent.pid)) < 2:
        assert time.monotonic() < deadline
    parent.kill()
    parent.wait()
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)
    assert "Traceback" not in parent.stderr.read()
