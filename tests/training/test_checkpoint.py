"""Checkpoints: read back by the package's own reader; whole or not there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build
from squeezeedge.training.checkpoint import State, read_state, write_checkpoint, write_state
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


def _state() -> State:
    tensors = {
        "model.a": torch.arange(6.0).reshape(1, 2, 3, 1).to(memory_format=torch.channels_last),
        "b": torch.ones(()),
    }
    return State(tensors, {"epoch": 3, "loss": 0.1 + 0.2, "history": [{"ü": None}]})


def test_a_state_is_read_back(tmp_path: Path) -> None:
    state, path = _state(), tmp_path / "state.safetensors"
    write_state(path, state)
    found = read_state(path)
    assert found.values == state.values and found.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(found.tensors[name], state.tensors[name]) for name in state.tensors)
    first = path.read_bytes()
    write_state(path, found)
    assert path.read_bytes() == first and list(tmp_path.iterdir()) == [path]


@given(cut=st.integers(0, 400), flip=st.integers(0, 250))
def test_a_damaged_state_is_one_clear_error(cut: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    write_state(path, _state())
    whole = path.read_bytes()
    for data in (whole[: min(cut, len(whole) - 1)], whole[:flip] + bytes([whole[flip] ^ 0x15]) + whole[flip + 1 :]):
        path.write_bytes(data)
        try:
            read_state(path)  # a changed digit or name is still a state
        except SqueezeEdgeError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert len(data) == len(whole)


def test_no_state(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"state\.safetensors: no such file.*leave out --resume"):
        read_state(tmp_path / "state.safetensors")


def test_a_network_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, build("squeezenet1_1_digits", 3), RECIPE, ["x", "y", "z"])
    with pytest.raises(CorruptFileError, match=r"last\.safetensors: it is truncated, damaged or no training state"):
        read_state(path)


def test_a_state_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    monkeypatch.setattr("squeezeedge.training.checkpoint.FORMAT", 9)
    write_state(path, _state())
    monkeypatch.undo()
    with pytest.raises(SqueezeEdgeError, match="is of format 9, this version reads 1"):
        read_state(path)
