"""Artifacts on other machines, over a fake ssh and over a real one; the device is a few lines of numpy."""

from __future__ import annotations

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
from squeezeedge.targets.protocol import Target
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


def test_on_a_board(made: FakeArtifact, board: FakeBoard) -> None:
    (made.folder / "model.sqe").write_text("not needed there")
    made.seal()
    with open_session(made.folder, TARGET, "fake", BOARD) as session:
        parts = [session.run(made.images[:1]), session.run(made.images[1:]), session.run(made.images[:0])]
    np.testing.assert_array_equal(np.concatenate([part.sums for part in parts]), made.sums)
    assert parts[0].sums.dtype == np.int32 and parts[1].timings["fake_ms"].tolist() == [0.5, 1.0]
    assert parts[1].metrics == {"gain": 1, "fake": True, "fake_ms": 0.5}
    assert board.calls == ["ssh"] * 3, "a look, the copy, and one script for all images"
    (copied,) = (board.home / ".cache" / "squeezeedge").iterdir()
    assert {path.name for path in copied.iterdir()} == {
        *("run.py", "device.py", "manifest.json", "golden.npz", "weights.bin"),
    }


def test_files_are_copied_when_they_changed(made: FakeArtifact, board: FakeBoard) -> None:
    assert sums(made, BOARD) == made.sums.tolist()
    board.calls.clear()
    assert sums(made, BOARD) == made.sums.tolist()
    assert board.calls == ["ssh"] * 2, "the artifact is there already"
    (made.folder / "weights2.bin").write_text("FAKE")
    assert sums(made, BOARD) == made.sums.tolist(), "a file that the manifest does not list is sent"
    assert board.calls == ["ssh"] * 3
    (made.folder / "golden.npz").write_bytes(b"other")
    with pytest.raises(SqueezeEdgeError, match=r"golden\.npz: differs from its checksum"):
        sums(made, BOARD)
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


def test_a_copy_that_breaks_off_is_repeated(made: FakeArtifact, board: FakeBoard) -> None:
    tar = board.programs / "tar"
    tar.write_text("#!/bin/sh\n# FAKE tar\necho 'tar: no space left on device' >&2\nexit 2\n")
    tar.chmod(0o755)
    with pytest.raises(SqueezeEdgeError, match="board user@board: tar: no space left on device"):
        sums(made, BOARD)
    assert not list((board.home / ".cache" / "squeezeedge").iterdir())
    tar.unlink()
    assert sums(made, BOARD) == made.sums.tolist()


def test_a_board_that_is_not_reached(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=r"board root@unreachable: .*Connection refused \(ssh failed"):
        sums(made, "root@unreachable")
    with pytest.raises(UsageError, match="`board`: device fake-emulation runs on this machine only"):
        with open_session(made.folder, TARGET, "fake-emulation", BOARD):
            pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="ssh is not on the path"):
        sums(made, BOARD)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            "Warning: banner\nuser@board: Permission denied (publickey).\nlost connection",
            r"Permission denied \(publickey\)\. \(ssh failed; it must log in without a password: ssh-copy-id user@.*\)",
        ),
        (
            "No ED25519 host key is known for board\nHost key verification failed.",
            r"Host key verification failed\. \(ssh failed; log in once by hand to see its key: ssh user@board\)",
        ),
        ("ssh: Could not resolve hostname board: Name or service not known", r"ssh: .* not known \(ssh failed\)"),
        ("", r"exit code 255 \(ssh failed\)"),
    ],
)
def test_what_ssh_says(made: FakeArtifact, board: FakeBoard, said: str, text: str) -> None:
    """A password is only spoken of where ssh was refused."""
    (board.programs / "ssh").write_text(f"#!/bin/sh\n# FAKE ssh\ncat >&2 <<END\n{said}\nEND\nexit 255\n")
    with pytest.raises(UnavailableError, match=f"^board user@board: {text}$"):
        sums(made, BOARD)


