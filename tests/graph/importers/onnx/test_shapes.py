"""What only moves numbers about costs nothing; reductions over the map are averages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.importers.from_onnx import from_onnx
from tests.graph.importers.onnx.files import end, imported, kinds, network, random, refused, same_as_runtime, start
from tests.graph.networks import OnnxWriter


def _ints(writer: OnnxWriter, name: str, *values: int) -> str:
    return writer.weight(name, np.array(values, np.int64))


def _average(writer: OnnxWriter, value: str) -> str:
    return writer.node("Flatten", writer.node("AveragePool", value, kernel_shape=[7, 10]))


def _mean(writer: OnnxWriter, value: str) -> str:
    return writer.node("ReduceMean", value, axes=[-1, 2], keepdims=0)


def _mean_kept(writer: OnnxWriter, value: str) -> str:
    return writer.node("Squeeze", writer.node("ReduceMean", value, axes=[2, 3]), _ints(writer, "axes", 2, 3))


def _mean_of_means(writer: OnnxWriter, value: str) -> str:
    """``x.mean(3).mean(2)``."""
    return writer.node("ReduceMean", writer.node("ReduceMean", value, axes=[3], keepdims=0), axes=[2], keepdims=0)


def _mean_of_kept_means(writer: OnnxWriter, value: str) -> str:
    return writer.node("Flatten", writer.node("ReduceMean", writer.node("ReduceMean", value, axes=[2]), axes=[-1]))


def _mean_of_a_row(writer: OnnxWriter, value: str) -> str:
    """``x.flatten(2).mean(-1)``."""
    flat = writer.node("Reshape", value, _ints(writer, "shape", 0, 5, -1))
    return writer.node("ReduceMean", flat, axes=[-1], keepdims=0)


def _squeezes(writer: OnnxWriter, value: str) -> str:
    last = writer.node("Squeeze", writer.node("GlobalAveragePool", value), _ints(writer, "last", 3))
    return writer.node("Squeeze", last, _ints(writer, "next", -1))


def _reshape(writer: OnnxWriter, value: str) -> str:
    return writer.node("Reshape", writer.node("GlobalAveragePool", value), _ints(writer, "shape", 1, -1))


def _picked(writer: OnnxWriter, value: str) -> str:
    """``x[:, :, 0, 0]``."""
    zero = writer.weight("zero", np.array(0, np.int64))
    last = writer.node("Gather", writer.node("GlobalAveragePool", value), zero, axis=3)
    return writer.node("Gather", last, zero, axis=2)


def _view(writer: OnnxWriter, value: str) -> str:
    """``x.view(x.size(0), -1)`` as older exporters write it."""
    pooled = writer.node("GlobalAveragePool", value)
    zero = writer.node("Constant", value=onnx.numpy_helper.from_array(np.array(0)))
    batch = writer.node("Gather", writer.node("Shape", pooled), zero, axis=0)
    first = writer.node("Unsqueeze", batch, _ints(writer, "axes", 0))
    shape = writer.node("Concat", first, writer.node("Constant", value_ints=[-1]), axis=0)
    return writer.node("Reshape", pooled, shape)


def _last_channels(writer: OnnxWriter, value: str) -> str:
    """The mean of a map in layout NHWC, which ends as it is."""
    return writer.node("ReduceMean", writer.node("Transpose", value, perm=[0, 2, 3, 1]), axes=[1, 2], keepdims=0)


WAYS = [_average, _mean, _mean_kept, _mean_of_means, _mean_of_kept_means, _mean_of_a_row, _squeezes, _reshape, _picked]


@pytest.mark.parametrize("pool", [*WAYS, _view, _last_channels])
@pytest.mark.parametrize("batch", [1, "N"])
def test_ways_to_a_vector(tmp_path: Path, pool: Callable[[OnnxWriter, str], str], batch: int | str) -> None:
    writer, value = start(batch=batch)
    assert kinds(imported(tmp_path, writer, pool(writer, value))) == ["Conv", "GlobalAveragePool"]


def test_axes_as_old_opsets_have_them(tmp_path: Path) -> None:
    writer, value = start()
    value = writer.node("Unsqueeze", writer.node("GlobalAveragePool", value), axes=[0])
    value = writer.node("Slice", writer.node("Squeeze", value, axes=[0]), axes=[1], starts=[1], ends=[4])
    assert kinds(imported(tmp_path, writer, writer.node("Squeeze", value, axes=[2, 3]), opset=9))[0] == "Conv"


def test_sum_over_the_map(tmp_path: Path) -> None:
    writer, value = start()
    total = writer.node("ReduceSum", value, _ints(writer, "axes", 2, 3), keepdims=0)
    imported(tmp_path, writer, total)


def test_largest_of_the_map(tmp_path: Path) -> None:
    writer, value = start()
    graph = imported(tmp_path, writer, writer.node("ReduceMax", value, axes=[2, 3], keepdims=0))
    assert kinds(graph) == ["Conv", "MaxPool"]


@pytest.mark.parametrize("axis", [2, 3])
def test_the_mean_over_one_side(tmp_path: Path, axis: int) -> None:
    writer, value = start()
    lines = writer.node("Relu", writer.node("ReduceMean", value, axes=[axis]))
    graph = imported(tmp_path, writer, end(writer, lines))
    assert kinds(graph) == ["Conv", "AveragePool", "Relu", "GlobalAveragePool"]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_map_one_pixel_high(tmp_path: Path, kept: int) -> None:
    """Whatever moves it, its height stays where it is; the mean over one pixel is that pixel."""
    writer, value = start(size=(3, 12))
    value = writer.node("ReduceMean", value, axes=[2], keepdims=kept)
    value = writer.node("Reshape", value, _ints(writer, "flat", 1, 5, -1))
    value = writer.node("Reshape", value, _ints(writer, "map", 1, 5, 1, -1))
    graph = imported(tmp_path, writer, end(writer, writer.node("Conv", value, writer.weight("w", random(4, 5, 1, 3)))))
    assert kinds(graph) == ["Conv", "Conv", "GlobalAveragePool"]


def test_layers_between_transposes(tmp_path: Path) -> None:
    """As TensorFlow's converter writes them."""
    writer, value = start()
    rows = writer.node("Transpose", value, perm=[0, 2, 3, 1])
    rows = writer.node("Relu", writer.node("Add", rows, writer.weight("bias", random(5))))
    value = writer.node("Transpose", rows, perm=[0, 3, 1, 2])
    value = writer.node("Conv", value, writer.weight("w", random(4, 5, 3, 3)))
    graph = imported(tmp_path, writer, end(writer, value))
    assert kinds(graph) == ["Conv", "Relu", "Conv", "GlobalAveragePool"]


