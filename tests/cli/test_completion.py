"""What a shell offers, asked as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from squeezeedge.cli import completion
from squeezeedge.networks.registry import NETWORKS
from squeezeedge.targets.registry import all_targets
from squeezeedge.training.recipe import embedded_recipes


def test_values_are_those_that_the_commands_take() -> None:
    assert completion.targets("") == list(all_targets())
    assert completion.devices("vta") == ["vta", "vta-sim"]
    assert completion.networks("") == list(NETWORKS)
    assert set(completion.recipes("")) >= set(embedded_recipes())
    assert completion.one_of(["avx2", "neon"])("a") == ["avx2"]


def test_files_and_folders_are_offered_where_they_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "squeeze[1]").mkdir()
    (tmp_path / "squeeze.onnx").touch()
    assert completion.models("squeeze[") == ["squeeze[1]/"]
    assert completion.models("squeeze")[-2:] == ["squeeze.onnx", "squeeze[1]/"]
    assert completion.models(f"{tmp_path}/squeeze.") == [f"{tmp_path}/squeeze.onnx"]


def test_a_shell_is_answered_without_torch_and_tvm() -> None:
    code = """
import sys
from squeezeedge.cli import app
try:
    app(prog_name="squeezeedge")
finally:
    print([m for m in ("torch", "tvm", "onnx") if m in sys.modules])
"""
    words = {
        "_SQUEEZEEDGE_COMPLETE": "complete_bash",
        "COMP_WORDS": "squeezeedge compile --isa avx-",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["avx-vnni", "[]"], done.stderr
