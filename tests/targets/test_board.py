"""Artifacts on other machines, over a fake ssh and over a real one; the device is a few lines of numpy."""

from __future__ import annotations

import base64
import getpass
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets import board as module
from squeezeedge.targets.protocol import Target
from squeezeedge.targets.remote import COPIES, Remote
from squeezeedge.targets.session import open_session
from tests.targets.device.artifact import FakeArtifact, fake_sums
from tests.targets.device.target import TARGET, FakeTarget
from tests.targets.devices import FakeBoard

BOARD = "user@board"


@pytest.fixture
def made(tmp_path: Path) -> FakeArtifact:
    return FakeArtifact(tmp_path / "artifact")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    """Its Python finds numpy and nothing of this package."""
    return FakeBoard(tmp_path / "remote", monkeypatch, python=f"{sys.executable} -I")


def sums(made: FakeArtifact, board: str, target: Target = TARGET) -> Any:  # noqa: ANN401
    with open_session(made.folder, target, "fake", board) as session:
        return session.run(made.images).sums.tolist()


def open_and_close(made: FakeArtifact) -> None:
    with open_session(made.folder, TARGET, "fake", BOARD):
        pass


def test_on_a_board(made: FakeArtifact, board: FakeBoard) -> None:
    (made.folder / "model.sqe").write_text("not needed there")
    made.seal()
    with open_session(made.folder, TARGET, "fake", BOARD) as session:
        parts = [session.run(made.images[:1]), session.run(made.images[1:]), session.run(made.images[:0])]
    np.testing.assert_array_equal(np.concatenate([part.sums for part in parts]), made.sums)
    assert parts[0].sums.dtype == np.int32 and parts[1].timings["fake_ms"].tolist() == [0.5, 0.5]
    assert parts[1].metrics == {"gain": 1, "fake": True, "fake_ms": 0.5}
    assert board.calls == ["ssh"] * 3, "a look, the copy, and one script for all images"
    (copied,) = (board.home / COPIES).iterdir()
    assert {path.name for path in copied.iterdir()} == {
        *("run.py", "device.py", "manifest.json", "golden.npz", "weights.bin", "SHA256SUMS"),
    }


@pytest.mark.slow
def test_tensors_of_a_board(made: FakeArtifact, board: FakeBoard) -> None:
    """Images may be run in between; what the artifact says is not seen is told."""
    said = {"head": "head", "tensors": [], "unseen": {"blocks/2": "fused"}}
    (made.folder / "trace.json").write_text(json.dumps(said))
    made.seal()
    with open_session(made.folder, TARGET, "fake", BOARD, trace=True) as session:
        for image, expected in zip(made.images, made.sums, strict=True):
            found = dict(session.trace(image))
            assert list(found) == ["blocks/1", "head"] and found["head"].dtype == np.int32
            np.testing.assert_array_equal(found["blocks/1"], 255 - image)
            np.testing.assert_array_equal(found["head"], expected)
            np.testing.assert_array_equal(session.run(made.images[:1]).sums, made.sums[:1])
        assert session.unseen() == {"blocks/2": "fused"} and session.tolerance == 0


def tensor_line(**changes: object) -> str:
    """What prints a tensor, changed."""
    data = base64.b64encode(bytes(6)).decode()
    line = {"tensor": "x", "index": 0, "dtype": "uint8", "shape": [2, 1, 3], "data": data, **changes}
    return f"print({json.dumps(json.dumps(line))}, flush=True)\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"index": 1}, "a tensor 'x' of image 1"),
        ({"tensor": 3}, "a tensor 3 of image 0"),
        ({"dtype": "float64"}, "neither uint8 nor int32"),
        ({"dtype": []}, "neither uint8 nor int32"),
        ({"shape": [2, 1, 4]}, "6 bytes for"),
        ({"shape": [6, 0, 1]}, "of no shape"),
        ({"shape": 6}, "of no shape"),
        ({"shape": [1 << 40, 1 << 40]}, "6 bytes for"),
        ({"data": "no base64!"}, "x: Error"),
        ({"data": None}, "x: TypeError"),
    ],
)
def test_strange_tensors(made: FakeArtifact, changes: dict[str, Any], text: str, board: FakeBoard) -> None:
    (made.folder / "run.py").write_text(GOLDEN_LINE + tensor_line(**changes) + answer_line())
    made.seal()
    with pytest.raises(SqueezeEdgeError, match=f"answered something else than run.py prints: .*{text}"):
        with open_session(made.folder, TARGET, "fake", BOARD, trace=True) as session:
            list(session.trace(made.images[0]))


