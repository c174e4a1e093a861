"""The device program with an emulated pynq: a board whose accelerator is the simulator."""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.vta import device
from squeezeedge.targets.vta.isa.config_header import HLS
from squeezeedge.targets.vta.isa.program import Packing
from tests.targets.device.artifact import Outcome, run_here
from tests.targets.devices import CHECKOUT
from tests.targets.vta.board_artifact import CLASSES, fake_bitstream, write_board_artifact, write_manifest

FAKE_PYNQ = Path(__file__).parent / "fake_pynq"


class Board:
    """An artifact on an emulated board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.sums = write_board_artifact(folder)

    def run(self, *arguments: object, pynq: bool = True, stdin: bytes = b"", **environment: str) -> Outcome:
        return self._run(arguments, pynq, stdin, environment)

    def _run(self, arguments: Sequence[object], pynq: bool, stdin: bytes, environment: Mapping[str, str]) -> Outcome:
        environment = {"TMPDIR": str(self.folder.parent), **environment}
        modules = [FAKE_PYNQ] if pynq else []
        return run_here(self.folder, arguments, stdin=stdin, modules=modules, environment=environment)

    def fails(self, code: int, text: str, *arguments: object, pynq: bool = True, **environment: str) -> str:
        """Run, expecting an exit code and one message that matches; returns stdout."""
        outcome = self._run(arguments, pynq, b"", environment)
        outcome.fails(code, text)
        return outcome.stdout

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
    """As a program of its own."""
    path = os.pathsep.join([str(CHECKOUT), str(FAKE_PYNQ)])
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(board.folder.parent)}
    command = [sys.executable, str(board.folder / "run.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
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
    result = board.run(tmp_path / "x.npy", tmp_path / "x.png", "--top", 2, "--sums", "--check")
    assert result.returncode == 0, result.stderr
    golden, *answers = lines(result.stdout)
    assert golden["differing_sums"] == 0
    expected = [*board.sums, board.sums[0]]
    assert [answer["sums"] for answer in answers] == [sums.tolist() for sums in expected]
    assert [Path(answer["image"]).suffix for answer in answers] == [".npy"] * 3 + [".png"]
    for answer, sums in zip(answers, expected, strict=True):
        best = np.argsort(-sums)[:2].tolist()
        assert answer["classes"] == best
        assert answer["labels"] == [f"label {c}" for c in best]
        assert answer["logits"] == [float(sums[c]) / 2 for c in best]
        assert 0 < answer["pack_ms"] < answer["latency_ms"]


@pytest.mark.slow
def test_arrays_from_the_standard_input(board: Board, tmp_path: Path) -> None:
    file = io.BytesIO()
    for part in (board.images[:1], board.images[1:]):
        np.save(file, part)
    result = board.run("-", "--sums", stdin=file.getvalue())
    assert result.returncode == 0, result.stderr
    assert [answer["sums"] for answer in lines(result.stdout)] == board.sums.tolist()
    result = board.run("-", "--sums", stdin=file.getvalue()[:-5])
    assert result.returncode == 1 and len(lines(result.stdout)) == 1
    assert re.fullmatch("run.py: error: .*\n", result.stderr), result.stderr


@pytest.mark.slow
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


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "1e9"])
def test_what_is_no_time_out(seconds: str) -> None:
    """A board that never finishes would be waited for without an end."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    device.add_arguments(parser)
    with pytest.raises(argparse.ArgumentError, match="must be more than 0 and at most 86400 seconds"):
        parser.parse_args([f"--timeout={seconds}"])
    assert parser.parse_args(["--timeout=0.5"]).timeout == 0.5


@pytest.mark.slow
def test_wrong_answers(board: Board) -> None:
    output = board.fails(4, r"\d+ class sums differ", EMULATED_FAULT="wrong")
    assert lines(output)[0]["differing_sums"] > 0


@pytest.mark.slow
def test_no_board(board: Board) -> None:
    with mock.patch.object(os, "geteuid", lambda: 0):
        board.fails(
            3, r"No Devices Found; is it a PYNQ board, and the bitstream one for it\?", EMULATED_FAULT="no-device"
        )
    with mock.patch.object(os, "geteuid", lambda: 1000):
        board.fails(3, "No Devices Found; run as root", EMULATED_FAULT="no-device")
    board.fails(3, "pynq is missing", pynq=False)
    board.fails(3, "pynq emulated has no allocate; install pynq 2.5 or later", EMULATED_FAULT="old")


