"""Every rule of the integer graph has a test that violates it and expects the layer's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.graph.oracle import run
from squeezeedge.graph.windows import window_outputs
from tests.graphs import integer_graphs, random_graph, squeezenet_graph

SIZE = (6, 8)


def _conv(name: str = "conv", source: str = IMAGE, out: int = 4, channels: int = 3, **changes: Any) -> Conv:  # noqa: ANN401
    node = Conv(
        name=name,
        input=source,
        weight=np.ones((out, 3, 3, channels), np.int8),
        bias=np.zeros(out, np.int32),
        shift=np.full(out, 4, np.uint8),
        stride=(1, 1),
        padding=(1, 1, 1, 1),
        pad_value=np.zeros(channels, np.uint8),
        zero_point=0,
        scale=np.ones(out, np.float32),
    )
    return replace(node, **changes)


def _head(source: str = "conv", channels: int = 4, classes: int = 5, **changes: Any) -> Head:  # noqa: ANN401
    node = Head(
        name="head",
        input=source,
        weight=np.ones((classes, 1, 1, channels), np.int8),
        bias=np.zeros(classes, np.int32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        pad_value=np.zeros(channels, np.uint8),
        relu=True,
        scale=np.ones(classes, np.float32),
    )
    return replace(node, **changes)


def _graph(*nodes: Node, name: str = "graph", labels: tuple[str, ...] = ()) -> IntegerGraph:
    return IntegerGraph(name, nodes, Preprocessing(size=SIZE, resize=None), labels)


def _refused(match: str, *nodes: Node) -> None:
    with pytest.raises(UnsupportedError, match=match):
        _graph(*nodes)


def _full(value: int | float, count: int, dtype: type[np.generic]) -> NDArray[Any]:
    return np.full(count, value, dtype)


def test_what_a_graph_knows() -> None:
    conv = _conv(stride=(2, 1), zero_point=128)
    pool = MaxPool("pool", "conv", (2, 3), (2, 2), (0, 1, 0, 1), ceil_mode=True)
    head = _head("joined", 8, pad_value=_full(128, 8, np.uint8))
    graph = _graph(conv, pool, Concat("joined", ("pool", "pool")), head, labels=tuple("abcde"))
    shapes = {name: (t.height, t.width, t.channels, t.zero_point) for name, t in graph.tensors.items()}
    assert shapes == {
        "image": (6, 8, 3, 0),
        "conv": (3, 8, 4, 128),
        "pool": (2, 5, 4, 128),
        "joined": (2, 5, 8, 128),
        "head": (2, 5, 5, 0),
    }
    assert graph.head is head and graph.classes == 5 and graph.input_shape == (6, 8, 3)
    assert graph.macs == 3 * 8 * 4 * 27 + 2 * 5 * 5 * 8


@pytest.mark.parametrize(
    ("name", "millions"),
    [("squeezenet1_0", 818.9), ("squeezenet1_1", 349.2)],  # "MAdds" of torchvision's model table
)
def test_multiply_accumulates_of_the_published_networks(name: str, millions: float) -> None:
    assert squeezenet_graph(name, 224).macs / 1e6 == pytest.approx(millions, rel=1e-3)


def test_logits_are_scaled_sums() -> None:
    graph = _graph(_conv(), _head(scale=np.float32([1, 2, 0.5, 4, 0.25])))
    sums = np.int32([[1, 2, 3, 4, 5], [-8, 8, -8, 8, -8]])
    np.testing.assert_array_equal(graph.logits(sums), np.float32([[1, 4, 1.5, 16, 1.25], [-8, 16, -4, 32, -2]]))


def test_structure() -> None:
    _refused("graph graph: the last node must be the head .R6", _conv())
    _refused("graph graph: the last node must be the head .R6")
    _refused("head: a head that is not the last node .R6", _head(IMAGE, 3), _conv(), replace(_head(), name="end"))
    _refused("conv: the name is used twice", _conv(), _conv(), _head())
    _refused("image: the name is used twice", _conv("image"), _head())
    _refused("head: input conv is not made by an earlier node", _head())
    _refused("conv: input conv is not made by an earlier node", _conv(source="conv", channels=4), _head())
    _refused("dead: nothing reads its output", _conv(), _conv("dead"), _head())


@pytest.mark.parametrize("name", ["", "con\nv", "\0"])
def test_node_names(name: str) -> None:
    _refused("must be printable text", _conv(name), _head(name))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb"])
def test_graph_names(name: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be a file's name"):
        _graph(_conv(), _head(), name=name)


def test_labels_are_as_many_as_classes() -> None:
    with pytest.raises(UnsupportedError, match="graph graph: 2 labels for 5 classes"):
        _graph(_conv(), _head(), labels=("a", "b"))


@pytest.mark.parametrize("zero_point", [-1, 1, 127, 255, 256])
def test_r1_zero_points(zero_point: int) -> None:
    _refused(rf"^conv: zero point {zero_point}, must be 0 or 128 \(R1\)", _conv(zero_point=zero_point), _head())


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_r1_scales(scale: float) -> None:
    scales = np.ones(4, np.float32)
    scales[2] = scale
    _refused(r"^conv: scales must be positive \(R1\)", _conv(scale=scales), _head())
    _refused(r"^head: scales must be positive \(R1\)", _conv(), _head(classes=4, scale=scales))
    addition = Add("add", ("conv", "conv"), np.zeros((2, 4), np.uint8), 0, scales)
    _refused(r"^add: scales must be positive \(R1\)", _conv(), addition, _head("add"))


def test_r2_only_the_image_has_a_pad_value_of_its_own() -> None:
    mean = np.uint8([124, 116, 104])
    assert _graph(_conv(pad_value=mean), _head()).nodes[0].inputs == (IMAGE,)
    second = _conv("second", "conv", channels=4)
    _graph(_conv(), second, _head("second"))
    _refused("^second: pad value must be the zero point", _conv(zero_point=128), second, _head("second"))
    wrong = replace(second, pad_value=np.uint8([0, 0, 0, 1]))
    _refused("^second: pad value must be the zero point", _conv(), wrong, _head("second"))
    _refused("^head: pad value must be the zero point", _conv(), _head(pad_value=_full(3, 4, np.uint8)))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weight": np.ones((4, 27), np.int8)}, r"weight must be \[out, kernel_h, kernel_w, in / groups\]"),
        ({"weight": np.ones((4, 3, 3, 3), np.int16)}, "weight is int16, must be int8"),
        ({"weight": np.ones((4, 3, 3, 5), np.int8)}, r"weight has shape \[4, 3, 3, 5\], must be \[4, 3, 3, 3\]"),
        ({"weight": np.ones((4, 0, 3, 3), np.int8)}, "an empty weight"),
        ({"weight": np.full((4, 3, 3, 3), -128, np.int8)}, r"weights must lie in -127..127 \(R3\)"),
        ({"bias": np.zeros(3, np.int32)}, r"bias has shape \[3\], must be \[4\]"),
        ({"bias": np.zeros(4, np.int64)}, "bias is int64, must be int32"),
        ({"pad_value": np.zeros(1, np.uint8)}, r"pad_value has shape \[1\], must be \[3\]"),
        ({"shift": np.zeros(4, np.int32)}, "shift is int32, must be uint8"),
        ({"shift": np.zeros((4, 1), np.uint8)}, r"shift has shape \[4, 1\], must be \[4\]"),
        ({"shift": np.uint8([0, 15, 16, 0])}, r"shift above 15 \(R3\)"),
        ({"scale": np.ones(4)}, "scale is float64, must be float32"),
        ({"stride": (0, 1)}, "stride or padding out of range"),
        ({"padding": (0, 0, -1, 0)}, "stride or padding out of range"),
        ({"padding": (0, 0, 0, 0), "weight": np.ones((4, 7, 1, 3), np.int8)}, "the input is smaller than the kernel"),
    ],
)
def test_r3_convolutions(changes: dict[str, Any], match: str) -> None:
    _refused(f"^conv: {match}", _conv(**changes), _head())


def test_the_same_holds_for_the_head() -> None:
    _refused("^head: weights must lie in -127..127", _conv(), _head(weight=np.full((5, 1, 1, 4), -128, np.int8)))
    _refused(r"^head: weight has shape \[5, 1, 1, 3\]", _conv(), _head(weight=np.ones((5, 1, 1, 3), np.int8)))
    _refused("^head: stride or padding out of range", _conv(), _head(stride=(1, 0)))
    _refused("^head: the input is smaller", _conv(), _head(weight=np.ones((5, 9, 1, 4), np.int8)))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("shift", "zero_point"), [(0, 0), (0, 128), (1, 0), (15, 128)])
def test_r4_exactly_at_the_limit(sign: int, shift: int, zero_point: int) -> None:
    rounding = (1 << shift) // 2
    limit = 2**31 - 1 - 255 * (26 + 127) - rounding - zero_point
    weight = np.ones((4, 3, 3, 3), np.int8)
    weight[2, 1, 1, 1] = -127
    bias = np.int32([0, 0, sign * limit, 0])
    conv = _conv(weight=weight, bias=bias, shift=_full(shift, 4, np.uint8), zero_point=zero_point)
    head = _head(pad_value=_full(zero_point, 4, np.uint8))
    _graph(conv, head)
    beyond = bias + np.int32([0, 0, sign, 0])
    _refused(r"^conv: int32 can overflow in channel 2: bound 2147483648 \(R4\)", replace(conv, bias=beyond), head)


def test_r4_holds_for_the_least_int32() -> None:
    _refused(r"^conv: int32 can overflow in channel 1", _conv(bias=np.int32([0, -(2**31), 0, 0])), _head())


def test_r6_exactly_at_the_limit() -> None:
    pixels = SIZE[0] * SIZE[1]
    limit = (2**31 - 1) // pixels - 255 * 4
    head = _head(bias=np.int32([0, limit, -limit, 0, 0]))
    _graph(_conv(), head)
    beyond = replace(head, bias=np.int32([0, 0, 0, -limit - 1, 0]))
    _refused(r"^head: int32 can overflow in channel 3: bound \d+ \(R6\)", _conv(), beyond)
    one_pixel = replace(beyond, stride=SIZE)
    _graph(_conv(), one_pixel)


def test_r6_bounds_beyond_64_bits() -> None:
    """A product of bound and map that is 2**64 must not count as 0."""
    huge = Preprocessing(size=(2**13, 2**13), resize=None)
    head = _head(IMAGE, 3, weight=np.zeros((5, 1, 1, 3), np.int8), bias=_full(2**30, 5, np.int32), padding=(2**27,) * 4)
    with pytest.raises(UnsupportedError, match=r"^head: int32 can overflow in channel 0: bound \d{20,} \(R6\)"):
        IntegerGraph("huge", (head,), huge)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (((0, 2), (1, 1)), "kernel and stride must be positive"),
        (((2, 2), (1, 0)), "kernel and stride must be positive"),
        (((2, 2), (1, 1), (2, 0, 0, 0)), r"padding must be smaller than the kernel, .* \(R5\)"),
        (((2, 2), (1, 1), (0, 0, 0, 2)), "padding must be smaller than the kernel"),
        (((2, 2), (1, 1), (0, -1, 0, 0)), "padding must be smaller than the kernel"),
        (((7, 1), (1, 1)), "the input is smaller than the window"),
    ],
)
def test_r5_max_pooling(arguments: tuple[Any, ...], match: str) -> None:
    _refused(f"^pool: {match}", _conv(), MaxPool("pool", "conv", *arguments), _head("pool"))


def test_r5_concatenation() -> None:
    _refused("^joined: has no input", _conv(), Concat("joined", ()), _head("joined"))
    _refused("^joined: a concatenation needs at least two", _conv(), Concat("joined", ("conv",)), _head("joined"))
    both = Concat("joined", ("conv", "other"))
    signed = _conv("other", zero_point=128)
    _refused(r"^joined: zero points differ \(R5\)", _conv(), signed, both, _head("joined", 8))
    small = _conv("other", stride=(2, 1))
    _refused(r"^joined: the inputs differ in height or width \(R5\)", _conv(), small, both, _head("joined", 8))
    scaled = _conv("other", scale=_full(3, 4, np.float32))
    graph = _graph(_conv(), scaled, both, _head("joined", 8))
    np.testing.assert_array_equal(graph.tensors["joined"].scale, [1, 1, 1, 1, 3, 3, 3, 3])


def _add(**changes: Any) -> Add:  # noqa: ANN401
    shift = np.uint8([[0, 1, 0, 2], [1, 0, 3, 2]])
    return replace(Add("add", ("conv", "other"), shift, 0, np.float32([1, 2, 1, 4])), **changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: replace(a, shift=a.shift[:, :3]), r"shift has shape \[2, 3\], must be \[2, 4\]"),
        (lambda a: replace(a, shift=a.shift.astype(np.int64)), "shift is int64, must be uint8"),
        (lambda a: replace(a, shift=a.shift + np.uint8(14)), r"shift above 15 \(R3\)"),
        (lambda a: replace(a, scale=a.scale * np.float32(1.001)), r"operand scale \* 2\*\*shift differs .* \(R5\)"),
        (lambda a: replace(a, inputs=("other", "conv")), r"operand scale \* 2\*\*shift differs .* \(R5\)"),
        (lambda a: replace(a, zero_point=64), r"zero point 64, must be 0 or 128 \(R1\)"),
        (lambda a: replace(a, scale=a.scale[:3]), r"scale has shape \[3\], must be \[4\]"),
        (lambda a: replace(a, inputs=("conv",)), "operands differ in channels"),
        (lambda a: replace(a, inputs=("conv", "conv", "other")), "operands differ in channels"),
        (lambda a: replace(a, inputs=("conv", IMAGE)), r"operands differ in channels \(R5\)"),
    ],
)
def test_r5_addition(change: Callable[[Add], Add], match: str) -> None:
    nodes = (_conv(), _conv("other", scale=np.float32([0.5, 2, 0.125, 1])))
    _graph(*nodes, _add(), _head("add"))
    _refused(f"^add: {match}", *nodes, change(_add()), _head("add"))


def test_r5_addition_of_maps_of_two_sizes() -> None:
    small = _conv("other", stride=(1, 2), scale=np.float32([0.5, 2, 0.125, 1]))
    _refused(r"^add: the inputs differ in height or width \(R5\)", _conv(), small, _add(), _head("add"))


def _signed(graph: IntegerGraph, image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The head's accumulators of an all-convolution graph, stored signed as R7 says."""
    value = image.astype(np.int64) - 128
    for node in graph.nodes:
        assert isinstance(node, Conv | Head)
        zero_point = graph.tensors[node.input].zero_point
        weight = node.weight.astype(np.int64)
        bias = node.bias + (128 - zero_point) * weight.sum((1, 2, 3))
        top, left, bottom, right = node.padding
        padded = np.empty((value.shape[0] + top + bottom, value.shape[1] + left + right, value.shape[2]), np.int64)
        padded[:] = node.pad_value.astype(np.int64) - 128
        padded[top : top + value.shape[0], left : left + value.shape[1]] = value
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[1:3], (0, 1))
        acc = np.einsum("yxikl,okli->yxo", windows[:: node.stride[0], :: node.stride[1]], weight) + bias
        assert np.abs(acc).max() < 2**31
        if isinstance(node, Conv):
            k = node.shift.astype(np.int64)
            value = (((acc + ((1 << k) >> 1)) >> k) + node.zero_point).clip(0, 255) - 128
    return np.maximum(acc, 0) if graph.head.relu else acc


