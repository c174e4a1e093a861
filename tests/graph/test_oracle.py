"""The oracle against hand-computed values and against the rules written as loops over Python integers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Tensor, oracle, rules
from squeezeedge.graph.oracle import accumulate, apply, exact_type, execute, run
from tests.graphs import integer_graphs, random_graph, random_images, squeezenet_graph
from tests.marks import first_quick

Map = list[list[list[int]]]


def _rounding_shift(acc: int, k: int) -> int:
    return acc if k == 0 else (acc + 2 ** (k - 1)) // 2**k


def _clip(value: int) -> int:
    return min(max(value, 0), 255)


def _convolution(node: Conv | Head, value: Map, zero_point: int, size: tuple[int, int]) -> Map:
    """R3's accumulators, one multiplication at a time."""
    weight, bias, pad = node.weight.tolist(), node.bias.tolist(), node.pad_value.tolist()
    rows, columns = len(value), len(value[0])
    acc = [[list(bias) for _ in range(size[1])] for _ in range(size[0])]
    for y in range(size[0]):
        for x in range(size[1]):
            for out, filters in enumerate(weight):
                first = out // (len(weight) // node.groups) * len(filters[0][0])  # of the channels that it reads
                for dy, line in enumerate(filters):
                    for dx, taps in enumerate(line):
                        row = y * node.stride[0] + dy - node.padding[0]
                        column = x * node.stride[1] + dx - node.padding[1]
                        inside = 0 <= row < rows and 0 <= column < columns
                        pixel = value[row][column] if inside else pad
                        read = pixel[first : first + len(taps)]
                        acc[y][x][out] += sum(w * (q - zero_point) for w, q in zip(taps, read, strict=True))
    return acc


def _pooling(node: MaxPool, value: Map, out: Tensor) -> Map:
    def pixel(y: int, x: int) -> list[int]:
        rows = range(y * node.stride[0] - node.padding[0], y * node.stride[0] - node.padding[0] + node.kernel[0])
        columns = range(x * node.stride[1] - node.padding[1], x * node.stride[1] - node.padding[1] + node.kernel[1])
        valid = [value[r][c] for r in rows for c in columns if 0 <= r < len(value) and 0 <= c < len(value[0])]
        return [max(channel) for channel in zip(*valid, strict=True)]

    return [[pixel(y, x) for x in range(out.width)] for y in range(out.height)]