def test_a_map_flattened_in_another_order(tmp_path: Path) -> None:
    writer, value = start(size=(5, 6))
    flat = writer.node("Flatten", writer.node("Transpose", value, perm=[0, 2, 3, 1]))
    graph = imported(tmp_path, writer, writer.node("Gemm", flat, writer.weight("fc", random(60, 4))))
    assert kinds(graph) == ["Conv", "Conv"]


def test_a_part_of_a_map_that_is_flattened(tmp_path: Path) -> None:
    writer, value = start(size=(5, 6))
    flat = writer.node("Relu", writer.node("Flatten", value))
    some = writer.node("Slice", flat, _ints(writer, "from", 3), _ints(writer, "to", 40), _ints(writer, "axes", 1))
    imported(tmp_path, writer, writer.node("Gemm", some, writer.weight("fc", random(37, 4))))


def test_a_file_for_several_images(tmp_path: Path) -> None:
    """Constant shapes that count the images are read as for one."""
    writer, value = start(batch=4)
    found = network(
        tmp_path, writer, writer.node("Reshape", writer.node("GlobalAveragePool", value), _ints(writer, "s", 4, -1))
    )
    assert found.notes == ("made for 4 images at a time: read as for one",)


def _sliced(
    writer: OnnxWriter, value: str, starts: list[int], ends: list[int], axes: list[int], steps: list[int]
) -> str:
    given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    return writer.node("Slice", value, *(_ints(writer, key, *numbers) for key, numbers in given.items()))


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps", "layer"),
    [
        ([0, 0], [2**62, 99], [2, 3], [2, 2], "MaxPool"),
        ([1, -8], [-1, 10], [2, 3], [1, 1], "Conv"),
        ([1, 1, 0], [5, 10, 9], [-3, 2, 3], [2, 3, 4], "Conv"),
        ([5], [6], [2], [1], "Conv"),
        ([0], [7], [2], [2**62], "MaxPool"),
        ([0, 0, 0, 0], [9, 9, 9, 9], [0, 1, 2, 3], [1, 1, 1, 2], "MaxPool"),
    ],
)
@pytest.mark.parametrize("rows", [False, True])
def test_parts_of_height_and_width(
    tmp_path: Path, starts: list[int], ends: list[int], axes: list[int], steps: list[int], layer: str, rows: bool
) -> None:
    """One layer takes them, of a file for several images, too."""
    writer, value = start(batch=2)
    if rows:
        value = writer.node("Transpose", value, perm=[0, 2, 3, 1])
        axes = [{0: 0, 1: 3, -3: -1, 2: 1, 3: 2}[axis] for axis in axes]
    value = _sliced(writer, value, starts, ends, axes, steps)
    if rows:
        value = writer.node("Transpose", value, perm=[0, 3, 1, 2])
    graph = imported(tmp_path, writer, end(writer, writer.node("Relu", value)))
    assert kinds(graph)[:3] == ["Conv", layer, "Relu"]