@pytest.mark.parametrize("zero_point", [0, 128])
def test_r7_signed_storage_is_the_same_graph(zero_point: int) -> None:
    rng = np.random.default_rng(0)
    first = _conv(
        weight=rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        bias=rng.integers(-9999, 9999, 4).astype(np.int32),
        shift=np.uint8([7, 8, 9, 10]),
        pad_value=np.uint8([124, 116, 104]),
        stride=(2, 1),
        zero_point=zero_point,
    )
    head = _head(
        weight=rng.integers(-127, 128, (5, 3, 1, 4)).astype(np.int8),
        pad_value=_full(zero_point, 4, np.uint8),
        padding=(1, 0, 1, 0),
        relu=zero_point == 0,
    )
    graph = _graph(first, head)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    np.testing.assert_array_equal(_signed(graph, image).sum((0, 1)), run(graph, image[None])[0])


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_window_counts_as_in_torch(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
    import torch

    if 2 * padding > kernel or size + 2 * padding < kernel:
        return
    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=ceil_mode).shape[2]
    assert window_outputs(size, kernel, stride, padding, padding, ceil_mode) == expected


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.data(), st.booleans())
def test_r5_every_window_has_a_valid_pixel(
    size: int, kernel: int, stride: int, data: st.DataObject, ceil_mode: bool
) -> None:
    before, after = (data.draw(st.integers(0, kernel - 1)) for _ in range(2))
    for place in range(window_outputs(size, kernel, stride, before, after, ceil_mode)):
        start = place * stride - before
        assert start < size and start + kernel > 0


@given(integer_graphs(max_channels=8, max_size=8), st.data())
@settings(max_examples=30, deadline=None)
def test_a_digest_is_of_every_value(graph: IntegerGraph, data: st.DataObject) -> None:
    same = IntegerGraph(graph.name, graph.nodes, graph.preprocessing, graph.labels)
    assert same.digest() == graph.digest()
    assert replace(graph, name="other").digest() != graph.digest()
    assert replace(graph, labels=("x",) * graph.classes).digest() != graph.digest()
    bias = graph.head.bias.copy()
    bias[data.draw(st.integers(0, len(bias) - 1))] ^= 1
    changed = replace(graph, nodes=(*graph.nodes[:-1], replace(graph.head, bias=bias)))
    assert changed.digest() != graph.digest()


def test_parts_hold_everything() -> None:
    graph = random_graph(3, blocks=4)
    header, arrays = graph.to_parts()
    assert [node["op"] for node in header["nodes"]] == [type(node).__name__ for node in graph.nodes]
    for node in graph.nodes:
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                assert arrays[f"{node.name}.{key}"] is value