def _addition(node: Add, values: Sequence[Map], zero_points: Sequence[int]) -> Map:
    def pixel(a: list[int], b: list[int]) -> list[int]:
        terms = zip(a, b, node.shift[0].tolist(), node.shift[1].tolist(), strict=True)
        return [
            _clip(_rounding_shift(p - zero_points[0], s) + _rounding_shift(q - zero_points[1], t) + node.zero_point)
            for p, q, s, t in terms
        ]

    return [[pixel(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(*values, strict=True)]


def _reference(graph: IntegerGraph, image: Map) -> dict[str, Map | list[int]]:
    """Every node's result by rules R1-R6, in Python integers."""
    values: dict[str, Map] = {IMAGE: image}
    for node in graph.nodes:
        out = graph.tensors[node.name]
        inputs = [values[name] for name in node.inputs]
        zero_points = [graph.tensors[name].zero_point for name in node.inputs]
        if isinstance(node, Conv | Head):
            acc = _convolution(node, inputs[0], zero_points[0], (out.height, out.width))
        if isinstance(node, Head):
            pixels = [pixel for row in acc for pixel in row]
            terms = [[max(value, 0) if node.relu else value for value in pixel] for pixel in pixels]
            return values | {node.name: [sum(channel) for channel in zip(*terms, strict=True)]}
        if isinstance(node, Conv):
            shift = node.shift.tolist()
            values[node.name] = [
                [[_clip(_rounding_shift(a, k) + node.zero_point) for a, k in zip(p, shift, strict=True)] for p in row]
                for row in acc
            ]
        elif isinstance(node, MaxPool):
            values[node.name] = _pooling(node, inputs[0], out)
        elif isinstance(node, Add):
            values[node.name] = _addition(node, inputs, zero_points)
        elif isinstance(node, Concat):
            rows = zip(*inputs, strict=True)
            values[node.name] = [[list(chain(*pixels)) for pixels in zip(*row, strict=True)] for row in rows]
    raise AssertionError("a graph ends in a head")


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_rules_as_loops(seed: int) -> None:
    _compare(random_graph(seed, blocks=5, max_channels=6, max_size=9), seed)


@pytest.mark.slow
@given(integer_graphs(max_blocks=3, max_channels=5, max_size=7), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equals_the_rules_as_loops_on_any_graph(graph: IntegerGraph, seed: int) -> None:
    _compare(graph, seed)


def _compare(graph: IntegerGraph, seed: int) -> None:
    image = random_images(graph, 1, seed)[0]
    expected = _reference(graph, image.tolist())
    for name, value in execute(graph, image):
        assert value.tolist() == expected[name], name


def _conv(weight: object, bias: object, shift: object, **changes: object) -> Conv:
    weight = np.array(weight, np.int8)
    fields = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "pad_value": np.zeros(weight.shape[3], np.uint8),
        "zero_point": 0,
        "groups": 1,
    } | changes
    return Conv(
        name="conv",
        input="x",
        weight=weight,
        bias=np.array(bias, np.int32),
        shift=np.array(shift, np.uint8),
        scale=np.ones(len(weight), np.float32),
        **fields,  # type: ignore[arg-type]
    )


def _tensor(height: int, width: int, channels: int, zero_point: int = 0) -> Tensor:
    return Tensor(height, width, channels, zero_point, np.ones(channels, np.float32))


@pytest.mark.parametrize(
    ("acc", "k", "zero_point", "expected"),
    [
        (7, 0, 0, 7),
        (256, 0, 0, 255),
        (-1, 0, 0, 0),
        (-1, 0, 128, 127),
        (5, 1, 0, 3),  # 2.5 rounds up
        (-5, 1, 128, 126),  # -2.5 rounds up, to -2
        (-6, 2, 128, 127),  # -1.5 rounds up, to -1
        (-7, 2, 128, 126),
        (2**31 - 1 - 2**14 - 128, 15, 128, 255),
        (3 * 2**15 + 2**14, 15, 0, 4),
        (3 * 2**15 + 2**14 - 1, 15, 0, 3),
        (-(2**22) - 2**14, 15, 128, 0),
        (-(2**22) + 2**14, 15, 128, 1),
    ],
)
def test_requantization_by_hand(acc: int, k: int, zero_point: int, expected: int) -> None:
    node = _conv([[[[0]]]], [acc], [k], zero_point=zero_point)
    (result,) = apply(node, [np.zeros((1, 1, 1), np.uint8)], {"x": _tensor(1, 1, 1)}).ravel()
    assert result == expected


def test_a_bias_that_float32_does_not_hold() -> None:
    """Where it would hold the products: bias and rounding term are 2**24 + 1, the products' sum 1776 - 2**24 - 1."""
    node = _conv([[[[-127] * 518 + [-1]]]], [2**24 - 7], [4])
    (result,) = apply(node, [np.array([[[255] * 518 + [11]]], np.uint8)], {"x": _tensor(1, 1, 519)}).ravel()
    assert result == 1776 // 16, "1775 // 16 is one less"


def test_convolution_by_hand() -> None:
    node = _conv(
        [[[[1, 2], [3, -1]]]], [10], [0], stride=(1, 2), padding=(0, 1, 0, 0), pad_value=np.array([130, 126], np.uint8)
    )
    value = np.array([[[128, 129], [130, 128], [0, 255]]], np.uint8)
    # columns: (pad, 0) and (1, 2), each less the zero point 128
    first = 10 + (1 * 2 + 2 * -2) + (3 * 0 - 1 * 1)
    second = 10 + (1 * 2 + 2 * 0) + (3 * -128 - 1 * 127)
    assert accumulate(node, value, _tensor(1, 3, 2, 128)).tolist() == [[[first], [second]]]


def test_grouped_convolution_by_hand() -> None:
    weight = [[[[1, 2]]], [[[0, -1]]], [[[3, 0]]], [[[1, 1]]]]
    node = _conv(weight, [0, 100, 0, 0], [0] * 4, pad_value=np.zeros(4, np.uint8), groups=2)
    value = np.array([[[5, 6, 7, 8]]], np.uint8)
    assert accumulate(node, value, _tensor(1, 1, 4)).tolist() == [[[5 + 12, 100 - 6, 21, 15]]]


@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_depthwise_convolution_is_a_dense_one_with_zeros(kernel: tuple[int, int], each: int) -> None:
    rng = np.random.default_rng(0)
    count = 6 * each
    weight = rng.integers(-127, 128, (count, *kernel, 1)).astype(np.int8)
    window: dict[str, Any] = {"stride": (1, 2), "padding": (1, 0, 2, 1), "pad_value": np.full(6, 128, np.uint8)}
    bias = rng.integers(-99, 99, count)
    value = rng.integers(0, 256, (2, 5, 7, 6)).astype(np.uint8)
    node = _conv(weight, bias, [3] * count, groups=6, **window)
    dense = np.zeros((count, *kernel, 6), np.int8)
    dense[range(count), ..., np.arange(count) // each] = weight[..., 0]
    expected = accumulate(_conv(dense, bias, [3] * count, **window), value, _tensor(5, 7, 6, 128))
    np.testing.assert_array_equal(accumulate(node, value, _tensor(5, 7, 6, 128)), expected)


def test_max_pooling_by_hand() -> None:
    node = MaxPool("pool", "x", (2, 2), (2, 2), (0, 1, 0, 0), ceil_mode=True)
    value = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    out = apply(node, [value], {"pool": _tensor(2, 3, 1)})
    assert out[:, :, 0].tolist() == [[4, 6, 7], [8, 10, 11]]


def test_addition_by_hand() -> None:
    node = Add("add", ("a", "b"), np.array([[0, 1, 0], [1, 0, 0]], np.uint8), 128, np.ones(3, np.float32))
    tensors = {"a": _tensor(1, 1, 3, 0), "b": _tensor(1, 1, 3, 128)}
    result = apply(node, [np.array([[[10, 7, 255]]], np.uint8), np.array([[[125, 128, 255]]], np.uint8)], tensors)
    # 10 + round(-3 / 2) + 128, round(7 / 2) + 0 + 128, 255 + 127 + 128
    assert result.ravel().tolist() == [137, 132, 255]


def test_concatenation_appends_channels() -> None:
    value = np.array([[[1, 2]]], np.uint8)
    assert apply(Concat("c", ("a", "b", "a")), [value, value + 2, value], {}).tolist() == [[[1, 2, 3, 4, 1, 2]]]


@pytest.mark.parametrize("relu", [False, True])
def test_head_by_hand(relu: bool) -> None:
    head = Head(
        name="head",
        input=IMAGE,
        weight=np.array([[[[1, 0, 0]]], [[[0, -2, 0]]]], np.int8),
        bias=np.array([-5, 100], np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(3, np.uint8),
        relu=relu,
        scale=np.ones(2, np.float32),
    )
    graph = IntegerGraph("tiny", (head,), Preprocessing(size=(1, 2), resize=None))
    image = np.array([[[[3, 40, 9], [9, 60, 9]]]], np.uint8)
    expected = [[0 + 4, 20 + 0]] if relu else [[-2 + 4, 20 - 20]]
    assert run(graph, image).tolist() == expected


@pytest.mark.parametrize("channels", [516, 520, 4000])
def test_exact_on_both_sides_of_what_float32_holds(channels: int) -> None:
    """Odd sums above 2**24 have no float32: 127 * 255 * 519 is one."""
    node = _conv(np.full((1, 1, 1, channels), 127), [1], [0])
    value = np.full((1, 1, channels), 255, np.uint8)
    value[0, 0, ::2] = 254
    expected = 1 + 127 * int(value.astype(np.int64).sum())
    assert accumulate(node, value, _tensor(1, 1, channels)).tolist() == [[[expected]]]


def test_results_are_of_the_stated_types_and_shapes() -> None:
    graph = random_graph(5, blocks=4)
    for name, value in execute(graph, random_images(graph, 1, 0)[0]):
        tensor = graph.tensors[name]
        if name == graph.head.name:
            assert value.dtype == np.int32 and value.shape == (graph.classes,)
        else:
            assert value.dtype == np.uint8 and value.shape == (tensor.height, tensor.width, tensor.channels)


@given(
    st.integers(500, 560),
    st.sampled_from([0, 128]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_exact_where_it_is_said_to_be(channels: int, zero_point: int, largest: float, seed: int) -> None:
    """Large weights and values, around the last reach that float32 is used for, against int64 in a plain loop."""
    rng = np.random.default_rng(seed)
    often = rng.random((3, channels)) < largest
    weight = np.where(often, 127, rng.integers(-127, 128, (3, channels)))
    value = np.where(often[0], 255 * rng.integers(0, 2, channels), rng.integers(0, 256, channels)).astype(np.uint8)
    node = _conv(weight[:, None, None], [0, 7, -(2**24)], [0] * 3, pad_value=np.zeros(channels, np.uint8))
    expected = node.bias.astype(np.int64)
    for o in range(3):
        for w, q in zip(weight[o].tolist(), value.tolist(), strict=True):
            expected[o] += w * (q - zero_point)
    acc = accumulate(node, value[None, None], _tensor(1, 1, channels, zero_point))
    assert acc.ravel().tolist() == expected.tolist()

    exact = exact_type(rules.accumulator_reach(node.weight))
    assert exact is (np.float32 if 255 * np.abs(weight).sum(1).max() < 2**24 else np.float64)
    products = (weight[0] * (value.astype(np.int64) - zero_point))[rng.permutation(channels)]
    assert (products.cumsum() == products.astype(exact).cumsum(dtype=exact)).all(), "every partial sum, in any order"


@pytest.mark.parametrize("part", [1, 60, 10**6])
def test_a_batch_is_its_images(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images and rows are in work at a time."""
    for seed in (2, 6):
        graph = random_graph(seed, blocks=2)
        images = random_images(graph, 5, 0)
        alone = np.concatenate([run(graph, image[None]) for image in images])
        with monkeypatch.context() as patch:
            patch.setattr(oracle, "PART", part)
            patch.setattr(oracle, "BATCH_PIXELS", images[0].size)  # three of them
            np.testing.assert_array_equal(run(graph, images), alone)
        for name, value in execute(graph, images):
            if name == graph.head.name:
                np.testing.assert_array_equal(value, alone)
        assert run(graph, images[:0]).shape == (0, graph.classes)


def test_images_of_another_kind() -> None:
    graph = random_graph(6, blocks=2)
    images = random_images(graph, 1, 0)
    others: list[NDArray[Any]] = [images.astype(np.int8), images[:, 1:], images[0], images[..., :2]]
    for wrong in others:
        with pytest.raises(ValueError, match=r"images must be uint8 \[N, "):
            run(graph, wrong)


def test_the_head_is_run_like_every_node() -> None:
    graph = random_graph(5, blocks=2)
    image = random_images(graph, 1, 0)
    values = dict(execute(graph, image[0]))
    values[IMAGE] = image[0]
    sums = apply(graph.head, [values[graph.head.input]], graph.tensors)
    assert sums.dtype == np.int32
    np.testing.assert_array_equal(sums, run(graph, image)[0])


@pytest.mark.parametrize("name", first_quick(["squeezenet1_1_mindcv", "squeezenet1_0_complex_bypass", "resnet18"]))
def test_real_topologies_tell_images_apart(name: str) -> None:
    graph = squeezenet_graph(name, (64, 47), 10)
    sums = run(graph, random_images(graph, 3, 0))
    assert len(np.unique(sums, axis=0)) == 3