def test_a_large_part_of_a_map_that_is_flattened(tmp_path: Path) -> None:
    """No window takes it; a fully connected layer reads it."""
    writer, value = start(size=(5, 30))
    some = writer.node("Flatten", _sliced(writer, value, [20], [22], [3], [1]))
    imported(tmp_path, writer, writer.node("Gemm", some, writer.weight("fc", random(30, 4))))


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum", "ReduceMax"])
@pytest.mark.parametrize("axes", [[], None, [2], [3, -2]])
@pytest.mark.parametrize("noop", [0, 1])
def test_axes_of_reductions_as_an_input(tmp_path: Path, operator: str, axes: list[int] | None, noop: int) -> None:
    writer, value = start()
    operands = [] if axes is None else [_ints(writer, "axes", *axes)]
    value = end(writer, value) if not axes and not noop and operator != "ReduceMax" else value
    value = writer.node(operator, value, *operands, noop_with_empty_axes=noop)
    if not axes and not noop:
        path = tmp_path / "network.onnx"
        onnx.save(writer.model(value, 18, 4), path)
        with pytest.raises(UnsupportedError, match=rf"\({operator}\): {operator} over axes \[1(, 2, 3)?\] of"):
            from_onnx(path)
    else:
        imported(tmp_path, writer, end(writer, value), opset=18)


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("way", ["Expand", "Tile", "Shape", "rows"])
def test_a_gray_image_with_three_channels(tmp_path: Path, way: str, batch: int | str) -> None:
    writer = OnnxWriter([batch, 9, 12, 1] if way == "rows" else [batch, 1, 9, 12])
    if way == "Tile":
        value = writer.node("Tile", "input", _ints(writer, "n", 1, 3, 1, 1))
    elif way == "Expand":
        value = writer.node("Expand", "input", _ints(writer, "n", 1, 3, 1, 1))
    elif way == "rows":
        value = writer.node("Transpose", writer.node("Expand", "input", _ints(writer, "n", 3)), perm=[0, 3, 1, 2])
    else:
        first = writer.node("Slice", writer.node("Shape", "input"), _ints(writer, "z", 0), _ints(writer, "o", 1))
        value = writer.node("Expand", "input", writer.node("Concat", first, _ints(writer, "n", 3, 9, 12), axis=0))
    value = writer.node("Conv", value, writer.weight("w", random(4, 3, 3, 3)))
    assert kinds(imported(tmp_path, writer, end(writer, value))) == ["Conv", "GlobalAveragePool"]


