"""Values of ONNX's tensors beside the model; what is refused is never opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import TensorProto

from squeezeedge.networks.onnx_tensors import ExternalData, check_form


def _tensor(location: str, **entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_the_bytes_are_inside_afterwards(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a b").write_bytes(b"skip12345678")
    tensor = _tensor("below/a b", offset="4")
    ExternalData(tmp_path, 8).load(tensor, 4)
    assert (tensor.raw_data, tensor.data_location) == (b"12345678", TensorProto.DEFAULT) and not tensor.external_data
    check_form(tensor)


@pytest.mark.parametrize("location", ["", ".", "/a", "../a", "b/../a", "a\0", "x" * 5000, "loop", "out", "b", "pipe"])
def test_names_are_refused_before_anything_is_opened(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    (folder / "b").mkdir(parents=True)
    for path in (folder / "a", tmp_path / "a"):
        path.write_bytes(bytes(8))
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "out").symlink_to(tmp_path / "a")
    os.mkfifo(folder / "pipe")
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    with pytest.raises(ValueError, match=r"refers to .*, not a file of the model's folder; put its data file beside"):
        ExternalData(folder, 1 << 20).load(_tensor(location), 4)


@pytest.mark.parametrize("text", ["-1", "1.0", "0x1", "", " 1", "1_0", "9" * 5000, "\u0661"])
def test_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_bytes(bytes(8))
    for key in ("offset", "length"):
        with pytest.raises(ValueError, match=f"its {key} .* is not a number of bytes"):
            ExternalData(tmp_path, 8).load(_tensor("a", **{key: text}), 4)
