"""Running on a board over ssh: fake ssh and scp on the path that work in a local folder, with the emulated pynq."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.protocol import RunResult
from squeezeedge.targets.vta import TARGET
from tests.targets.devices import FakeBoard, answers
from tests.targets.vta.board_artifact import write_board_artifact, write_manifest

FAKE_PYNQ = Path(__file__).parent / "fake_pynq"
BOARD = "root@pynq"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return FakeBoard(tmp_path / "remote", monkeypatch, [FAKE_PYNQ])


def on_board(artifact: Path, images: NDArray[np.uint8], board: str = BOARD) -> RunResult:
    return answers(TARGET, artifact, images, "vta", board)


Made = tuple[Path, NDArray[np.uint8], NDArray[np.int32]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    folder = tmp_path / "artifact"
    folder.mkdir()
    return folder, *write_board_artifact(folder)


def test_sums_and_latency(remote: FakeBoard, made: Made) -> None:
    artifact, images, sums = made
    result = on_board(artifact, images)
    np.testing.assert_array_equal(result.sums, sums)
    assert result.sums.dtype == np.int32
    assert result.latency_ms.shape == (len(images),)
    assert 0 < result.metrics["pack_ms"] < result.latency_ms.max()
    assert result.metrics["pynq"] == "emulated"
    assert remote.calls == ["ssh", "scp", "ssh", "ssh"]

    np.testing.assert_array_equal(on_board(artifact, images[::-1]).sums, sums[::-1])
    assert remote.calls == ["ssh", "ssh"], "the artifact is there already"
    (folder,) = (remote.home / ".cache" / "squeezeedge").iterdir()
    assert not (folder / "model.sqe").exists()

    (artifact / "vta.hwh").write_text("<FAKE again/>")
    write_manifest(artifact)
    on_board(artifact, images)
    assert len(remote.calls) == 4, "a changed artifact is copied"


def test_the_board_is_set_up_once(remote: FakeBoard, made: Made) -> None:
    artifact, images, sums = made
    with TARGET.open(artifact, "vta", BOARD) as run:
        parts = [run(images[:1]), run(images[1:])]
    np.testing.assert_array_equal(np.concatenate([part.sums for part in parts]), sums)
    assert remote.calls == ["ssh", "scp", "ssh", "ssh"]
    assert parts[-1].metrics["pack_ms"] > 0


def test_a_board_that_ends_between_images(remote: FakeBoard, made: Made) -> None:
    artifact, images, _ = made
    script = artifact / "run.py"
    end = "if len(results[0]) == 2: sys.exit(1)"
    script.write_text(script.read_text().replace("for index, (", f"{end}\n    for index, (", 1))
    with (
        pytest.raises(SqueezeEdgeError, match="board root@pynq: exit code 1"),
        TARGET.open(artifact, "vta", BOARD) as run,
    ):
        assert len(run(images[:1]).sums) == 1
        for _ in range(2):
            with pytest.raises(SqueezeEdgeError, match="board root@pynq: exit code 1"):
                run(images[:2])


def test_no_bitstream(remote: FakeBoard, made: Made) -> None:
    artifact, images, _ = made
    (artifact / "vta.hwh").unlink()
    with pytest.raises(UnavailableError, match=r"vta\.hwh: missing"):
        on_board(artifact, images)
    (artifact / "vta.bit").unlink()
    with pytest.raises(UnavailableError, match="no bitstream; compile with --bitstream"):
        on_board(artifact, images)
    assert not remote.calls


def test_no_board(remote: FakeBoard, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, images, _ = made
    with pytest.raises(UnavailableError, match="--board user@host") as caught:
        answers(TARGET, artifact, images, "vta")
    assert caught.value.exit_code == 3
    with pytest.raises(UnavailableError, match=r"board root@unreachable: .*Connection refused \(ssh failed"):
        on_board(artifact, images, "root@unreachable")
    monkeypatch.setenv("EMULATED_FAULT", "no-device")
    with pytest.raises(UnavailableError, match=r"board root@pynq: .*No Devices Found"):
        on_board(artifact, images)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="ssh is not on the path"):
        on_board(artifact, images)


@pytest.mark.parametrize("board", ["-oProxyCommand=x", "", "a b", "x;reboot", "$(x)"])
def test_names_that_are_no_board(remote: FakeBoard, made: Made, board: str) -> None:
    with pytest.raises(UsageError, match="must be user@host"):
        on_board(made[0], made[1], board)
    assert not remote.calls


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [("wrong", GateError, r"board root@pynq: \d+ class sums differ"), ("hang", SqueezeEdgeError, "did not finish")],
)
def test_a_failing_board(
    remote: FakeBoard, made: Made, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[SqueezeEdgeError], text: str
) -> None:
    monkeypatch.setenv("EMULATED_FAULT", fault)
    script = made[0] / "run.py"
    script.write_text(script.read_text().replace('"--timeout", type=float, default=10', '"--timeout", default=0.1'))
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        on_board(made[0], made[1])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("print('hello')", "answered something else"),
        ("print('{')", "answered something else"),
        ("""print('{"golden": 1, "pynq": "x"}')""", "answered 0 of 3 images"),
        ("import sys; sys.exit('sudo: a password is required')", "this needs root"),
        ("raise SystemExit(9)", "exit code 9"),
    ],
)
def test_strange_answers(remote: FakeBoard, made: Made, script: str, text: str) -> None:
    (made[0] / "run.py").write_text(script)
    with pytest.raises(SqueezeEdgeError, match=text):
        on_board(made[0], made[1])


def test_a_copy_that_breaks_off_is_repeated(remote: FakeBoard, made: Made) -> None:
    artifact, images, sums = made
    scp = remote.programs / "scp"
    script = scp.read_text()
    scp.write_text("#!/bin/sh\necho 'scp: Connection closed' >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match=r"Connection closed \(scp failed"):
        on_board(artifact, images)
    scp.write_text(script)
    np.testing.assert_array_equal(on_board(artifact, images).sums, sums)
