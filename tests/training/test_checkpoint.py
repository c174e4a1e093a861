"""Checkpoints: read back by the package's own reader; whole or not there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.checkpoints.safetensors import parts
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


def test_weights_that_float16_cannot_hold_stay_float32(tmp_path: Path) -> None:
    """What is written is what the next command reads."""
    module = build("squeezenet1_1_digits", 3)
    path = tmp_path / "a.safetensors"
    with torch.no_grad():
        module.get_parameter("features.0.weight")[0, 0, 0, 0] = 65_520.0  # the least that rounds to infinity
        module.get_parameter("features.0.bias")[0] = -65_519.0
    write_checkpoint(path, module, RECIPE, [])
    assert {name for name, tensor in load_file(path).items() if tensor.dtype == torch.float32} == {"features.0.weight"}
    state = read_checkpoint(path).state
    assert torch.equal(state["features.0.weight"], module.get_parameter("features.0.weight"))
    assert state["features.0.bias"][0] == -65_504.0
    with torch.no_grad():
        module.get_parameter("features.0.bias")[0] = torch.nan
    path.unlink()
    with pytest.raises(SqueezeEdgeError, match="diverged: weights are no longer finite"):
        write_checkpoint(path, module, RECIPE, [])
    assert not path.exists()


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


def test_a_damaged_state_is_one_clear_error(tmp_path: Path) -> None:
    """Flipped bits, any length: what is read is what was written."""
    path = tmp_path / "state.safetensors"
    write_state(path, _state())
    whole = path.read_bytes()
    lengths = [whole[:length] for length in range(0, len(whole), 9)]
    for data in (*lengths, *(whole[:i] + bytes([whole[i] ^ 0x15]) + whole[i + 1 :] for i in range(0, len(whole), 3))):
        path.write_bytes(data)
        with pytest.raises(SqueezeEdgeError, match=f"^{path}: "):
            read_state(path)


def test_a_state_with_a_zeroed_layer(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_state(path, _state())
    whole = path.read_bytes()
    path.write_bytes(whole[:-24] + bytes(24))
    with pytest.raises(CorruptFileError, match=r"damaged .* \(its contents differ from its checksum\)"):
        read_state(path)
    tensors, metadata = parts(whole)
    save_file(tensors, path, {"state": metadata["state"]})
    with pytest.raises(CorruptFileError, match="it has no checksum"):
        read_state(path)


def test_no_state(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"state\.safetensors: no such file.*begin one, without `resume`"):
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
    with pytest.raises(SqueezeEdgeError, match="is of format 9, this version reads 2"):
        read_state(path)