def test_the_scripts_own_words_win(made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries print lines when they end, and shells when they start."""
    with (board.home / ".profile").open("a") as profile:
        profile.write("echo noise >&2; trap 'echo driver: goodbye >&2' EXIT\n")
    monkeypatch.setenv("FAKE_FAULT", "broken")
    with pytest.raises(SqueezeEdgeError, match=r"^board user@board: the FAKE device is on fire$"):
        sums(made, BOARD)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run.py", None),
        ("run.py", b""),
        ("run.py", b"import \xff"),
        ("device.py", b""),
        ("manifest.json", b"{"),
        ("golden.npz", None),
        ("weights.bin", b"x"),
    ],
)
def test_a_damaged_copy_is_repaired(made: FakeArtifact, board: FakeBoard, name: str, data: bytes | None) -> None:
    """Once: what fails again is an error."""
    assert sums(made, BOARD) == made.sums.tolist()
    (copy,) = (board.home / ".cache" / "squeezeedge").iterdir()
    (copy / name).unlink()
    if data is not None:
        (copy / name).write_bytes(data)
    board.calls.clear()
    assert sums(made, BOARD) == made.sums.tolist()
    assert board.calls == ["ssh"] * 4, "a look, the script, the copy, the script"
    assert list(copy.parent.iterdir()) == [copy] and (copy / name).read_bytes() == (made.folder / name).read_bytes()


def test_what_is_no_damage_is_not_repeated(
    made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sums(made, BOARD) == made.sums.tolist()
    monkeypatch.setenv("FAKE_FAULT", "broken")
    board.calls.clear()
    with pytest.raises(SqueezeEdgeError, match="on fire"):
        sums(made, BOARD)
    assert board.calls == ["ssh"] * 2


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_nothing_stays_behind(
    made: FakeArtifact, board: FakeBoard, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, state: str
) -> None:
    """Neither ssh nor the script, though its device hangs."""
    monkeypatch.setenv("FAKE_FAULT", "hangs")
    command = [sys.executable, "-c", PARENT, str(made.folder), state]
    pipe, checkout = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=checkout) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(5)
        deadline = time.monotonic() + 5
        while left := _processes(str(board.home)):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def _processes(text: str) -> list[str]:
    """Command lines of those that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str((entry / "cwd").readlink()).startswith(text):
                found.append((entry / "cmdline").read_text())
    return found


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "", "a b", "x;reboot", "$(x)", "a\nb"])
def test_names_that_are_no_board(made: FakeArtifact, board: FakeBoard, name: str) -> None:
    with pytest.raises(UsageError, match="must be user@host"):
        sums(made, name)
    assert not board.calls


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


def answer(**changes: object) -> str:
    """A script that answers one image, changed."""
    line = {"sums": [1, 2, 3, 4], "index": 0, "latency_ms": 1.5, "fake_ms": 1, **changes}
    kept = {key: value for key, value in line.items() if value is not None}
    return f"print('{{\"golden\": 1}}')\nprint({json.dumps(json.dumps(kept))})\n"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("print('hello')", "answered something else than run.py prints: no check of the golden inputs"),
        ("print('{')", "answered something else"),
        ("print('{' * 100000)", "answered something else"),
        ("""print('{"golden": 1}')""", "answered 0 of 1 images"),
        (answer(sums=[1, 2, 3]), "the sums of image 0 are not those of 4 classes"),
        (answer(sums=7), "the sums of image 0 are not those of 4 classes"),
        (answer(sums=[1, 2, 3, 4.0]), "a sum of image 0 is not an int32"),
        (answer(sums=[1, 2, 3, True]), "a sum of image 0 is not an int32"),
        (answer(sums=[1, 2, 3, 2**31]), "a sum of image 0 is not an int32"),
        (answer(index=1), "index 1 for image 0"),
        (answer(index=None), "index None for image 0"),
        (answer(latency_ms=None), "latency_ms is None"),
        (answer(latency_ms=0), "latency_ms is 0"),
        (answer(latency_ms=float("nan")), "latency_ms is nan"),
        (answer(latency_ms=float("inf")), "latency_ms is inf"),
        (answer(fake_ms=-1), "fake_ms is -1"),
        (answer(fake_ms="1"), "fake_ms is '1'"),
        ("raise SystemExit(127)", r"exit code 127 \(Python 3\.8 or later with numpy is needed there, as python3\)"),
        ("import sys; sys.exit('SyntaxError: future feature annotations is not defined')", "Python 3.8 or later"),
        ("import sys; sys.exit('run.py: error: this\\nbye')", "user@board: this$"),
        ("raise SystemExit(255)", r"exit code 255 \(ssh failed\)$"),
        ("import sys; sys.exit('sudo: a password is required')", "this needs root: log in as root or allow sudo"),
        ("raise SystemExit(9)", "exit code 9"),
    ],
)  # fmt: skip
def test_strange_answers(made: FakeArtifact, board: FakeBoard, script: str, text: str) -> None:
    """Every one is one error that names the board."""
    (made.folder / "run.py").write_text(script)
    made.seal()
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        with open_session(made.folder, TARGET, "fake", BOARD) as session:
            session.run(made.images[:1])
    assert str(caught.value).startswith("board user@board: ")


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
        deadline = time.monotonic() + 5
        while left := _processes(str(home)):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.mark.tool
def test_a_key_that_a_real_ssh_does_not_know(made: FakeArtifact, loopback: Path) -> None:
    (loopback.parent / "authorized_keys").write_text("")
    with pytest.raises(
        UnavailableError,
        match=r"board .*@loopback: .*Permission denied .*ssh failed; it must log in without a password",
    ):
        sums(made, f"{getpass.getuser()}@loopback")
