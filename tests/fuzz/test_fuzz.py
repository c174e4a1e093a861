"""No input is a fault; and what is a fault is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from tests.fuzz import BAIT, Format
from tests.fuzz.formats import NAMES, get_format
from tests.fuzz.judge import Verdict, make_input
from tests.fuzz.runner import Report, fuzz

ROOT = Path(__file__).parents[2]
SEED = 15


def check(report: Report) -> None:
    assert not report.faults, "\n\n".join(map(str, report.faults))


@pytest.mark.slow
def test_twenty_thousand_inputs_of_all_formats(tmp_path: Path) -> None:
    """About two minutes on two cores."""
    report = fuzz(list(NAMES), SEED, inputs=20_000, workers=2, keep=tmp_path)
    print(report.table())
    check(report)
    assert report.inputs == 20_000 and report.outcomes.keys() == NAMES.keys()
    for name, counts in report.outcomes.items():  # else the mutator damages too much, or nothing
        assert 0.01 < counts["accepted"] / counts.total() < 0.95, (name, counts)


@pytest.mark.parametrize("name", ["classes", "npz", "tar", "recipe"])
def test_an_input_follows_from_its_number(name: str) -> None:
    format = get_format(name)
    first, again = ([make_input(format, format.seeds(), 1, number) for number in range(20)] for _ in range(2))
    assert first == again
    assert len({tuple(files.items()) for files in first}) > 10


CODE = """
import sys
from pathlib import Path
from tests.fuzz import test_fuzz
from tests.fuzz.judge import Judge
judge = Judge(Path(sys.argv[1]))
judge.limit_memory()
print(judge.judge(test_fuzz.bad(sys.argv[2]), {"a.bin": b"x"}, 1))
"""


def _traceback(folder: Path) -> None:
    sys.stderr.write("Traceback (most recent call last):\n")


def _slow(folder: Path) -> None:
    end = os.times().user + 20
    while os.times().user < end:
        pass


def _wrong_file(folder: Path) -> None:
    raise CorruptFileError("damaged")


def _right_file(folder: Path) -> None:
    raise CorruptFileError(f"{folder / 'a.bin'}: damaged")


def _usage(folder: Path) -> None:
    raise UsageError("not that way")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "KeyError": (lambda folder: dict[str, int]()["x"], "KeyError"),
    "a traceback": (_traceback, "a traceback on the standard error"),
    "no file": (_wrong_file, "names no file"),
    "memory": (lambda folder: bytearray(3 << 30), "MemoryError"),
    "written outside": (lambda folder: (folder.parent / "x").write_bytes(b""), "outside of the input's folder written"),
    "removed outside": (lambda folder: (folder.parent / BAIT).unlink(), "outside of the input's folder os.remove"),
    "bait": (lambda folder: (folder / ".." / BAIT).read_bytes(), "outside of the input's folder opened"),
    "a program": (lambda folder: subprocess.run(["true"], check=True), "program started: subprocess.Popen"),
    "an exit": (lambda folder: sys.exit(3), "SystemExit"),
}
GOOD: dict[str, tuple[Callable[[Path], object], str]] = {
    "taken": (lambda folder: (folder / "a.bin").read_bytes(), "accepted"),
    "refused": (_right_file, "CorruptFileError"),
    "usage": (_usage, "UsageError"),
    "written inside": (lambda folder: (folder / "b").write_bytes(b""), "accepted"),
}


def bad(name: str) -> Format:
    """A format whose reader does what is a fault, or not."""
    reader = ({**BAD, **GOOD} | {"time": (_slow, "")})[name][0]
    return Format(name, 1, lambda: [{}], lambda _, files: files, (reader,))


def judged(name: str, folder: Path) -> str:
    """What a process of its own says of it: it watches itself for ever."""
    command = [sys.executable, "-c", CODE, str(folder), name]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    verdict = judged(name, tmp_path)
    assert BAD[name][1] in verdict and "fault=None" not in verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_what_is_no_fault_is_none(name: str, tmp_path: Path) -> None:
    assert f"Verdict(outcome='{GOOD[name][1]}', fault=None" in judged(name, tmp_path)


@pytest.mark.slow
def test_what_takes_too_long_is_a_fault(tmp_path: Path) -> None:
    assert "over 10 s" in judged("time", tmp_path)


def _serve_and_die(connection: Connection, names: tuple[str, ...], seed: int, folder: Path) -> None:
    """A worker that the third input kills."""
    connection.send(Verdict("ready"))
    for _ in range(2):
        connection.recv()
        connection.send(Verdict("accepted"))
    connection.recv()
    (folder / "left behind").touch()
    os.abort()


@pytest.mark.slow
def test_the_end_of_a_worker_is_a_fault_and_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.fuzz.runner.serve", _serve_and_die)
    monkeypatch.setattr("tests.fuzz.runner.IN_MEMORY", tmp_path)
    report = fuzz(["sqe"], 1, inputs=5, keep=tmp_path)
    assert report.outcomes["sqe"] == {"accepted": 4, "end of the process": 1}
    (fault,) = report.faults
    assert "SIGABRT" in str(fault) and "python -m tests.fuzz --format sqe --seed 1 --only 2" in str(fault)
    assert fault.kept is not None and list((fault.kept / "input").iterdir())
    assert report.kinds.total() == 1
    assert not list(tmp_path.glob("fuzz.*"))


def test_a_mutator_uses_no_other_source_of_chance() -> None:
    """Two sources of the same state are in the same state afterwards."""
    format = get_format("npz")
    seeds = format.seeds()
    first, second = Random(3), Random(3)
    assert format.mutate(first, seeds[0]) == format.mutate(second, seeds[0])
    assert first.random() == second.random()