def _batch(writer: OnnxWriter, value: str) -> str:
    return writer.node("Gather", writer.node("Shape", value), writer.weight("zero", np.array(0)), axis=0)


def _scaled_by_batch(writer: OnnxWriter, value: str) -> str:
    return writer.node("Div", end(writer, value), writer.node("Cast", _batch(writer, value), to=TensorProto.FLOAT))


def _branch_by_batch(writer: OnnxWriter, value: str) -> str:
    branch = helper.make_graph(
        [helper.make_node("Relu", [value], ["out"])], "b", [], [helper.make_tensor_value_info("out", 1, None)]
    )
    one = writer.node("Equal", _batch(writer, value), writer.weight("one", np.array(1)))
    return end(writer, writer.node("If", one, then_branch=branch, else_branch=branch))


def _by_size(writer: OnnxWriter, value: str) -> str:
    """A mean written as a sum over the number of all values, images included."""
    total = writer.node("ReduceSum", value, _ints(writer, "axes", 2, 3), keepdims=0)
    return writer.node("Div", total, writer.node("Cast", writer.node("Size", value), to=TensorProto.FLOAT))


def _flat_by_size(writer: OnnxWriter, value: str) -> str:
    """A shape may be computed with the number of images, if these stay apart."""
    rows = writer.node("Mul", _batch(writer, value), writer.weight("five", np.array(5)))
    shape = writer.node("Concat", writer.node("Unsqueeze", rows, _ints(writer, "z", 0)), _ints(writer, "r", 70), axis=0)
    mean = writer.node("ReduceMean", writer.node("Reshape", value, shape), axes=[1])
    return writer.node("Reshape", mean, _ints(writer, "s", -1, 5))


def _wrong_place(writer: OnnxWriter, value: str) -> str:
    batch = writer.node("Unsqueeze", _batch(writer, value), _ints(writer, "z", 0))
    shape = writer.node("Concat", _ints(writer, "r", -1), batch, axis=0)
    return writer.node("Reshape", writer.node("GlobalAveragePool", value), shape)


def _sliced_by_batch(writer: OnnxWriter, value: str) -> str:
    batch = writer.node("Unsqueeze", _batch(writer, value), _ints(writer, "z", 0))
    return end(writer, writer.node("Slice", value, batch, _ints(writer, "e", 5), _ints(writer, "a", 1)))


@pytest.mark.parametrize("batch", [1, "N", 4])
@pytest.mark.parametrize(
    ("build_part", "blocks"),
    [
        (_view, ""),
        (_flat_by_size, ""),
        (_squeezes, ""),
        (lambda w, v: w.node("Squeeze", w.node("GlobalAveragePool", v)), ""),
        (_scaled_by_batch, r"\(Div\): computes with the number of images, which the file fixes at 4: "),
        (_by_size, r"\(Div\): computes with the number of images"),
        (_sliced_by_batch, r"\(Slice\): computes with the number of images"),
        (_branch_by_batch, r"\(If\): computes with the number of images"),
        (_wrong_place, r"\(Reshape\): does not keep apart the 4 images that the file is made for"),
        (
            lambda w, v: w.node("ReduceMean", v, axes=[0, 2, 3], keepdims=0),
            r"\(ReduceMean\): does not keep apart the 4 images .* of 'conv_0' \[1, 5, 7, 10\] each; export it for one",
        ),
        (
            lambda w, v: w.node("Transpose", end(w, v), perm=[1, 0]),
            r"\(Transpose\): does not keep apart the 4 images",
        ),
    ],
)
def test_what_depends_on_the_number_of_images(
    tmp_path: Path, build_part: Callable[[OnnxWriter, str], str], blocks: str, batch: int | str
) -> None:
    """Handled, or refused, where a file is made for several."""
    writer, value = start(batch=batch)
    if batch == 4 and blocks:
        refused(tmp_path, writer, build_part(writer, value), blocks)
    elif build_part not in (_sliced_by_batch, _wrong_place):  # no networks of one image
        path = tmp_path / "network.onnx"
        onnx.save(writer.model(build_part(writer, value)), path)
        same_as_runtime(path, from_onnx(path), batch=1 if blocks else None)


