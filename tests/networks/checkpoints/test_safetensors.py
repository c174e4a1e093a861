"""Safetensors: tensors, and the strings in the header."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.checkpoints.safetensors import CHECKSUM, sealed
from tests.networks.checkpoints.mindspore_fixture import SHAPES, value

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -1.0])}
METADATA = {"network": "squeezenet1_1", "preprocessing": '{"size": [96, 96]}', "labels": '["cat", "dog"]'}


def saved(path: Path, metadata: dict[str, str] | None) -> Path:
    save_file(STATE, path, metadata)
    return path


def with_header(path: Path, header: object, content: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


@pytest.mark.parametrize("metadata", [None, {}, METADATA])
def test_state_and_metadata(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "a.safetensors", metadata))
    assert {name: tensor.tolist() for name, tensor in checkpoint.state.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }
    assert checkpoint.metadata == (metadata or {})


def test_other_strings_are_left_out(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "a.safetensors", {**METADATA, "format": "pt", "author": "someone"}))
    assert checkpoint.metadata == METADATA


def test_float16_becomes_float32(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([1.5, 2.0], dtype=torch.float16)}, tmp_path / "a.safetensors")
    tensor = read_checkpoint(tmp_path / "a.safetensors").state["a"]
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == [1.5, 2.0]


def test_mindspores_safetensors_are_mindcvs(tmp_path: Path) -> None:
    state = {name.replace("classifier.1", "final_conv"): torch.from_numpy(value(name)) for name in SHAPES}
    save_file(state, tmp_path / "a.safetensors", {"format": "ms"})
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.likely == "squeezenet1_1_mindcv" and not checkpoint.metadata
    assert set(checkpoint.state) == set(SHAPES)


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("labels", "cat, dog", "metadata 'labels' is not JSON"),
        ("labels", '{"0": "cat"}', "metadata 'labels' must be a JSON list"),
        ("labels", "[" * 100_000, "metadata 'labels' is not JSON"),
        ("preprocessing", "imagenet", "metadata 'preprocessing' is not JSON"),
        ("preprocessing", "[]", "metadata 'preprocessing' must be a JSON dict"),
    ],
)
def test_metadata_that_is_not_json(tmp_path: Path, key: str, text: str, reason: str) -> None:
    with pytest.raises(CorruptFileError, match=f"a.safetensors: {reason}"):
        read_checkpoint(saved(tmp_path / "a.safetensors", {key: text}))


@pytest.mark.parametrize(
    ("header", "content"),
    [
        (b"", b""),
        (b"[1", b""),
        (b"[" * 100_000, b""),
        ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 50]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        ({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(3)),
        ({"__metadata__": {"network": 3}}, b""),
    ],
)
def test_malformed(tmp_path: Path, header: object, content: bytes) -> None:
    with pytest.raises(CorruptFileError, match=r"a\.safetensors: not a safetensors file, truncated or damaged"):
        read_checkpoint(with_header(tmp_path / "a.safetensors", header, content))


ENTRY = '"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (f"{ENTRY % (0, 4)},{ENTRY % (0, 4)}", "'a' appears twice in the header"),
        (f"{ENTRY % (0, 4)},{ENTRY % (4, 8)}", "invalid offset"),
        ('"__metadata__":{"network":"x","network":"y"},' + ENTRY % (0, 4), "'network' appears twice in the header"),
        (f"{ENTRY % (0, 4)},{(ENTRY % (0, 4)).replace('a', 'b', 1)}", "invalid offset"),
        (f"{ENTRY % (0, 4)},{(ENTRY % (8, 12)).replace('a', 'b', 1)}", "invalid offset"),
        (f"{ENTRY % (4, 8)}", "invalid offset"),
    ],
)
def test_a_header_that_disagrees_with_itself(tmp_path: Path, header: str, reason: str) -> None:
    """The same name twice; offsets that overlap or leave gaps."""
    for size in (4, 8, 12):
        path = with_header(tmp_path / "a.safetensors", f"{{{header}}}".encode(), bytes(size))
        with pytest.raises(CorruptFileError, match=reason if size == 4 else "not a safetensors file"):
            read_checkpoint(path)


def test_metadata_may_be_null(tmp_path: Path) -> None:
    header = {"__metadata__": None, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    assert read_checkpoint(with_header(tmp_path / "a.safetensors", header, bytes(4))).metadata == {}


def test_a_checksum(tmp_path: Path) -> None:
    """The SHA-256 of the file with zeros in its place; whatever is changed afterwards is noticed."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(sealed(STATE, METADATA))
    whole = path.read_bytes()
    assert load_file(path).keys() == STATE.keys() and read_checkpoint(path).metadata == METADATA
    with safe_open(path, "pt") as file:
        found = file.metadata()[CHECKSUM]
    assert hashlib.sha256(whole.replace(found.encode(), b"0" * 64)).hexdigest() == found
    assert sealed(dict(reversed(STATE.items())), METADATA) == whole
    name = whole.index(CHECKSUM.encode())
    for index in range(0, len(whole), 3):
        if name <= index < name + len(CHECKSUM):
            continue  # another key: a file without a checksum, as others write them
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(CorruptFileError, match=r"a\.safetensors: not a safetensors file, truncated or damaged"):
            read_checkpoint(path)


def test_absurd_header_size(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CorruptFileError, match="not a safetensors file"):
        read_checkpoint(tmp_path / "a.safetensors")
