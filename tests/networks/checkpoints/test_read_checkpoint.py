"""What holds for every format: bad files are a SqueezeEdgeError, whatever is wrong with them."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.torch import save

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.checkpoints.record import MAX_BYTES
from squeezeedge.networks.endings import FORMATS
from tests.networks.checkpoints.deep_compression_file import encode, sparse_network
from tests.networks.checkpoints.mindspore_fixture import FLOAT16, FLOAT32
from tests.networks.checkpoints.mutations import hostile_pickle, mutate

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.tensor([0.5, -1.0, 2.0])}
ENDINGS = list(FORMATS)


def torch_file(state: dict[str, torch.Tensor], zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def onnx_file(state: dict[str, torch.Tensor]) -> bytes:
    tensors = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in state.items()]
    return helper.make_model(helper.make_graph([], "g", [], [], initializer=tensors)).SerializeToString()


@cache
def sound(kind: str) -> tuple[str, bytes]:
    """(ending, content) of a small sound file."""
    contents: dict[str, Callable[[], tuple[str, bytes]]] = {
        "zip": lambda: (".pth", torch_file(STATE, True)),
        "legacy": lambda: (".pt", torch_file(STATE, False)),
        "safetensors": lambda: (".safetensors", save(STATE, {"network": "squeezenet1_1", "labels": '["a"]'})),
        "onnx": lambda: (".onnx", onnx_file(STATE)),
        "mindspore": lambda: (".ckpt", FLOAT32.read_bytes()),
        "mindspore-crc": lambda: (".ckpt", FLOAT16.read_bytes()),
        "deep-compression": lambda: (".net", encode(sparse_network(5, 0.002))),
    }
    return contents[kind]()


KINDS = ["zip", "legacy", "safetensors", "onnx", "mindspore", "mindspore-crc", "deep-compression"]
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sound_or_refused(path: Path) -> None:
    """Reading gives finite float32 tensors or a SqueezeEdgeError that names the file."""
    try:
        checkpoint = read_checkpoint(path)
    except SqueezeEdgeError as failure:
        assert str(failure).startswith(str(path))
        assert len(str(failure)) < len(str(path)) + 800
    else:
        assert all(t.isfinite().all() for t in checkpoint.state.values() if t.is_floating_point())


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_sound(tmp_path: Path, kind: str) -> None:
    ending, content = sound(kind)
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    state = read_checkpoint(path).state
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_truncation_at_any_byte(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    ending, content = sound(kind)
    path = tmp_path / f"a{ending}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    sound_or_refused(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_random_changes_of_bytes(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    ending, content = sound(kind)
    damaged = bytearray(content)
    changes = st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)), min_size=1, max_size=4)
    for position, change in data.draw(changes):
        damaged[position] ^= change
    path = tmp_path / f"a{ending}"
    path.write_bytes(damaged)
    sound_or_refused(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_changes_that_keep_what_surrounds_them_sound(tmp_path: Path, kind: str) -> None:
    """Checksums fit, archives open, headers are JSON and messages protobuf."""
    ending, content = sound(kind)
    path = tmp_path / f"a{ending}"
    for seed in range(20 if kind == "deep-compression" else 200):
        try:
            changed = mutate(kind, content, Random(seed))
        except (zipfile.BadZipFile, DecodeError, ValueError, struct.error):  # a second change of a broken one
            continue
        path.write_bytes(changed)
        sound_or_refused(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [True, False])
def test_no_pickle_is_executed(tmp_path: Path, zipped: bool) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    for seed in range(60):
        content = hostile_pickle(mark, Random(seed))
        if zipped:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("archive/data.pkl", content)
            content = buffer.getvalue()
        elif seed % 2:
            content = torch_file(STATE, False)[: seed // 2] + content
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"a\.pth: not a PyTorch state dict"):
            read_checkpoint(path)
        assert not mark.exists()


def test_those_pickles_would_do_something(tmp_path: Path) -> None:
    mark, done = tmp_path / "mark", 0
    for seed in range(60):
        with suppress(pickle.UnpicklingError, AttributeError):
            pickle.loads(hostile_pickle(mark, Random(seed)))
        done += mark.exists()
        mark.unlink(missing_ok=True)
    assert done > 40


@pytest.mark.parametrize("ending", ENDINGS)
@SETTINGS
@given(content=st.binary(max_size=200))
def test_noise(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    sound_or_refused(path)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (ending, kind)
        for ending in ENDINGS
        for kind, own in [
            ("zip", (".pth", ".pt", ".bin", ".tar", ".ckpt")),
            ("safetensors", (".safetensors",)),
            ("onnx", (".onnx",)),
            ("mindspore", (".ckpt",)),
            ("deep-compression", (".net",)),
        ]
        if ending not in own
    ],
)
def test_content_of_another_format(tmp_path: Path, ending: str, kind: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(sound(kind)[1])
    with pytest.raises(CorruptFileError, match=f"a{ending}: "):
        read_checkpoint(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_empty_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.touch()
    with pytest.raises(CorruptFileError, match=f"a{ending}: is empty; get the file again"):
        read_checkpoint(path)


def test_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(CorruptFileError, match=r"a\.pth: 536870913 bytes is more than"):
        read_checkpoint(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    state = {**STATE, "b": torch.tensor([0.0, bad])}
    files = {"a.pth": torch_file(state, True), "a.safetensors": save(state), "a.onnx": onnx_file(state)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFileError, match=f"{name}: b has values that are not finite"):
            read_checkpoint(tmp_path / name)


def test_float64_beyond_float32(tmp_path: Path) -> None:
    state = {"a": torch.tensor([1e300], dtype=torch.float64)}
    (tmp_path / "a.pth").write_bytes(torch_file(state, True))
    (tmp_path / "a.onnx").write_bytes(onnx_file(state))
    for name in ("a.pth", "a.onnx"):
        with pytest.raises(CorruptFileError, match="a has values that are not finite"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_signalling_nan(tmp_path: Path, kind: type[np.floating]) -> None:
    bits = np.array(kind(np.inf)).view(f"u{np.dtype(kind).itemsize}") + 1
    state = {"a": torch.from_numpy(bits.reshape(1).view(kind))}
    (tmp_path / "a.onnx").write_bytes(onnx_file(state))
    (tmp_path / "a.pth").write_bytes(torch_file(state, True))
    for name in ("a.pth", "a.onnx"):
        with pytest.raises(CorruptFileError, match="a has values that are not finite"):
            read_checkpoint(tmp_path / name)


def test_unknown_ending_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.h5: the ending .* must be one of \.pth \.pt \.safetensors"):
        read_checkpoint(tmp_path / "a.h5")
    with pytest.raises(UsageError, match=r"a\.pth: no such file"):
        read_checkpoint(tmp_path / "a.pth")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(
        UsageError, match=r"a\.h5: is an HDF5 file, as Keras .* ONNX and give that \(the ending .* \.pth"
    ):
        read_checkpoint(tmp_path / "a.h5")
    (tmp_path / "b.pth").mkdir()
    with pytest.raises(UsageError, match=r"b\.pth: no such file"):
        read_checkpoint(tmp_path / "b.pth")
