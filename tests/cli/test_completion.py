"""What a shell offers, asked as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from squeezeedge.cli import app, completion
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


def test_every_option_of_known_values_offers_them() -> None:
    """Whatever command has it."""
    offered = {
        "target": "cpu",
        "isa": "avx2",
        "arch": "sm_90",
        "soc_version": "Ascend310P3",
        "config": "pynq-z2",
        "instructions": "published",
        "rounding": "fused",
        "recipe": "digits",
        "network": "squeezenet1_1",
        "device": "cpu",
        "effort": "best",
        "channel_order": "bgr",
        "interpolation": "lanczos",
        "data": "digits",
        "calib": "digits",
    }
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    met = set()
    for name, command in group.commands.items():
        for option in command.params:
            if option.param_type_name == "option" and option.name in offered:
                complete: Any = option._custom_shell_complete
                assert complete is not None, f"{name} --{option.name}"
                values = [item.value for item in complete(None, None, "")]
                assert offered[option.name] in values, f"{name} --{option.name}"
                met.add(option.name)
    assert met == set(offered)


def test_what_compare_and_artifacts_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net-cpu").mkdir()
    (tmp_path / "net.sqe").touch()
    assert completion.folders("net") == ["net-cpu/"]
    assert completion.images("net") == ["net-cpu/", "net.sqe"]
    assert completion.sides("o") == ["oracle", "onnx"] and completion.sides("vta-") == ["vta-sim"]
    assert completion.data_sets("") == ["digits", "net-cpu/", "net.sqe"]
