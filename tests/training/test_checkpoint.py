"""Checkpoints: read back by the package's own reader; whole or not there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build
from squeezeedge.training.checkpoint import write_checkpoint
from squeezeedge.training.recipe import load_recipe

RECIPE = load_recipe("digits")


def test_round_trip(tmp_path: Path) -> None:
    import json

    module = build("squeezenet1_1_digits", 3).half().float()
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, module, RECIPE, ["a", "b", "ü"])
    checkpoint = read_checkpoint(path)
    for name, tensor in module.state_dict().items():
        assert checkpoint.state[name].dtype == torch.float32
        assert torch.equal(checkpoint.state[name], tensor)
    assert checkpoint.metadata["network"] == "squeezenet1_1_digits"
    assert json.loads(checkpoint.metadata["labels"]) == ["a", "b", "ü"]
    assert Preprocessing.from_json(json.loads(checkpoint.metadata["preprocessing"])) == DIGITS
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_weights_make_the_same_file(tmp_path: Path) -> None:
    module = build("squeezenet1_1_digits", 3)
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, module, RECIPE, ["x", "y", "z"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SqueezeEdgeError, match=r"a\.safetensors: cannot be written: No space left"):
        write_checkpoint(tmp_path / "a.safetensors", build("squeezenet1_1_digits"), replace(RECIPE), [])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match="cannot be written: No such file"):
        write_checkpoint(tmp_path / "gone" / "a.safetensors", build("squeezenet1_1_digits"), RECIPE, [])
