"""Inputs as exporters declare them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from squeezeedge.errors import UnsupportedError, UsageError
from squeezeedge.graph.float.graph import FloatConv
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.graph.importers.onnx.files import end, kinds, network, random, refused, same_as_runtime, start
from tests.graph.networks import OnnxWriter


def _conv(writer: OnnxWriter, value: str, channels: int = 3) -> str:
    return end(writer, writer.node("Conv", value, writer.weight("w", random(4, channels, 3, 3))))


def test_rows_of_pixels_as_tensorflow_has_them(tmp_path: Path) -> None:
    writer = OnnxWriter(["batch", 9, 12, 3])
    found = network(tmp_path, writer, _conv(writer, writer.node("Transpose", "input", perm=[0, 3, 1, 2])))
    assert kinds(found.graph) == ["Conv", "GlobalAveragePool"] and found.graph.input_size == (9, 12)


@pytest.mark.parametrize("rows", [False, True])
def test_gray_images(tmp_path: Path, rows: bool) -> None:
    """The graph's image has three equal channels, of which the network reads the first."""
    writer = OnnxWriter([1, 9, 12, 1] if rows else ["N", 1, 9, 12])
    value = writer.node("Transpose", "input", perm=[0, 3, 1, 2]) if rows else "input"
    value = writer.node("Sub", value, writer.weight("mean", random(1)))
    found = network(tmp_path, writer, _conv(writer, value, 1))
    first = found.graph.nodes[0]
    assert found.gray and isinstance(first, FloatConv) and not first.weight[:, 1:].any()
    assert len(set(found.offset.tolist())) == 1


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32])
def test_pixels(tmp_path: Path, kind: int) -> None:
    writer = OnnxWriter([1, 9, 12, 3], kind)
    value = writer.node("Cast", writer.node("Transpose", "input", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    scaled = writer.node("Div", value, writer.weight("scale", np.array(255, np.float32)))
    model = writer.model(_conv(writer, scaled))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    path = tmp_path / "pixels.onnx"
    onnx.save(model, path)
    found = from_onnx(path)
    same_as_runtime(path, found)
    assert found.pixels
    np.testing.assert_allclose(found.multiplier, 1 / 255, rtol=1e-6)


def test_pixels_that_are_cast_twice(tmp_path: Path) -> None:
    """To a type that holds them all; not to one that does not."""
    for kind in (TensorProto.INT32, TensorProto.INT8):
        writer = OnnxWriter([1, 3, 9, 12], TensorProto.UINT8)
        whole = writer.node("Identity", writer.node("Cast", "input", to=kind))
        whole = writer.node("Cast", whole, to=TensorProto.INT64)
        model = writer.model(_conv(writer, writer.node("Cast", whole, to=TensorProto.FLOAT)))
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        onnx.save(model, tmp_path / "pixels.onnx")
        if kind == TensorProto.INT8:
            with pytest.raises(UnsupportedError, match=r"/cast_0 \(Cast\): a cast to INT8"):
                from_onnx(tmp_path / "pixels.onnx")
        else:
            same_as_runtime(tmp_path / "pixels.onnx", from_onnx(tmp_path / "pixels.onnx"))


def test_arithmetic_with_pixels_before_a_cast(tmp_path: Path) -> None:
    """Whole numbers of 8 bits wrap around."""
    writer = OnnxWriter([1, 3, 9, 12], TensorProto.UINT8)
    moved = writer.node("Sub", "input", writer.weight("mean", np.array(128, np.uint8)))
    value = _conv(writer, writer.node("Cast", moved, to=TensorProto.FLOAT))
    refused(tmp_path, writer, value, r"/sub_0 \(Sub\): computes with whole numbers, which wrap around: 'input'")


@pytest.mark.parametrize(("shape", "expected"), [([1, 3, "H", "W"], (9, 9)), (["N", 3, 9, "W"], (9, 9))])
def test_an_open_size(tmp_path: Path, shape: list[int | str], expected: tuple[int, int]) -> None:
    writer = OnnxWriter(shape)
    path = tmp_path / "open.onnx"
    onnx.save(writer.model(_conv(writer, "input")), path)
    found = from_onnx(path, (9, 9))
    assert found.graph.input_size == expected and found.notes == ("height and width are open: 9x9 was taken",)
    same_as_runtime(path, found)
    with pytest.raises(UsageError, match=r"its height and width are open: name one by `size`"):
        from_onnx(path)


def test_a_size_of_a_fixed_input(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    writer, value = start(size=(9, 9))
    onnx.save(writer.model(end(writer, value)), path)
    assert from_onnx(path, (9, 9)).graph.input_size == (9, 9)
    with pytest.raises(UsageError, match=r"are fixed, so `size` 8 is not possible: export it again"):
        from_onnx(path, (8, 8))


def test_a_number_of_channels_that_is_open(tmp_path: Path) -> None:
    writer = OnnxWriter(["N", "C", 9, 12])
    path = tmp_path / "open.onnx"
    onnx.save(writer.model(_conv(writer, "input")), path)
    assert "the number of channels is open: 3 was taken" in from_onnx(path).notes


@pytest.mark.parametrize(
    ("shape", "kind", "match"),
    [
        ([1, 4, 8, 8], TensorProto.FLOAT, r"\[1, 4, 8, 8\]; it must be one image, \[N, 3, height, width\]"),
        ([0, 3, 8, 8], TensorProto.FLOAT, "it must be one image"),
        ([3, 8, 8], TensorProto.FLOAT, "it must be one image"),
        ([1, 3, 0, 8], TensorProto.FLOAT, "its height and width must be positive"),
        ([1, 3, 8, 8], TensorProto.BOOL, "is BOOL; it must be floating point, or pixels"),
        ([1, 3, 10**6, 10**6], TensorProto.FLOAT, "an input of 1000000x1000000 pixels"),
        ([1, 3, 2**62, 2**62], TensorProto.FLOAT, "an input of 4611686018427387904x"),
    ],
)
def test_inputs_that_are_refused(tmp_path: Path, shape: list[int | str | None], kind: int, match: str) -> None:
    writer = OnnxWriter(shape, kind)
    refused(tmp_path, writer, writer.node("Identity", "input"), match, rank=4)
