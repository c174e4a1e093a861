"""Running on a board over ssh: fake ssh and scp on the path that work in a local folder, with the emulated pynq."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import GateError, SqueezeEdgeError, UnavailableError
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.protocol import RunResult
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.remote import COPIES
from squeezeedge.targets.session import open_session
from squeezeedge.targets.trace import Place, Trace
from squeezeedge.targets.vta.isa.program import read_program
from tests.targets.devices import FakeBoard
from tests.targets.vta.board_artifact import write_board_artifact, write_manifest

TARGET = get_target("vta")
FAKE_PYNQ = Path(__file__).parent / "fake_pynq"
BOARD = "root@pynq"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return FakeBoard(tmp_path / "remote", monkeypatch, [FAKE_PYNQ], TMPDIR=tmp_path)


def on_board(artifact: Path, images: NDArray[np.uint8], board: str = BOARD) -> RunResult:
    with open_session(artifact, TARGET, "vta", board) as session:
        return session.run(images)


Made = tuple[Path, NDArray[np.uint8], NDArray[np.int32]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    folder = tmp_path / "artifact"
    folder.mkdir()
    return folder, *write_board_artifact(folder)


def test_sums_and_latency(remote: FakeBoard, made: Made) -> None:
    """The board is set up once for all images."""
    artifact, images, sums = made
    with open_session(artifact, TARGET, "vta", BOARD) as session:
        parts = [session.run(images[:1]), session.run(images[1:])]
    np.testing.assert_array_equal(np.concatenate([part.sums for part in parts]), sums)
    assert remote.calls == ["ssh"] * 3
    result = parts[-1]
    assert result.sums.dtype == np.int32
    assert result.latency_ms.shape == (len(images) - 1,)
    assert 0 < result.metrics["pack_ms"] < result.latency_ms.max()
    assert result.metrics["pynq"] == "emulated"
    (folder,) = (remote.home / COPIES).iterdir()
    assert {path.name for path in folder.iterdir()} == {
        *("run.py", "device.py", "manifest.json", "golden.npz", "SHA256SUMS"),
        *("program.json", "dram.bin", "vta.bit", "vta.hwh"),
    }


@pytest.mark.slow
def test_tensors_in_the_board_s_memory(remote: FakeBoard, made: Made) -> None:
    artifact, images, sums = made
    program = read_program(Artifact(artifact))
    region, packing = program.region(program.packings[0].region), program.packings[0]
    shape, row = Shape(packing.height, packing.width, packing.block), packing.width * packing.block
    place = Place("patches", 0, shape, ((region.offset, packing.block),), row, packing.block, 128)
    Trace("conv", (place,), {"other": "it stays on the chip"}).write(artifact)
    write_manifest(artifact)
    with open_session(artifact, TARGET, "vta", BOARD, trace=True) as session:
        found, unseen = dict(session.trace(images[0])), session.unseen()
    packed = program.host().packings[0].pack(images[0]).reshape(-1, *shape)
    np.testing.assert_array_equal(found["patches"], packed[0] ^ 128)
    np.testing.assert_array_equal(found["conv"], sums[0])
    assert unseen == {"other": "it stays on the chip"}


@pytest.mark.slow
def test_no_bitstream(remote: FakeBoard, made: Made) -> None:
    artifact, images, _ = made
    (artifact / "vta.hwh").unlink()
    write_manifest(artifact)
    with pytest.raises(UnavailableError, match=r"vta\.hwh: missing"):
        on_board(artifact, images)
    (artifact / "vta.bit").unlink()
    write_manifest(artifact)
    with pytest.raises(UnavailableError, match=rf"{artifact}/vta\.bit: no bitstream; compile with --bitstream"):
        on_board(artifact, images)
    assert not remote.calls, "the board is not reached"


@pytest.mark.slow
def test_no_board(remote: FakeBoard, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, images, _ = made
    with pytest.raises(UnavailableError, match="`board` user@host") as caught:
        TARGET.check_device("vta", None)
    assert caught.value.exit_code == 3
    with pytest.raises(UnavailableError, match="pynq is missing"), open_session(artifact, TARGET, "vta"):
        pass
    with pytest.raises(UnavailableError, match="`device` vta: no bitstream; compile with --bitstream"):
        TARGET.check_device("vta", BOARD, TARGET.options())
    with pytest.raises(UnavailableError, match=r"board root@unreachable: .*Connection refused \(ssh failed"):
        on_board(artifact, images, "root@unreachable")
    monkeypatch.setenv("EMULATED_FAULT", "no-device")
    with pytest.raises(UnavailableError, match=r"board root@pynq: .*No Devices Found"):
        on_board(artifact, images)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="ssh is not on the path"):
        on_board(artifact, images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [("wrong", GateError, r"board root@pynq: \d+ class sums differ"), ("hang", SqueezeEdgeError, "did not finish")],
)
def test_a_failing_board(
    remote: FakeBoard, made: Made, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[SqueezeEdgeError], text: str
) -> None:
    monkeypatch.setenv("EMULATED_FAULT", fault)
    script = made[0] / "device.py"
    script.write_text(script.read_text().replace("default=10.0", "default=0.1"))
    write_manifest(made[0])
    with pytest.raises(SqueezeEdgeError, match=text) as caught:
        on_board(made[0], made[1])
    assert type(caught.value) is kind
