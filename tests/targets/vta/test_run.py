"""run.py as a subprocess with the emulated pynq: a board whose accelerator is the simulator."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squeezeedge.targets.vta import run as board_script
from squeezeedge.targets.vta.hardware import HLS
from squeezeedge.targets.vta.isa.program import Packing
from squeezeedge.targets.vta.host import pack_input
from tests.targets.devices import CHECKOUT
from tests.targets.vta.board_artifact import CLASSES, SIZE, fake_bitstream, write_board_artifact, write_manifest

FAKE_PYNQ = Path(__file__).parent / "fake_pynq"


class Board:
    """An artifact on an emulated board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.sums = write_board_artifact(folder)

    def run(
        self, *arguments: object, pynq: bool = True, stdin: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        path = [str(CHECKOUT), *([str(FAKE_PYNQ)] if pynq else [])]
        with (stdin or Path(os.devnull)).open("rb") as stream:
            return subprocess.run(
                [sys.executable, str(self.folder / "run.py"), *map(str, arguments)],
                stdin=stream,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
            )

    def fails(self, code: int, text: str, *arguments: object, pynq: bool = True, **environment: str) -> str:
        """Run, expecting an exit code and one message that matches; returns stdout."""
        result = self.run(*arguments, pynq=pynq, **environment)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        assert re.fullmatch(f"run.py: error: .*{text}.*\n", result.stderr), result.stderr
        return result.stdout

    def change(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file; the manifest's checksums follow."""
        record = json.loads((self.folder / name).read_text())
        change(record)
        (self.folder / name).write_text(json.dumps(record))
        if name != "manifest.json":
            write_manifest(self.folder)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "artifact"
    folder.mkdir()
    return Board(folder)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_it_checks_itself(board: Board) -> None:
    result = board.run()
    assert result.returncode == 0, result.stderr
    (line,) = lines(result.stdout)
    assert {key: line[key] for key in ("golden", "differing_sums", "pynq")} == {
        "golden": 2,
        "differing_sums": 0,
        "pynq": "emulated",
    }
    assert 0 < line["pack_ms"] < line["latency_ms"]


def test_it_classifies(board: Board, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", board.images)
    Image.fromarray(board.images[0]).save(tmp_path / "x.png")
    result = board.run(tmp_path / "x.npy", tmp_path / "x.png", "--top", 2, "--sums")
    assert result.returncode == 0, result.stderr
    answers = lines(result.stdout)[1:]
    expected = [*board.sums, board.sums[0]]
    assert [answer["sums"] for answer in answers] == [sums.tolist() for sums in expected]
    assert [Path(answer["image"]).suffix for answer in answers] == [".npy"] * 3 + [".png"]
    for answer, sums in zip(answers, expected, strict=True):
        best = np.argsort(-sums)[:2].tolist()
        assert answer["classes"] == best
        assert answer["labels"] == [f"label {c}" for c in best]
        assert answer["logits"] == [float(sums[c]) / 2 for c in best]
        assert 0 < answer["pack_ms"] < answer["latency_ms"]


def test_arrays_from_the_standard_input(board: Board, tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    with stream.open("wb") as file:
        for part in (board.images[:1], board.images[1:]):
            np.save(file, part)
    result = board.run("-", "--sums", stdin=stream)
    assert result.returncode == 0, result.stderr
    assert [answer["sums"] for answer in lines(result.stdout)[1:]] == board.sums.tolist()
    stream.write_bytes(stream.read_bytes()[:-5])
    result = board.run("-", "--sums", stdin=stream)
    assert result.returncode == 1 and len(lines(result.stdout)) == 2
    assert re.fullmatch("run.py: error: .*\n", result.stderr), result.stderr


def test_another_bitstream(board: Board, tmp_path: Path) -> None:
    for name in ("vta.bit", "vta.hwh"):
        (board.folder / name).rename(tmp_path / name)
    board.fails(3, "no bitstream; compile with --bitstream")
    assert board.run("--bitstream", tmp_path / "vta.bit").returncode == 0
    (tmp_path / "vta.hwh").unlink()
    board.fails(3, r"vta\.hwh: missing", "--bitstream", tmp_path / "vta.bit")


def test_a_board_that_never_finishes(board: Board) -> None:
    address = "0x910000000"
    text = rf"did not finish in 0\.2 s \(control 0x1, count 0x7, program {address}, uop 0x[0-9a-f]+, .*configuration\?"
    assert board.fails(1, text, "--timeout", 0.2, EMULATED_FAULT="hang") == ""


def test_wrong_answers(board: Board) -> None:
    output = board.fails(4, r"\d+ class sums differ", EMULATED_FAULT="wrong")
    assert lines(output)[0]["differing_sums"] > 0


def test_no_board(board: Board) -> None:
    board.fails(3, "No Devices Found.*run as root on a board", EMULATED_FAULT="no-device")
    board.fails(3, "pynq is missing", pynq=False)


@pytest.mark.parametrize("size", [0, 1, 12, 30, 80, 500])
def test_truncated_bitstream(board: Board, tmp_path: Path, size: int) -> None:
    (tmp_path / "x.bit").write_bytes(fake_bitstream()[:size])
    (tmp_path / "x.hwh").write_text("<FAKE/>")
    board.fails(1, "x.bit: (truncated|not a bitstream)", "--bitstream", tmp_path / "x.bit")


@pytest.mark.parametrize("name", ["program.json", "dram.bin", "golden.npz", "vta.bit"])
def test_damaged_files(board: Board, name: str) -> None:
    path = board.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    board.fails(1, f"{name}: differs from its checksum")
    path.unlink()
    board.fails(3 if name == "vta.bit" else 1, name)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"files": 3}', "[" * 100_000])
def test_damaged_manifest(board: Board, text: str) -> None:
    (board.folder / "manifest.json").write_text(text)
    board.fails(1, r"manifest\.json: damaged")


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda record: record.pop("bases"), "bases"),
    (lambda record: record["bases"].pop("wgt"), "base address"),
    (lambda record: record.update(count="7"), "natural"),
    (lambda record: record.update(count=-1), "natural"),
    (lambda record: record.update(dram_bytes=1 << 40), "dram_bytes"),
    (lambda record: record.update(dram_bytes=16), "dram_bytes"),
    (lambda record: record["regions"][-1].update(size=1 << 30), "outside of the memory"),
    (lambda record: record["packings"][0].update(kernel=[3000, 3000]), "fit"),
    (lambda record: record["packings"][0].update(kernel=[1 << 62, 1 << 62]), "fit"),
    (lambda record: record["packings"][0].update(padding=[1 << 40, 1, 1, 1]), "fit"),
    (lambda record: record["packings"][0].update(stride=[9, 9]), "fit"),
    (lambda record: record["packings"][0].update(image=[]), "IndexError"),
    (lambda record: record["packings"][0].update(pad_value=[300, 0, 0]), "range"),
    (lambda record: record["packings"][0].update(block=0), "ZeroDivision"),
    (lambda record: record["packings"].clear(), "packings"),
    (lambda record: record["sums"].update(classes=1000), "sums"),
    (lambda record: record["sums"].update(planes=2), "sums"),
]


@pytest.mark.parametrize(("change", "text"), CHANGES)
def test_damaged_program(board: Board, change: Callable[[dict[str, Any]], object], text: str) -> None:
    board.change("program.json", change)
    with pytest.raises(ValueError, match=rf"program\.json: damaged .*{text}"):
        board_script.Program(board_script.Artifact(board.folder))


def test_a_damaged_program_is_one_message(board: Board) -> None:
    board.change("program.json", lambda record: record.pop("sums"))
    board.fails(1, r"program\.json: damaged .*sums.*copy the artifact again")


def test_images_of_another_shape(board: Board, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", board.images[:, 1:])
    board.fails(1, r"images must be uint8 \[N, 12, 10, 3\]", tmp_path / "x.npy")
    (tmp_path / "x.jpg").write_bytes(b"no image")
    board.fails(1, "cannot identify image file", tmp_path / "x.jpg")


@pytest.mark.parametrize(
    "packing",
    [
        Packing("x", SIZE, (3, 3), (2, 2), (0, 0, 0, 0), (1, 2, 3), 5, 4, 16),
        Packing("x", SIZE, (7, 7), (2, 2), (3, 3, 3, 3), (9, 8, 7), 6, 5, 16),
        Packing("x", SIZE, (2, 5), (1, 3), (1, 0, 0, 2), (0, 255, 128), 12, 3, 32),
        Packing("x", SIZE, (1, 1), (1, 1), (0, 0, 0, 0), (0, 0, 0), 12, 10, 16),
    ],
)
def test_packing_is_the_compilers(packing: Packing) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    script = board_script.Packing(vars(packing), {"x": slice(100, 100 + packing.size)})
    for image, expected in zip(images, pack_input(packing, images), strict=True):
        np.testing.assert_array_equal(script.pack(image), expected)


def test_sums_in_planes(board: Board) -> None:
    board.change("program.json", lambda record: record["sums"].update(planes=4))
    program = board_script.Program(board_script.Artifact(board.folder))
    values = np.arange(16, dtype="<i4") * 123_456_789
    planes = values.view(np.uint8).reshape(16, 4).transpose().reshape(-1)
    np.testing.assert_array_equal(program.sums(planes), values[:CLASSES])


def test_registers_are_those_of_the_hardware() -> None:
    text = (HLS / "vta.cpp").read_text()
    found = dict(re.findall(r"s_axilite port=(\w+) bundle=control offset=(\w+)", text))
    assert {name.removesuffix("_base"): int(offset, 16) for name, offset in found.items()} == board_script.REGISTERS


def test_it_is_python_3_8() -> None:
    ast.parse(Path(board_script.__file__).read_text(), feature_version=(3, 8))
