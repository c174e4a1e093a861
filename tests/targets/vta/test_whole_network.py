"""Whole trained networks, from the command line to the emulated board (FAKE pynq: the simulator behind registers)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from squeezeedge.cli import app
from tests.graph.networks import ResNet18, resnet18_onnx
from tests.targets.devices import CHECKOUT, FakeBoard
from tests.targets.vta.board_artifact import fake_bitstream
from tests.targets.vta.test_board import BOARD

FAKE_PYNQ = Path(__file__).parent / "fake_pynq"


def command(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def compiled(folder: Path, *arguments: str | Path) -> Path:
    """An artifact with a (fake) bitstream."""
    bit = folder / "board.bit"
    bit.write_bytes(fake_bitstream())
    bit.with_suffix(".hwh").write_text("<FAKE/>")
    out = folder / "artifact"
    command("compile", *arguments, "--target", "vta", "--bitstream-file", bit, "-o", out)
    return out


@pytest.fixture(autouse=True)
def folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each test: there lies what says that the FPGA is in use."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def check_on_the_board(artifact: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(artifact / "run.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{FAKE_PYNQ}"},
    )
    assert result.returncode == 0, result.stderr
    line = json.loads(result.stdout)
    assert line["golden"] == 4 and line["differing_sums"] == 0 and line["pynq"] == "emulated"


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["extended", "published"])
def test_embedded_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instructions: str) -> None:
    artifact = compiled(tmp_path, "--instructions", instructions, "--calib-images", "8")
    check_on_the_board(artifact)
    simulated = json.loads(command("eval", artifact, "--device", "vta-sim", "--limit", "8", "--json"))
    assert simulated["bit_exact"] is True and simulated["kind"] == "simulator"
    if instructions == "published":
        return  # the same to the host

    FakeBoard(tmp_path / "remote", monkeypatch, [FAKE_PYNQ])
    answer = json.loads(command("eval", artifact, "--device", "vta", "--board", BOARD, "--limit", "8", "--json"))
    assert answer["bit_exact"] is True and answer["device"] == "vta" and answer["pynq"] == "emulated"
    assert answer["top1"] == simulated["top1"]


@pytest.mark.slow
def test_resnet_18_from_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    writer = resnet18_onnx(ResNet18(16, 10), (64, 64))
    onnx.save(writer.model(writer.nodes[-1].output[0]), tmp_path / "resnet18.onnx")
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(12) % 10)
    data = ("--data", tmp_path / "images.npz", "--calib-images", "8")
    for instructions in ("extended", "published"):
        report = json.loads(
            command(
                "eval",
                tmp_path / "resnet18.onnx",
                *data,
                "--device",
                "vta-sim",
                "--instructions",
                instructions,
                "--json",
            )
        )
        assert report["bit_exact"] is True and report["images"] == 4 and report["instructions"] == instructions


@pytest.mark.slow
@pytest.mark.shared
def test_imagenet_network(tmp_path: Path, shared_file: Callable[[str], Path]) -> None:
    weights, data = shared_file("weights/squeezenet1_0-imagenet.pth"), shared_file("data/imagenet700.tar")
    artifact = compiled(tmp_path, "squeezenet1_0", "--weights", weights, "--data", data, "--calib-images", "8")
    check_on_the_board(artifact)
    arguments = ("--device", "vta-sim", "--weights", weights, "--data", data, "--limit", "2", "--json")
    report = json.loads(command("eval", artifact, *arguments))
    assert report["bit_exact"] is True and report["kind"] == "simulator"
    assert report["gemm_utilization"] >= 0.9 and report["cycles"] > 0
    assert json.loads((artifact / "manifest.json").read_text())["files"]["dram.bin"]["bytes"] < 4 << 20
