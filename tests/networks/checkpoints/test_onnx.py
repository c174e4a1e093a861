"""ONNX initializers, in the file and beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build, identify, load_weights

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def model(*initializers: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [], initializer=list(initializers))
    return helper.make_model(graph)


def saved(path: Path, *initializers: TensorProto) -> Path:
    path.write_bytes(model(*initializers).SerializeToString())
    return path


def external(location: str, offset: int | str = 0, length: int | str = WEIGHT.nbytes) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=WEIGHT.shape, data_location=TensorProto.EXTERNAL)
    for key, entry in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [1.5, -2.0, 1e-30]),
        (TensorProto.FLOAT16, [1.5, -2.0, 0.25]),
        (TensorProto.BFLOAT16, [1.5, -2.0, 0.25]),
        (TensorProto.DOUBLE, [1.5, -2.0, 0.25]),
    ],
)
def test_float_types_stored_both_ways(tmp_path: Path, kind: int, values: list[float], raw: bool) -> None:
    if raw:
        array = np.array(values).astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor = helper.make_tensor("w", kind, [3, 1], array.tobytes(), raw=True)
    else:
        tensor = helper.make_tensor("w", kind, [3, 1], values)
    state = read_checkpoint(saved(tmp_path / "a.onnx", tensor)).state
    assert state["w"].dtype == torch.float32
    assert state["w"].flatten().tolist() == np.array(values, np.float32).tolist()


def test_integer_initializers_are_left_out(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([1, -1]), "shape")
    path = saved(tmp_path / "a.onnx", shape, numpy_helper.from_array(WEIGHT, "w"))
    assert list(read_checkpoint(path).state) == ["w"]


def test_initializers_of_a_squeezenet_load(tmp_path: Path) -> None:
    source = build("squeezenet1_1", 3)
    tensors = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in source.state_dict().items()]
    state = read_checkpoint(saved(tmp_path / "a.onnx", *tensors)).state
    assert identify(state) == (("squeezenet1_1", "squeezenet1_1_mindcv"), 3)
    module = build("squeezenet1_1", 3)
    load_weights(module, state, "a.onnx")
    x = torch.randn(1, 3, 40, 40)
    assert torch.equal(module(x), source(x))


def test_external_data_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_bytes(b"skip" + WEIGHT.tobytes() + b"more")
    state = read_checkpoint(saved(tmp_path / "a.onnx", external("a.data", offset=4))).state
    assert np.array_equal(state["w"].numpy(), WEIGHT)


def test_external_data_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "circle").symlink_to(inside / "circle")
    (inside / "own").write_bytes(WEIGHT.tobytes())
    names = ("../secret", str(tmp_path / "secret"), "link", "model/../../secret", "", ".", "missing", "a\0b")
    more = ("x" * 5000, "x/" * 5000, "circle", "own/own", str(inside / "own"), "../model/own", "own\0", " own")
    for location in names + more:
        path = saved(inside / "a.onnx", external(location))
        with pytest.raises(CorruptFileError, match=r"initializer w: refers to .*, not a file of the model's folder"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(1, 48), (0, 47), (0, 1 << 50), (-4, 48), (1 << 70, 48), ("x", 48), (0, "x"), (0, -1)],
)
def test_external_data_of_the_wrong_size(tmp_path: Path, offset: int | str, length: int | str) -> None:
    (tmp_path / "a.data").write_bytes(WEIGHT.tobytes())
    path = saved(tmp_path / "a.onnx", external("a.data", offset, length))
    with pytest.raises(CorruptFileError, match=r"not an ONNX model, truncated or damaged \(initializer w"):
        read_checkpoint(path)


def test_checksum_of_external_data(tmp_path: Path) -> None:
    data = b"skip" + WEIGHT.tobytes()
    (tmp_path / "a.data").write_bytes(data)
    tensor = external("a.data", offset=4)
    tensor.external_data.add(key="checksum", value=hashlib.sha1(data).hexdigest().upper())
    assert np.array_equal(read_checkpoint(saved(tmp_path / "a.onnx", tensor)).state["w"].numpy(), WEIGHT)
    (tmp_path / "a.data").write_bytes(b"Skip" + WEIGHT.tobytes())
    with pytest.raises(CorruptFileError, match=r"initializer w: a\.data differs from its checksum"):
        read_checkpoint(tmp_path / "a.onnx")
    tensor.external_data.add(key="offset", value="0")
    with pytest.raises(CorruptFileError, match="initializer w: its offset is given twice"):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor))


def test_values_that_are_given_twice(tmp_path: Path) -> None:
    """Which of them is meant nobody can say."""
    (tmp_path / "a.data").write_bytes(WEIGHT.tobytes())
    tensor = numpy_helper.from_array(WEIGHT, "w")
    tensor.float_data.extend([9.0] * WEIGHT.size)
    with pytest.raises(CorruptFileError, match="w: its values are given as float_data and raw_data; one of them"):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor))
    tensor = external("a.data")
    tensor.raw_data = bytes(WEIGHT.nbytes)
    with pytest.raises(CorruptFileError, match="w: its values are given as raw_data and external data"):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("bits", [0x13C00, -1])
def test_a_half_of_more_than_16_bits(tmp_path: Path, kind: int, bits: int) -> None:
    tensor = TensorProto(name="w", data_type=kind, dims=[1], int32_data=[bits])
    with pytest.raises(CorruptFileError, match="initializer w: a 16-bit value has more than 16 bits"):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor))


def test_external_data_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezeedge.networks.checkpoints.onnx.MAX_BYTES", 2 * WEIGHT.nbytes)
    (tmp_path / "a.data").write_bytes(WEIGHT.tobytes())
    tensors = [external("a.data") for _ in range(3)]
    for index, tensor in enumerate(tensors):
        tensor.name = f"w{index}"
    assert len(read_checkpoint(saved(tmp_path / "a.onnx", *tensors[:2])).state) == 2
    with pytest.raises(CorruptFileError, match=r"w2: the external data exceed 96 bytes"):
        read_checkpoint(saved(tmp_path / "a.onnx", *tensors))


@pytest.mark.parametrize("dims", [[3, 5], [1 << 40], [-3, -4], [1 << 62, 4], [3] * 9])
@pytest.mark.parametrize("raw", [True, False])
def test_shape_that_does_not_fit_the_values(tmp_path: Path, dims: list[int], raw: bool) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    if raw:
        tensor.raw_data = WEIGHT.tobytes()
    else:
        tensor.float_data.extend(WEIGHT.flatten().tolist())
    with pytest.raises(CorruptFileError, match="initializer w: "):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor))


def test_same_name_twice(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(WEIGHT, "w")
    with pytest.raises(CorruptFileError, match="initializer w appears twice"):
        read_checkpoint(saved(tmp_path / "a.onnx", tensor, tensor))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff" * 50, "not an ONNX model"), (b"\x08\x07", "holds no weights")]
)
def test_wrong_kind(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CorruptFileError, match=reason):
        read_checkpoint(tmp_path / "a.onnx")
