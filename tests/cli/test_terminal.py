"""What people see: every command that prints a table, in a terminal of 80 and of 120 columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.cli.output import emit_table, note
from squeezeedge.evaluation.reports import Beside, Report
from squeezeedge.networks.registry import NETWORKS
from squeezeedge.training.recipe import embedded_recipes
from tests.cli.conftest import Terminal
from tests.evaluation.sample import REPORT
from tests.quantization.networks import natural_images
from tests.test_loading import onnx_file


def _check(lines: list[str], terminal: Terminal, *names: str) -> None:
    """No line is too wide, and names are whole."""
    assert max(map(len, lines)) <= terminal.columns
    words = {word for line in lines for word in line.split()}
    assert words >= {*names}


def test_models(terminal: Terminal) -> None:
    _check(terminal("models"), terminal, *NETWORKS)


def test_recipes(terminal: Terminal) -> None:
    _check(terminal("recipes"), terminal, *embedded_recipes())


def test_targets(terminal: Terminal) -> None:
    _check(terminal("targets"), terminal, "ascend-emulation", "vta-sim", "processor")


LAYERS = ("first", "fire.squeeze", "fire.concat", "pool", "head")


def test_inspect(terminal: Terminal, program: Path) -> None:
    _check(terminal("inspect", program), terminal, *LAYERS, "zero", "shift")


def test_profile(terminal: Terminal, program: Path) -> None:
    lines = terminal("profile", program)
    _check(lines, terminal, "fire.concat+pool", "whole", "gemm", "dram")
    assert sum(line.startswith("fire.squeeze ") for line in lines) == (2 if terminal.columns == 80 else 1)


def test_eval(terminal: Terminal, program: Path) -> None:
    lines = terminal("eval", program, "--device", "vta-sim", "--data", program.parent / "images.npz")
    _check(lines, terminal, "vta-sim", "bit-exact", "(simulator)")
    assert not any("top-5" in line or "fp32" in line for line in lines if "not known" not in line), lines


@pytest.mark.usefixtures("embedded_once")
def test_validate(terminal: Terminal) -> None:
    _check(terminal("validate", "--limit", "4"), terminal, "squeezenet1_1_digits", "images/s", "4")


def test_quantize(terminal: Terminal, tmp_path: Path) -> None:
    weights = onnx_file(tmp_path / "own.onnx")
    np.savez(tmp_path / "images.npz", images=natural_images(4, (10, 10)))
    lines = terminal("quantize", weights, "--data", tmp_path / "images.npz", "-o", tmp_path / "net.sqe")
    _check(lines, terminal, "convolution", "weight")


def test_what_is_noted_is_broken_between_words(terminal: Terminal) -> None:
    words = [f"word{index}-and-more" for index in range(40)]
    lines = terminal.shows(lambda: note("/a/path" * 20 + " " + " ".join(words)))
    assert lines[0] == "/a/path" * 20 and max(map(len, lines[1:])) <= terminal.columns
    assert " ".join(lines).split()[1:] == words


def test_names_of_columns_are_bold(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ("title", ["name", "figure"], [["a", "1"]])
    assert terminal.shows(lambda: emit_table(*table))[:4] == ["title", "", "name  figure", "a          1"]
    assert terminal.raw.count(b"\x1b[1m") == 2
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.shows(lambda: emit_table(*table))
    assert b"\x1b" not in terminal.raw


def test_bench(terminal: Terminal, program: Path) -> None:
    lines = terminal("bench", program, "--device", "vta-sim", "--batch", "1,2")
    _check(lines, terminal, "vta-sim", "(simulator):", "cycles", "batch")
    assert not any(word in " ".join(lines) for word in ("p50", "p99"))


def test_verify(terminal: Terminal, program: Path) -> None:
    lines = terminal("verify", program, "--device", "vta-sim", "--no-rebuild")
    _check(lines, terminal, "checksums", "manifest", "vta-sim", "pass")


def test_classify(terminal: Terminal, program: Path, tmp_path: Path) -> None:
    with np.load(program.parent / "images.npz") as file:
        Image.fromarray(file["images"][0]).save(tmp_path / "a.png")
    lines = terminal("classify", program, tmp_path / "a.png", "--device", "vta-sim", "--top", "2")
    assert str(tmp_path / "a.png") in lines and sum(" %  " in line for line in lines) == 2


def test_several_devices(terminal: Terminal) -> None:
    beside = replace(REPORT, device="ascend-emulation", others={"vta-sim": Beside(99.5, 1, -0.5, (-2.0, 1.0))})
    lines = terminal.shows(lambda: emit_table(*Report("images/", (REPORT, beside)).pairs()))
    _check(lines, terminal, "ascend-emulation", "99.50", "-2.00..+1.00")