@pytest.mark.slow
def test_tensors_without_an_end(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    for script, text in (
        (GOLDEN_LINE + tensor_line(), "printed an image's tensors and ended"),
        (GOLDEN_LINE + "while True: " + tensor_line(), "more tensors than 5"),
    ):
        (made.folder / "run.py").write_text(script)
        made.seal()
        monkeypatch.setattr(module, "MOST_TENSORS", 5)
        with pytest.raises(SqueezeEdgeError, match=text):
            with open_session(made.folder, TARGET, "fake", BOARD, trace=True) as session:
                list(session.trace(made.images[0]))


@pytest.mark.slow
def test_files_are_copied_when_they_changed(made: FakeArtifact, board: FakeBoard) -> None:
    (made.folder / "run.py").write_text(GOLDEN_LINE)
    made.seal()
    open_and_close(made)
    assert board.calls == ["ssh"] * 3
    open_and_close(made)
    assert board.calls == ["ssh"] * 2, "the artifact is there already"
    (made.folder / "weights2.bin").write_text("FAKE")
    open_and_close(made)
    assert board.calls == ["ssh"] * 3, "a file that the manifest does not list is sent, too"
    (made.folder / "golden.npz").write_bytes(b"other")
    with pytest.raises(SqueezeEdgeError, match=r"golden\.npz: differs from its checksum"):
        open_and_close(made)
    assert not board.calls, "nothing is sent that is damaged"


def test_no_file_from_outside_is_sent(made: FakeArtifact, board: FakeBoard, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of this machine")
    (made.folder / "weights9.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(SqueezeEdgeError, match=r"weights9\.bin: leads out of the artifact; remove it"):
        sums(made, BOARD)
    assert not board.calls


def test_a_listed_file_that_is_missing(made: FakeArtifact, board: FakeBoard) -> None:
    (made.folder / "weights2.bin").write_text("FAKE")
    made.seal()
    (made.folder / "weights2.bin").unlink()
    with pytest.raises(SqueezeEdgeError, match=r"weights2\.bin: No such file or directory; copy the artifact again"):
        sums(made, BOARD)
    assert not board.calls, "the board is not reached"


def test_a_board_that_is_not_reached(made: FakeArtifact, board: FakeBoard) -> None:
    with pytest.raises(UnavailableError, match=r"board root@unreachable: .*Connection refused \(ssh failed"):
        sums(made, "root@unreachable")
    with pytest.raises(UsageError, match="`board`: device fake-emulation runs on this machine only"):
        with open_session(made.folder, TARGET, "fake-emulation", BOARD):
            pass


def test_the_scripts_own_words_win(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries print lines when they end, and shells when they start."""
    with (board.home / ".profile").open("a") as profile:
        profile.write("echo noise >&2; trap 'echo driver: goodbye >&2' EXIT\n")
    monkeypatch.setenv("FAKE_FAULT", "broken")
    with pytest.raises(SqueezeEdgeError, match=r"^board user@board: the FAKE device is on fire$"):
        sums(made, BOARD)


@pytest.mark.slow
def test_a_profile_that_prints_and_reads_and_goes_elsewhere(made: FakeArtifact, board: FakeBoard) -> None:
    """It gets nothing of the images, and its words do not spoil the first answer."""
    with (board.home / ".profile").open("a") as profile:
        profile.write("read word; printf 'no \"$word\" newline'; cat; cd /; printf x\n")
    device = made.folder / "device.py"
    text = device.read_text().replace(
        "        totals =", "        os.write(1, b'of a library'); print('{', end='')\n        totals ="
    )
    device.write_text(text)
    made.seal()
    assert sums(made, BOARD) == made.sums.tolist()


@pytest.mark.slow
def test_a_device_that_hangs(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left there."""
    monkeypatch.setenv("FAKE_FAULT", "hangs")
    monkeypatch.setattr(module, "LEAST_ANSWER_S", 0.3)
    text = r"board user@board: no answer in 0\.3 s, the time-out: does the device hang after 0 images, or take longer\?"
    with pytest.raises(SqueezeEdgeError, match=text):
        with open_session(made.folder, TARGET, "fake", BOARD) as session:
            session.run(made.images)
    nothing_is_left(board.home)


HANGING = [
    (0.3, "import time; time.sleep(9)", "no answer in 0.3 s, the time-out: does the login shell wait for something"),
    (0.3, "import os; os.kill(os.getpid(), 19)", "no answer in 0.3 s"),
    (None, "GOLDEN; import os; os.kill(os.getpid(), 19)", "no answer in 0.2 s, .* hang after 0 images"),
    (None, "GOLDEN; import sys; sys.stdin.buffer.read()", "no answer in 0.2 s"),
    (0.3, "while True: print('no answer')", "no answer in 0.3 s"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("timeout", "script", "text"), HANGING)
def test_scripts_that_hang(
    made: FakeArtifact,
    board: FakeBoard,
    monkeypatch: pytest.MonkeyPatch,
    timeout: float | None,
    script: str,
    text: str,
) -> None:
    """Also where they are stopped."""
    (made.folder / "run.py").write_text(script.replace("GOLDEN; ", GOLDEN_LINE))
    made.seal()
    monkeypatch.setattr(module, "LEAST_ANSWER_S", 0.2)
    with pytest.raises(SqueezeEdgeError, match=text):
        with open_session(made.folder, TARGET, "fake", BOARD, timeout=timeout) as session:
            session.run(made.images[:1])
    nothing_is_left(board.home)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_what_is_no_time_out(made: FakeArtifact, board: FakeBoard, timeout: float) -> None:
    with pytest.raises(UsageError, match="must be more than 0 and at most 86400"):
        with open_session(made.folder, TARGET, "fake", BOARD, timeout=timeout):
            pass
    assert not board.calls


@pytest.mark.slow
def test_how_long_an_answer_may_take(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what a golden input took, where nothing else is said."""
    (made.folder / "run.py").write_text(GOLDEN_LINE.replace("1.5", "5.0") + "import time; time.sleep(9)")
    made.seal()
    monkeypatch.setattr(module, "LEAST_ANSWER_S", 0.1)
    with pytest.raises(SqueezeEdgeError, match=r"no answer in 0\.5 s"):
        with open_session(made.folder, TARGET, "fake", BOARD) as session:
            session.run(made.images)


@pytest.mark.slow
def test_a_script_that_does_not_end(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has answered is kept."""
    script = GOLDEN_LINE + answer_line() + "import time; time.sleep(99)"
    (made.folder / "run.py").write_text(script)
    made.seal()
    monkeypatch.setattr(module, "CLOSING_S", 0.2)
    with open_session(made.folder, TARGET, "fake", BOARD) as session:
        assert session.run(made.images[:1]).sums.tolist() == [[1, 2, 3, 4]]
    nothing_is_left(board.home)


@pytest.mark.slow
def test_more_than_a_pipe_holds(made: FakeArtifact, board: FakeBoard) -> None:
    """Images and answers go both ways at once."""
    many = np.resize(made.images, (600, *made.images.shape[1:]))
    with open_session(made.folder, TARGET, "fake", BOARD) as session:
        np.testing.assert_array_equal(session.run(many).sums, fake_sums(many))


PARENT = """
import signal, sys, threading, os
from pathlib import Path
from squeezeedge.targets.session import open_session
from tests.targets.device.target import TARGET
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)
with open_session(Path(sys.argv[1]), TARGET, "fake", "user@board") as session:
    print("open", flush=True)
    if sys.argv[2] == "idle":
        sys.stdin.read()
    session.run(np.zeros((1, 6, 5, 3), np.uint8))
"""


ENDS = [(number, state) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL) for state in ("busy", "idle")]


@pytest.mark.slow
@pytest.mark.parametrize("case", ENDS, ids=lambda case: f"{case[0].name}-{case[1]}")
def test_nothing_stays_behind(
    made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch, case: tuple[signal.Signals, str]
) -> None:
    """Neither ssh nor the script, though its device hangs."""
    number, state = case
    monkeypatch.setenv("FAKE_FAULT", "hangs")
    command = [sys.executable, "-c", PARENT, str(made.folder), state]
    pipe, checkout = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=checkout) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(5)
        nothing_is_left(board.home)


def nothing_is_left(folder: Path) -> None:
    """No process works there any more, at least after some seconds."""
    deadline = time.monotonic() + 5
    while left := _processes(str(folder)):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _processes(text: str) -> list[str]:
    """Command lines of those that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str((entry / "cwd").readlink()).startswith(text):
                found.append((entry / "cmdline").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ("unavailable", UnavailableError, "board user@board: there is no FAKE device; plug it in"),
        ("near", GateError, "board user@board: 12 class sums differ from the golden ones"),
        ("broken", SqueezeEdgeError, "board user@board: the FAKE device is on fire"),
    ],
)
def test_failures_on_a_board(
    made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type, text: str
) -> None:
    monkeypatch.setenv("FAKE_FAULT", fault)
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        sums(made, BOARD)
    assert type(caught.value) is kind


def test_a_board_that_ends_between_images(
    made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAULT", "breaks")
    text = "board user@board: the FAKE device is on fire"
    with pytest.raises(SqueezeEdgeError, match=text), open_session(made.folder, TARGET, "fake", BOARD) as session:
        assert len(session.run(made.images).sums) == 3
        for _ in range(2):
            with pytest.raises(SqueezeEdgeError, match=text):
                session.run(made.images[:1])


GOLDEN_LINE = """print('{"golden": 3, "differing_sums": 0, "latency_ms": 1.5}', flush=True)\n"""


def answer_line(**changes: object) -> str:
    """What prints the answer to one image, changed."""
    line = {"image": "-", "sums": [1, 2, 3, 4], "index": 0, "latency_ms": 1.5, "fake_ms": 1, **changes}
    kept = {key: value for key, value in line.items() if value is not None}
    return f"print({json.dumps(json.dumps(kept))}, flush=True)\n"


def answer(**changes: object) -> str:
    """A script that answers one image."""
    return GOLDEN_LINE + answer_line(**changes)


def golden(**changes: object) -> str:
    """A script that checks the golden inputs."""
    line = {"golden": 3, "differing_sums": 0, "latency_ms": 1.5, **changes}
    return f"print({json.dumps(json.dumps(line))})"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("print('hello')", "answered something else than run.py prints: no check of the golden inputs"),
        ("""print('{"golden"')""", "answered something else"),
        ("""print('{"golden": ' + '[' * 100000)""", "answered something else"),
        ("""print('{"golden": ' + ' ' * (1 << 25))""", "a line of more than 16777216 bytes"),
        (golden(golden=2), "2 golden inputs, not 3"),
        (golden(golden=3.0), r"3\.0 golden inputs, not 3"),
        (golden(differing_sums=None), "differing_sums is None"),
        (golden(differing_sums=13), "differing_sums is 13"),
        (golden(differing_sums=0.5), r"differing_sums is 0\.5"),
        (golden(differing_sums=1, largest_error="0"), "largest_error is '0'"),
        (golden(differing_sums=1, largest_error=-1), "largest_error is -1"),
        (golden(differing_sums=1), "user@board: 1 class sums differ from the golden ones$"),
        (golden(latency_ms=0), "latency_ms is 0"),
        (golden(gpu=float("nan")), "NaN is not JSON"),
        (GOLDEN_LINE, "answered 0 of 1 images and ended"),
        (answer(sums=[1, 2, 3]), "the sums of image 0 are not those of 4 classes"),
        (answer(sums=7), "the sums of image 0 are not those of 4 classes"),
        (answer(sums=None), "the sums of image 0 are not those of 4 classes"),
        (answer(sums=[1, 2, 3, 4.0]), "a sum of image 0 is not an int32"),
        (answer(sums=[1, 2, 3, True]), "a sum of image 0 is not an int32"),
        (answer(sums=[1, 2, 3, 2**31]), "a sum of image 0 is not an int32"),
        (answer(index=1), "index 1 for image 0"),
        (answer(index=None), "index None for image 0"),
        (answer(latency_ms=None), "latency_ms is None"),
        (answer(latency_ms=0), "latency_ms is 0"),
        (answer(latency_ms=10**400), r"latency_ms is 10+$"),
        (answer(latency_ms=float("nan")), "NaN is not JSON"),
        (answer(latency_ms=float("inf")), "Infinity is not JSON"),
        (answer().replace("1.5,", "1e999,"), "1e999 is not JSON"),
        (answer(fake_ms=-1), "fake_ms is -1"),
        (answer(fake_ms="1"), "fake_ms is '1'"),
    ],
)  # fmt: skip
def test_strange_answers(made: FakeArtifact, script: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one is one error that names the board, at every try; the script is started here, without a shell."""
    monkeypatch.setattr(Remote, "place", lambda *_: "")
    monkeypatch.setattr(Remote, "logged_in", lambda *_, **__: [sys.executable, "-IS", "-c", script])
    fails_twice(made, text)


def fails_twice(made: FakeArtifact, text: str) -> None:
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        with open_session(made.folder, TARGET, "fake", BOARD) as session:
            with pytest.raises(SqueezeEdgeError, match=text):
                session.run(made.images[:1])
            session.run(made.images[:1])
    assert str(caught.value).startswith("board user@board: ")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (answer(index=1), "index 1 for image 0"),
        ("raise SystemExit(127)", r"exit code 127 \(Python 3\.8 or later with numpy is needed there, as python3\)"),
        ("import sys; sys.exit('run.py: error: this\\nbye')", "user@board: this$"),
        ("raise SystemExit(255)", "exit code 1$"),
        ("import os; os.kill(os.getpid(), 9)", r"ended by SIGKILL; is the board's memory full\?$"),
        ("import os; os.kill(os.getpid(), 11)", "the program there was ended by SIGSEGV$"),
        ("import sys; sys.exit('sudo: a password is required')", "this needs root: log in as root or allow sudo"),
        ("raise SystemExit(9)", "exit code 9"),
    ],
)  # fmt: skip
def test_scripts_that_fail(made: FakeArtifact, board: FakeBoard, script: str, text: str) -> None:
    (made.folder / "run.py").write_text(script)
    made.seal()
    fails_twice(made, text)


def test_an_answer_that_comes_twice_or_not(made: FakeArtifact, board: FakeBoard) -> None:
    """No image gets another one's answer."""
    (made.folder / "run.py").write_text(answer() + answer_line() + answer_line(index=2))
    made.seal()
    with pytest.raises(SqueezeEdgeError, match="index 0 for image 1"):
        with open_session(made.folder, TARGET, "fake", BOARD) as session:
            session.run(made.images[:1])
            session.run(made.images[:1])


@pytest.mark.slow
def test_as_root(made: FakeArtifact, board: FakeBoard) -> None:
    """The login is root already, or sudo is asked without a password."""
    target = FakeTarget()
    target.needs_root = True
    (board.programs / "id").write_text("#!/bin/sh\n# FAKE id\necho 1000\n")
    (board.programs / "id").chmod(0o755)
    assert sums(made, BOARD, cast(Target, target)) == made.sums.tolist()
    (board.programs / "sudo").write_text("#!/bin/sh\n# FAKE sudo\necho 'sudo: a password is required' >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match=r"sudo: a password is required \(this needs root: log in"):
        sums(made, BOARD, cast(Target, target))


@pytest.mark.slow
@pytest.mark.tool
def test_over_a_real_ssh(made: FakeArtifact, loopback: Path) -> None:
    many = np.resize(made.images, (300, *made.images.shape[1:]))
    name = f"{getpass.getuser()}@loopback"
    for _ in range(2):
        with open_session(made.folder, TARGET, "fake", name) as session:
            for images in (made.images, many):
                np.testing.assert_array_equal(session.run(images).sums, fake_sums(images))
    assert loopback.read_text().count("Accepted publickey") == 3 + 2, "the second session finds the files"
    with pytest.raises(GateError, match=r"board .*@loopback: 12 class sums differ"):
        np.savez(made.folder / "golden.npz", images=made.images, sums=made.sums + 1)
        made.seal()
        sums(made, name)


@pytest.mark.slow
@pytest.mark.tool
def test_nothing_stays_behind_over_a_real_ssh(
    made: FakeArtifact, loopback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = loopback.parents[1] / "home"
    with (home / ".profile").open("a") as profile:
        profile.write("export FAKE_FAULT=hangs\n")
    name = f"{getpass.getuser()}@loopback"
    command = [sys.executable, "-c", PARENT.replace("user@board", name), str(made.folder), "busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        time.sleep(0.5)
        assert _processes(str(home))
        process.terminate()
        assert process.wait(5) == 128 + signal.SIGTERM
        nothing_is_left(home)
