"""The integer graph as a whole: its structure, what it knows about itself, its digest, and R7."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Concat, Conv, Head, IntegerGraph, MaxPool
from squeezeedge.graph.oracle import run
from tests.graph.nodes import SIZE, build, conv_node, full, head_node, refused
from tests.graphs import integer_graphs, random_graph, squeezenet_graph


def test_what_a_graph_knows() -> None:
    conv = conv_node(stride=(2, 1), zero_point=128)
    pool = MaxPool("pool", "conv", (2, 3), (2, 2), (0, 1, 0, 1), ceil_mode=True)
    head = head_node("joined", 8, pad_value=full(128, 8, np.uint8))
    graph = build(conv, pool, Concat("joined", ("pool", "pool")), head, labels=tuple("abcde"))
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
    graph = build(conv_node(), head_node(scale=np.array([1, 2, 0.5, 4, 0.25], np.float32)))
    sums = np.array([[1, 2, 3, 4, 5], [-8, 8, -8, 8, -8]], np.int32)
    np.testing.assert_array_equal(
        graph.logits(sums), np.array([[1, 4, 1.5, 16, 1.25], [-8, 16, -4, 32, -2]], np.float32)
    )


def test_structure() -> None:
    refused("graph graph: the last node must be the head .R6", conv_node())
    refused("graph graph: the last node must be the head .R6")
    refused(
        "head: a head that is not the last node .R6", head_node(IMAGE, 3), conv_node(), replace(head_node(), name="end")
    )
    refused("conv: the name is used twice", conv_node(), conv_node(), head_node())
    refused("image: the name is used twice", conv_node("image"), head_node())
    refused("head: input conv is not made by an earlier node", head_node())
    refused("conv: input conv is not made by an earlier node", conv_node(source="conv", channels=4), head_node())
    refused("dead: nothing reads its output", conv_node(), conv_node("dead"), head_node())


@pytest.mark.parametrize("name", ["", "con\nv", "\0"])
def test_node_names(name: str) -> None:
    refused("must be printable text", conv_node(name), head_node(name))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb"])
def test_graph_names(name: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be a file's name"):
        build(conv_node(), head_node(), name=name)


def test_labels_are_as_many_as_classes() -> None:
    with pytest.raises(UnsupportedError, match="graph graph: 2 labels for 5 classes"):
        build(conv_node(), head_node(), labels=("a", "b"))


def test_r2_only_the_image_has_a_pad_value_of_its_own() -> None:
    mean = np.array([124, 116, 104], np.uint8)
    assert build(conv_node(pad_value=mean), head_node()).nodes[0].inputs == (IMAGE,)
    second = conv_node("second", "conv", channels=4)
    build(conv_node(), second, head_node("second"))
    refused("^second: pad value must be the zero point", conv_node(zero_point=128), second, head_node("second"))
    wrong = replace(second, pad_value=np.array([0, 0, 0, 1], np.uint8))
    refused("^second: pad value must be the zero point", conv_node(), wrong, head_node("second"))
    refused("^head: pad value must be the zero point", conv_node(), head_node(pad_value=full(3, 4, np.uint8)))


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
    sums: NDArray[np.int64] = np.maximum(acc, 0) if graph.head.relu else acc
    return sums


@pytest.mark.parametrize("zero_point", [0, 128])
def test_r7_signed_storage_is_the_same_graph(zero_point: int) -> None:
    rng = np.random.default_rng(0)
    first = conv_node(
        weight=rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        bias=rng.integers(-9999, 9999, 4).astype(np.int32),
        shift=np.array([7, 8, 9, 10], np.uint8),
        pad_value=np.array([124, 116, 104], np.uint8),
        stride=(2, 1),
        zero_point=zero_point,
    )
    head = head_node(
        weight=rng.integers(-127, 128, (5, 3, 1, 4)).astype(np.int8),
        pad_value=full(zero_point, 4, np.uint8),
        padding=(1, 0, 1, 0),
        relu=zero_point == 0,
    )
    graph = build(first, head)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    np.testing.assert_array_equal(_signed(graph, image).sum((0, 1)), run(graph, image[None])[0])


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


def test_groups_are_part_of_a_digest_where_there_are_any() -> None:
    graph = random_graph(3, blocks=4, groups=False)
    assert all("groups" not in node for node in graph.to_parts()[0]["nodes"])
    weight = np.ones((6, 1, 1, 2), np.int8)
    head = head_node(classes=6, weight=weight, groups=2)
    nodes = build(conv_node(), head).to_parts()[0]["nodes"]
    assert [node["groups"] for node in nodes] == [1, 2]


def test_rounding_is_half_of_what_is_shifted_out() -> None:
    conv = conv_node(shift=np.array([0, 1, 2, 15], np.uint8))
    assert conv.rounding.tolist() == [0, 1, 2, 2**14] and conv.rounding.dtype == np.int64
    assert head_node().rounding.tolist() == [0] * 5