def test_too_little_contiguous_memory(board: Board, tmp_path: Path) -> None:
    """What is needed, what is there and how to have more; not that root is needed."""
    needed = device.Program.of(Artifact(board.folder)).dram_bytes
    need = f"the program needs {needed} bytes of contiguous memory \\(CMA\\), of which"
    more = r"\(Allocate failed\): end what else holds some, or raise it with cma=64M on the kernel's command line"
    board.fails(3, f"{need} (how many|\\d+ of \\d+ are free).*{more}", EMULATED_FAULT="memory")
    (tmp_path / "meminfo").write_text("MemTotal: 500000 kB\nCmaTotal:  131072 kB\nCmaFree:  16 kB\n")
    with mock.patch.object(device, "MEMORY_INFO", tmp_path / "meminfo"):
        text = device._too_little_memory(40 << 20, MemoryError("x"))
    assert "needs 41943040 bytes" in text and "16384 of 134217728 are free (x)" in text and "cma=128M" in text


def test_a_bitstream_of_another_geometry(board: Board) -> None:
    """It is not run, where its answers would only be wrong."""
    text = r"vta\.bit: the accelerator in it is 1\.\d+, the artifact is for 1\.\d+, of another geometry; .*--config"
    assert board.fails(1, text, EMULATED_BOARD="zcu104-block32") == ""


