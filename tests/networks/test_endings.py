"""Endings in any case, told without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from squeezeedge.networks.endings import CHECKPOINTS, FORMATS, ending_of


def test_importing_the_endings_loads_no_torch() -> None:
    code = "import sys, squeezeedge.networks.endings; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.pth", ".pth"), ("A.PTH", ".pth"), ("dir.x/a.b.ONNX", ".onnx"), ("model_best.pth.tar", ".tar"), ("a", "")],
)
def test_the_last_ending_in_lower_case(name: str, ending: str) -> None:
    assert ending_of(name) == ending


def test_an_onnx_file_is_more_than_a_checkpoint() -> None:
    assert set(FORMATS) == {*CHECKPOINTS, ".onnx"}
