"""Running on a board over ssh: fake ssh and scp on the path that work in a local folder, with the emulated pynq."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import squeezeedge
from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.vta import TARGET
from squeezeedge.targets.vta.board import run_on_board
from tests.targets.vta.board_artifact import write_board_artifact, write_manifest

FAKE_PYNQ = Path(__file__).parent / "fake_pynq"
CHECKOUT = Path(squeezeedge.__file__).parents[1]
BOARD = "root@pynq"

LOG = 'echo "{name} $*" >> {log}\n'

REFUSE = """
case "$*" in *unreachable*) echo "ssh: connect to host unreachable port 22: Connection refused" >&2; exit 255;; esac
"""

SSH = """
while [ "$1" = -o ]; do shift 2; done
shift
export XDG_CACHE_HOME="${{XDG_CACHE_HOME:-$HOME/.cache}}"
cd {home} && HOME={home} PYTHONPATH={checkout}:{pynq} exec sh -c "$*"
"""

SCP = """
while true; do case "$1" in -q) shift;; -o) shift 2;; *) break;; esac; done
for last; do :; done
while [ $# -gt 1 ]; do cp "$1" "{home}/${{last#*:}}" || exit 1; shift; done
"""


class Remote:
    """The fake board: its home folder and what ssh and scp were asked for."""

    def __init__(self, folder: Path, python: str) -> None:
        self.home = folder / "home"
        self.log = folder / "log"
        bin_folder = folder / "bin"
        for path in (self.home, bin_folder):
            path.mkdir(parents=True)
        values = {"home": self.home, "checkout": CHECKOUT, "pynq": FAKE_PYNQ, "log": self.log}
        for name, body in (("ssh", SSH), ("scp", SCP)):
            script = bin_folder / name
            text = f"#!/bin/sh\n# FAKE {name}: works in a local folder\n" + LOG + REFUSE.replace("{", "{{") + body
            script.write_text(text.format(name=name, **values))
            script.chmod(0o755)
        (self.home / ".profile").write_text(f'python3() {{ {python} "$@"; }}\n')
        self.path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[str]:
        """Names of the commands since the last look."""
        names = [line.split()[0] for line in self.log.read_text().splitlines() if line.startswith(("ssh ", "scp "))]
        self.log.unlink()
        return names


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    remote = Remote(tmp_path / "remote", sys.executable)
    monkeypatch.setenv("PATH", remote.path)
    return remote


Made = tuple[Path, NDArray[np.uint8], NDArray[np.int32]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    folder = tmp_path / "artifact"
    folder.mkdir()
    return folder, *write_board_artifact(folder)


def test_sums_and_latency(remote: Remote, made: Made) -> None:
    artifact, images, sums = made
    result = run_on_board(artifact, images, BOARD)
    np.testing.assert_array_equal(result.sums, sums)
    assert result.sums.dtype == np.int32
    assert result.latency_ms.shape == (len(images),)
    assert 0 < result.metrics["pack_ms"] < result.latency_ms.max()
    assert result.metrics["pynq"] == "emulated"
    assert remote.calls == ["ssh", "scp", "ssh", "scp", "ssh"]

    np.testing.assert_array_equal(run_on_board(artifact, images[::-1], BOARD).sums, sums[::-1])
    assert remote.calls == ["ssh", "scp", "ssh"], "the artifact is there already"
    (folder,) = (remote.home / ".cache" / "squeezeedge").iterdir()
    assert not (folder / "model.sqe").exists()

    (artifact / "vta.hwh").write_text("<FAKE again/>")
    write_manifest(artifact)
    run_on_board(artifact, images, BOARD)
    assert len(remote.calls) == 5, "a changed artifact is copied"


def test_no_bitstream(remote: Remote, made: Made) -> None:
    artifact, images, _ = made
    (artifact / "vta.hwh").unlink()
    with pytest.raises(UnavailableError, match=r"vta\.hwh: missing"):
        run_on_board(artifact, images, BOARD)
    (artifact / "vta.bit").unlink()
    with pytest.raises(UnavailableError, match="no bitstream; compile with --bitstream"):
        run_on_board(artifact, images, BOARD)
    assert not remote.log.exists()


def test_no_board(remote: Remote, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, images, _ = made
    with pytest.raises(UnavailableError, match="--board user@host") as caught:
        TARGET.run(artifact, images, "vta")
    assert caught.value.exit_code == 3
    with pytest.raises(UnavailableError, match=r"board root@unreachable: .*Connection refused \(ssh failed"):
        run_on_board(artifact, images, "root@unreachable")
    monkeypatch.setenv("EMULATED_FAULT", "no-device")
    with pytest.raises(UnavailableError, match=r"board root@pynq: .*No Devices Found"):
        run_on_board(artifact, images, BOARD)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="ssh is not on the path"):
        run_on_board(artifact, images, BOARD)


@pytest.mark.parametrize("board", ["-oProxyCommand=x", "", "a b", "x;reboot", "$(x)"])
def test_names_that_are_no_board(remote: Remote, made: Made, board: str) -> None:
    with pytest.raises(UsageError, match="must be user@host"):
        run_on_board(made[0], made[1], board)
    assert not remote.log.exists()


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [("wrong", GateError, r"board root@pynq: \d+ class sums differ"), ("hang", SqueezeEdgeError, "did not finish")],
)
def test_a_failing_board(
    remote: Remote, made: Made, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[SqueezeEdgeError], text: str
) -> None:
    monkeypatch.setenv("EMULATED_FAULT", fault)
    script = made[0] / "run.py"
    script.write_text(script.read_text().replace('"--timeout", type=float, default=10', '"--timeout", default=0.1'))
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        run_on_board(made[0], made[1], BOARD)
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
def test_strange_answers(remote: Remote, made: Made, script: str, text: str) -> None:
    (made[0] / "run.py").write_text(script)
    with pytest.raises(SqueezeEdgeError, match=text):
        run_on_board(made[0], made[1], BOARD)


def test_a_copy_that_breaks_off_is_repeated(remote: Remote, made: Made) -> None:
    artifact, images, sums = made
    scp = Path(remote.path.split(os.pathsep)[0]) / "scp"
    script = scp.read_text()
    scp.write_text("#!/bin/sh\necho 'scp: Connection closed' >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match=r"Connection closed \(scp failed"):
        run_on_board(artifact, images, BOARD)
    scp.write_text(script)
    np.testing.assert_array_equal(run_on_board(artifact, images, BOARD).sums, sums)
