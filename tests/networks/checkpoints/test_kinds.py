"""What files are by their content, and what is said of those that hold no network's tensors."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.loading import load
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.checkpoints.kinds import describe_folder, kind_of
from tests.networks.checkpoints.mindspore_fixture import FLOAT32


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    return buffer.getvalue()


OTHERS = {
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras", "export the network to ONNX"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(50), "a TensorFlow Lite model", "export the network to ONNX"),
    "keras": (
        archive("metadata.json", "config.json", "model.weights.h5"),
        "a Keras model",
        "export the network to ONNX",
    ),
    "torchscript": (
        archive("a/data.pkl", "a/code/__torch__/torch/nn.py", "a/constants.pkl"),
        "a TorchScript archive (torch.jit.save)",
        "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')",
    ),
    "exported": (archive("m/models/model.json"), "an exported program", "export the network to ONNX"),
    "npz": (arrays(), "an archive of numpy arrays", "torch.save"),
    "zip": (archive("readme.txt"), "a zip archive", "unpack it first"),
    "tar": (tar(), "a tar archive", "unpack it first; PyTorch before"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "a gzip archive", "unpack it first"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>", "a web page, not the file", "download the file itself"),
    "index": (
        json.dumps({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode(),
        "the index of weights in several files",
        "save them as one file",
    ),
    "json": (b'{"architecture": "squeezenet"}', "JSON text", "give the file with the weights"),
    "npy": (b"\x93NUMPY\x01\0", "an array of numpy", "torch.save"),
    "png": (b"\x89PNG\r\n\x1a\n", "a PNG image", "give a network's file"),
}


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".ckpt", ".bin"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named_and_not_called_damaged(tmp_path: Path, name: str, ending: str) -> None:
    content, found, fix = OTHERS[name]
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: is {found}") and fix in text and "damaged" not in text


@pytest.mark.parametrize("ending", [".h5", ".tflite", ".keras", ".pb", ".json", ""])
def test_an_unknown_ending_does_not_hide_what_the_file_is(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    for content, found, fix in OTHERS.values():
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"the ending must be one of \.sqe \.onnx \.pth") as caught:
            load(path)
        assert f"{path}: is {found}" in str(caught.value) and fix in str(caught.value)


def test_checkpoints_are_told_by_their_content() -> None:
    buffer, old = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer)
    torch.save({"a": torch.ones(1)}, old, _use_new_zipfile_serialization=False)
    for content, format in (
        (buffer.getvalue(), "PyTorch"),
        (old.getvalue(), "PyTorch"),
        (pickle.dumps({"a": np.ones(1)}), "PyTorch"),
        (save({"a": torch.ones(1)}), "safetensors"),
    ):
        kind = kind_of(content)
        assert kind is not None and kind.format == format
    assert kind_of(FLOAT32.read_bytes()) is kind_of(b"") is kind_of(b"PK\3\4") is kind_of(bytes(300)) is None


@pytest.mark.parametrize(
    ("file", "found", "fix"),
    [
        ("zero_to_fp32.py", "a checkpoint of DeepSpeed", "python zero_to_fp32.py FOLDER"),
        ("saved_model.pb", "a SavedModel of TensorFlow", "ONNX"),
        ("model.safetensors", "a folder with a checkpoint", "give model.safetensors in it"),
        ("model.safetensors.index.json", "the index of weights in several files", "as one file"),
        ("readme.md", "a folder", "give a file in it"),
    ],
)
def test_folders(tmp_path: Path, file: str, found: str, fix: str) -> None:
    (tmp_path / file).touch()
    assert describe_folder(tmp_path)[0] == found and fix in describe_folder(tmp_path)[1]
    with pytest.raises(UsageError, match=f"{tmp_path}: is {found}; "):
        load(tmp_path)