def test_two_at_once(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is told who uses the FPGA; when that has closed it, or has failed to open it, it is free."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setenv("SSH_CONNECTION", "192.168.2.1 5000 192.168.2.99 22")
    lock = device._claim()
    board.fails(3, f"the FPGA is in use by alice from 192.168.2.1, process {os.getpid()}; try again")
    os.close(lock)
    board.fails(3, "No Devices Found", EMULATED_FAULT="no-device")
    for _ in range(2):
        assert board.run().returncode == 0


def test_a_lock_that_cannot_be_had(board: Board, tmp_path: Path) -> None:
    """Nothing is written through a link."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / device.LOCK).symlink_to(tmp_path / "victim")
    board.fails(3, "squeezeedge-vta.lock: the FPGA can't be locked: .*; run as root", TMPDIR=str(tmp_path / "x"))
    assert not (tmp_path / "victim").exists()


def test_truncated_bitstream(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "x.bit"
    path.with_suffix(".hwh").write_text("<FAKE/>")
    for size in (0, 1, 12, 80, 500, 30):
        path.write_bytes(fake_bitstream()[:size])
        with pytest.raises(ValueError, match=r"x\.bit: (truncated|not a bitstream)"):
            device.check_bitstream(path)
    board.fails(1, "x.bit: (truncated|not a bitstream)", "--bitstream", path)


@pytest.mark.parametrize(
    "name",
    [
        "program.json",
        pytest.param("dram.bin", marks=pytest.mark.slow),
        pytest.param("golden.npz", marks=pytest.mark.slow),
        pytest.param("vta.bit", marks=pytest.mark.slow),
    ],
)
def test_damaged_files(board: Board, name: str) -> None:
    path = board.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    board.fails(1, f"{name}: differs from its checksum")
    path.unlink()
    board.fails(3 if name == "vta.bit" else 1, name)


DAMAGED = ["", "[]", "{", '{"files": 3}', "[" * 100_000]


def test_damaged_manifest(board: Board) -> None:
    for text in (*DAMAGED, "{}"):
        (board.folder / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json: damaged"):
            Artifact(board.folder)
    board.fails(1, r"manifest\.json: damaged")


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda record: record.pop("bases"), "bases"),
    (lambda record: record["bases"].pop("wgt"), "KeyError\\('wgt'\\)"),
    (lambda record: record.update(count="7"), "whole number"),
    (lambda record: record.update(count=-1), "whole number"),
    (lambda record: record.update(dram_bytes=1 << 40), "whole number"),
    (lambda record: record.update(dram_bytes=16), "whole number"),
    (lambda record: record["regions"][-1].update(size=1 << 27), "outside of the memory"),
    (lambda record: record["packings"][0].update(kernel=[3000, 3000]), "packing of"),
    (lambda record: record["packings"][0].update(kernel=[1 << 62, 1 << 62]), "whole number"),
    (lambda record: record["packings"][0].update(padding=[1 << 40, 1, 1, 1]), "whole number"),
    (lambda record: record["packings"][0].update(stride=[9, 9]), "fit"),
    (lambda record: record["packings"][0].update(image=[]), "not 2 numbers"),
    (lambda record: record["packings"][0].update(pad_value=[300, 0, 0]), r"in 0\.\.255"),
    (lambda record: record["packings"][0].update(block=0), "whole number"),
    (lambda record: record["packings"].clear(), "packings"),
    (lambda record: record["sums"].update(classes=1000), r"in 1\.\.16"),
    (lambda record: record["sums"].update(planes=2), "sums"),
    (lambda record: record["packings"][0].update(pad_value=1 << 40), "not 3 numbers"),
    (lambda record: record["packings"][0].update(pad_value=7), "not 3 numbers"),
    (lambda record: record["packings"][0].update(kernel=[3, 3.0]), "whole number"),
    (lambda record: record["packings"].extend(record["packings"] * 8), "too many packings"),
    (lambda record: record["packings"].extend(record["packings"]), "two packings of one region"),
    (lambda record: record.update(packings=[3]), "TypeError"),
    (lambda record: record["regions"][-1].update(fill=256), r"in 0\.\.255"),
    (lambda record: record["regions"][-1].update(name=[]), "unhashable"),
    (lambda record: record.update(regions=None), "TypeError"),
    (lambda record: record.update(bases=[]), "TypeError"),
    (lambda record: record["bases"].update(wgt=1 << 63), "whole number"),
    (lambda record: record.update(count=8), r"in 0\.\.7"),
    (lambda record: record["sums"].update(classes=4), "of another network"),
]


@pytest.mark.parametrize(("change", "text"), CHANGES)
def test_damaged_program(board: Board, change: Callable[[dict[str, Any]], object], text: str) -> None:
    board.change("program.json", change)
    with pytest.raises(ValueError, match=rf"program\.json: .*{text}.*copy the artifact again"):
        device.Program.of(Artifact(board.folder))


def test_a_damaged_program_is_one_message(board: Board) -> None:
    board.change("program.json", lambda record: record.pop("sums"))
    board.fails(1, r"program\.json: damaged .*sums.*copy the artifact again")


@pytest.mark.slow
def test_images_of_another_shape(board: Board, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", board.images[:, 1:])
    board.fails(1, r"images must be uint8 \[N, 12, 10, 3\]", tmp_path / "x.npy")
    (tmp_path / "x.jpg").write_bytes(b"no image")
    board.fails(1, "cannot identify image file", tmp_path / "x.jpg")


@settings(max_examples=30)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    block=st.sampled_from([16, 32]),
)
def test_patches(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], block: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    top, left, bottom, right = padding
    height, width = (6 + top + bottom - kernel[0]) // stride[0] + 1, (7 + left + right - kernel[1]) // stride[1] + 1
    packing = Packing("x", (6, 7), kernel, stride, padding, (1, 2, 250), height, width, block)
    host = device.Packing(vars(packing), {"x": slice(100, 100 + packing.size)})
    assert host.pack(np.zeros_like(image)).nbytes == packing.size
    packed = host.pack(image).view(np.int8).reshape(packing.blocks, height, width, block)
    for y in range(height):
        for x in range(width):
            for value in range(packing.blocks * block):
                tap, channel = divmod(value, 3)
                row, column = y * stride[0] - top + tap // kernel[1], x * stride[1] - left + tap % kernel[1]
                if tap >= kernel[0] * kernel[1]:
                    expected = 0
                elif 0 <= row < 6 and 0 <= column < 7:
                    expected = int(image[row, column, channel]) - 128
                else:
                    expected = (1, 2, 250)[channel] - 128
                assert packed[value // block, y, x, value % block] == expected


@pytest.mark.parametrize("planes", [1, 4])
def test_sums(board: Board, planes: int) -> None:
    board.change("program.json", lambda record: record["sums"].update(planes=planes))
    program = device.Program.of(Artifact(board.folder))
    values = np.zeros(16, "<i4")
    values[:CLASSES] = [0, -1, 2**31 - 1, -(2**31), 0x01020304]
    data = values.view(np.uint8).reshape(16, 4)
    region = (data if planes == 1 else data.transpose()).reshape(-1)
    np.testing.assert_array_equal(program.sums(region), values[:CLASSES])
    memory = np.zeros(program.dram_bytes, np.uint8)
    memory[program.sums_region] = region
    np.testing.assert_array_equal(program.result(memory), values[:CLASSES])


def test_registers_are_those_of_the_hardware() -> None:
    text = (HLS / "vta.cpp").read_text()
    found = dict(re.findall(r"s_axilite port=(\w+) bundle=control offset=(\w+)", text))
    assert {name.removesuffix("_base"): int(offset, 16) for name, offset in found.items()} == device.REGISTERS


def test_it_is_python_3_8() -> None:
    ast.parse(Path(device.__file__).read_text(), feature_version=(3, 8))