@pytest.mark.parametrize(
    ("build_part", "match"),
    [
        (lambda w, v: w.node("ReduceMean", v, axes=[1]), r"/reducemean_1 \(ReduceMean\): ReduceMean over axes \[1\]"),
        (
            lambda w, v: w.node("Relu", w.node("Concat", v, v, axis=2)),
            r"/concat_1 \(Concat\): 'conv_0' \[1, 5, 7, 10\] and .* come out as numbers that are no map of channels "
            r"any more, .* not the next: /globalaveragepool_3 \(GlobalAveragePool\): reads \[1, 5, 14, 10\]",
        ),
        (
            lambda w, v: w.node("Reshape", v, w.weight("shape", np.array([1, 10, 7, 5], np.int64))),
            r"/reshape_1 \(Reshape\): .*: /globalaveragepool_2 \(GlobalAveragePool\): reads \[1, 10, 7, 5\], which",
        ),
        (
            lambda w, v: w.node("ReduceMean", v, axes=[2, -2]),
            r"\(ReduceMean\): axes \[2, -2\] of 'conv_0' \[1, 5, 7, 10\]; supported: each once",
        ),
        (lambda w, v: _sliced(w, v, [6, 2, -1], [-9, 9, -9], [2, 3, 1], [-1, 1, -1]), r"/slice_1 \(Slice\): "),
        (lambda w, v: _sliced(w, v, [1], [1], [2], [1]), r"/slice_1 \(Slice\): makes an empty tensor of 'conv_0'"),
        (lambda w, v: _sliced(w, v, [0, 1], [1, 2], [2, -2], [1, 1]), r"/slice_1 \(Slice\): axes \[2, -2\] of"),
        (lambda w, v: _sliced(w, v, [0], [1], [2], [0]), r"/slice_1 \(Slice\): from \[0\] to \[1\] in steps of \[0\]"),
        (lambda w, v: _sliced(w, v, [0, 1], [1], [2], [1]), r"/slice_1 \(Slice\): from \[0, 1\] to \[1\]"),
        (
            lambda w, v: w.node("Expand", w.node("GlobalAveragePool", v), _ints(w, "n", 1, 5, 7, 10)),
            r"/expand_2 \(Expand\): makes \[1, 5, 7, 10\] of .*; supported: each channel several times",
        ),
        (lambda w, v: w.node("Tile", v, _ints(w, "n", 1, 2**40, 1, 1)), r"Tile makes moved tensors of more than"),
        (lambda w, v: w.node("Tile", v, _ints(w, "n", 2)), r"/tile_1 \(Tile\): makes .* \[2\], which does not fit"),
        (lambda w, v: w.node("Split", v, _ints(w, "n", 4), axis=1), r"/split_1 \(Split\): sizes \[4\] of 'conv_0'"),
        (lambda w, v: w.node("Flatten", w.node("Relu", v), axis=5), r"/flatten_2 \(Flatten\): flattens .* at axis 5"),
        (
            lambda w, v: w.node("Reshape", v, w.node("Cast", end(w, v), to=TensorProto.INT64)),
            r"/cast_3 \(Cast\): a cast to INT64",
        ),
        (
            lambda w, v: w.node("Reshape", v, w.weight("shape", np.array([1, 4, 7, 10], np.int64))),
            r"/reshape_1 \(Reshape\)?: Reshape of .* cannot be computed|/reshape_1: Reshape",
        ),
    ],
)
def test_refused_by_node_and_reason(tmp_path: Path, build_part: Callable[[OnnxWriter, str], str], match: str) -> None:
    writer, value = start()
    refused(tmp_path, writer, end(writer, build_part(writer, value)), match)
