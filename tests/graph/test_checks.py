"""Every rule about a node has a test that violates it and expects the layer's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Add, Concat, IntegerGraph, MaxPool, rules
from tests.graph.nodes import SIZE, build, conv_node, full, head_node, refused
from tests.graphs import largest_shift_graph, random_graph


@pytest.mark.parametrize("zero_point", [-1, 1, 127, 255, 256])
def test_r1_zero_points(zero_point: int) -> None:
    refused(rf"^conv: zero point {zero_point}, must be 0 or 128 \(R1\)", conv_node(zero_point=zero_point), head_node())


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_r1_scales(scale: float) -> None:
    scales = np.ones(4, np.float32)
    scales[2] = scale
    refused(r"^conv: scales must be positive \(R1\)", conv_node(scale=scales), head_node())
    refused(r"^head: scales must be positive \(R1\)", conv_node(), head_node(classes=4, scale=scales))
    addition = Add("add", ("conv", "conv"), np.zeros((2, 4), np.uint8), 0, scales)
    refused(r"^add: scales must be positive \(R1\)", conv_node(), addition, head_node("add"))


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
        ({"shift": np.array([0, 15, 16, 0], np.uint8)}, r"shift above 15 \(R3\)"),
        ({"scale": np.ones(4)}, "scale is float64, must be float32"),
        ({"stride": (0, 1)}, "stride or padding out of range"),
        ({"padding": (0, 0, -1, 0)}, "stride or padding out of range"),
        ({"padding": (0, 0, 0, 0), "weight": np.ones((4, 7, 1, 3), np.int8)}, "the input is smaller than the kernel"),
    ],
)
def test_r3_convolutions(changes: dict[str, Any], match: str) -> None:
    refused(f"^conv: {match}", conv_node(**changes), head_node())


def test_the_same_holds_for_the_head() -> None:
    refused("^head: weights must lie in -127..127", conv_node(), head_node(weight=np.full((5, 1, 1, 4), -128, np.int8)))
    refused(r"^head: weight has shape \[5, 1, 1, 3\]", conv_node(), head_node(weight=np.ones((5, 1, 1, 3), np.int8)))
    refused("^head: stride or padding out of range", conv_node(), head_node(stride=(1, 0)))
    refused("^head: the input is smaller", conv_node(), head_node(weight=np.ones((5, 9, 1, 4), np.int8)))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("shift", "zero_point"), [(0, 0), (0, 128), (1, 0), (15, 128)])
def test_r4_exactly_at_the_limit(sign: int, shift: int, zero_point: int) -> None:
    rounding = (1 << shift) // 2
    limit = 2**31 - 1 - 255 * (26 + 127) - rounding - zero_point
    weight = np.ones((4, 3, 3, 3), np.int8)
    weight[2, 1, 1, 1] = -127
    bias = np.array([0, 0, sign * limit, 0], np.int32)
    conv = conv_node(weight=weight, bias=bias, shift=full(shift, 4, np.uint8), zero_point=zero_point)
    head = head_node(pad_value=full(zero_point, 4, np.uint8))
    build(conv, head)
    beyond = bias + np.array([0, 0, sign, 0], np.int32)
    refused(r"^conv: int32 can overflow in channel 2: bound 2147483648 \(R4\)", replace(conv, bias=beyond), head)


def test_r4_holds_for_the_least_int32() -> None:
    refused(
        r"^conv: int32 can overflow in channel 1", conv_node(bias=np.array([0, -(2**31), 0, 0], np.int32)), head_node()
    )


def test_r6_exactly_at_the_limit() -> None:
    pixels = SIZE[0] * SIZE[1]
    limit = (2**31 - 1) // pixels - 255 * 4
    head = head_node(bias=np.array([0, limit, -limit, 0, 0], np.int32))
    build(conv_node(), head)
    beyond = replace(head, bias=np.array([0, 0, 0, -limit - 1, 0], np.int32))
    refused(r"^head: int32 can overflow in channel 3: bound \d+ \(R6\)", conv_node(), beyond)
    one_pixel = replace(beyond, stride=SIZE)
    build(conv_node(), one_pixel)


def test_r6_bounds_beyond_64_bits() -> None:
    """A product of bound and map that is 2**64 must not count as 0."""
    huge = Preprocessing(size=(2**13, 2**13), resize=None)
    head = head_node(
        IMAGE, 3, weight=np.zeros((5, 1, 1, 3), np.int8), bias=full(2**30, 5, np.int32), padding=(2**27,) * 4
    )
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
    refused(f"^pool: {match}", conv_node(), MaxPool("pool", "conv", *arguments), head_node("pool"))


def test_r5_concatenation() -> None:
    refused("^joined: has no input", conv_node(), Concat("joined", ()), head_node("joined"))
    refused(
        "^joined: a concatenation needs at least two", conv_node(), Concat("joined", ("conv",)), head_node("joined")
    )
    both = Concat("joined", ("conv", "other"))
    signed = conv_node("other", zero_point=128)
    refused(r"^joined: zero points differ \(R5\)", conv_node(), signed, both, head_node("joined", 8))
    small = conv_node("other", stride=(2, 1))
    refused(r"^joined: the inputs differ in height or width \(R5\)", conv_node(), small, both, head_node("joined", 8))
    scaled = conv_node("other", scale=full(3, 4, np.float32))
    graph = build(conv_node(), scaled, both, head_node("joined", 8))
    np.testing.assert_array_equal(graph.tensors["joined"].scale, [1, 1, 1, 1, 3, 3, 3, 3])


def _add(**changes: Any) -> Add:  # noqa: ANN401
    shift = np.array([[0, 1, 0, 2], [1, 0, 3, 2]], np.uint8)
    return replace(Add("add", ("conv", "other"), shift, 0, np.array([1, 2, 1, 4], np.float32)), **changes)


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
    nodes = (conv_node(), conv_node("other", scale=np.array([0.5, 2, 0.125, 1], np.float32)))
    build(*nodes, _add(), head_node("add"))
    refused(f"^add: {match}", *nodes, change(_add()), head_node("add"))


def test_r5_addition_of_maps_of_two_sizes() -> None:
    small = conv_node("other", stride=(1, 2), scale=np.array([0.5, 2, 0.125, 1], np.float32))
    refused(r"^add: the inputs differ in height or width \(R5\)", conv_node(), small, _add(), head_node("add"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"groups": 0}, "0 groups; there must be 1 or more"),
        ({"groups": -3}, "-3 groups; there must be 1 or more"),
        ({"groups": 2}, "2 groups do not divide its 3 input and 4 output channels"),
        ({"groups": 3}, "3 groups do not divide its 3 input and 4 output channels"),
        (
            {"groups": 3, "weight": np.ones((6, 3, 3, 3), np.int8)},
            r"weight has shape \[6, 3, 3, 3\], must be \[6, 3, 3, 1\]",
        ),
        ({"weight": np.ones((4, 3, 3, 1), np.int8)}, r"weight has shape \[4, 3, 3, 1\], must be \[4, 3, 3, 3\]"),
    ],
)
def test_r3_groups(changes: dict[str, Any], match: str) -> None:
    refused(f"^conv: {match}", conv_node(**changes), head_node())


def test_r3_groups_of_the_head() -> None:
    head = head_node(classes=6, groups=2, weight=np.ones((6, 1, 1, 2), np.int8))
    assert build(conv_node(), head).head.groups == 2
    refused(r"^head: 4 groups do not divide its 4 input and 6 output", conv_node(), replace(head, groups=4))


def test_r4_counts_the_weights_of_one_group() -> None:
    weight = full(127, 3 * 3 * 3, np.int8).reshape(3, 3, 3, 1)
    room = 2**31 - 1 - 255 * 9 * 127
    zeros: dict[str, Any] = {"shift": full(0, 3, np.uint8), "scale": full(1, 3, np.float32)}
    conv = conv_node(weight=weight, bias=np.array([0, room, -room], np.int32), groups=3, **zeros)
    head = head_node(channels=3)
    build(conv, head)
    beyond = replace(conv, bias=np.array([0, 0, -room - 1], np.int32))
    refused(r"^conv: int32 can overflow in channel 2: bound 2147483648 \(R4\)", beyond, head)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [8, 18])
def test_the_largest_shift_is_stated_once(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """With another largest shift in rules.py, graphs up to it are taken and those beyond it are refused."""

    def taken(graph: IntegerGraph) -> bool:
        try:
            IntegerGraph(graph.name, graph.nodes, graph.preprocessing)
        except UnsupportedError as error:
            assert re.search(rf"^\w+[^:]*: shift above {rules.MAX_SHIFT} \(R3\)", str(error)), error
            return False
        return True

    with monkeypatch.context() as patch:
        patch.setattr(rules, "MAX_SHIFT", limit)
        graphs = [largest_shift_graph(seed) for seed in range(5)] + [random_graph(seed) for seed in range(40)]
        assert all(map(taken, graphs))
    largest = [
        max([int(vars(node)["shift"].max()) for node in graph.nodes if "shift" in vars(node)], default=0)
        for graph in graphs
    ]
    assert max(largest) == limit
    assert [taken(graph) for graph in graphs] == [shift <= rules.MAX_SHIFT for shift in largest]
    monkeypatch.setattr(rules, "MAX_SHIFT", limit - 1)
    assert [taken(graph) for graph in graphs] == [shift < limit for shift in largest]


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("WEIGHT_LIMIT", 63, r"^conv: weights must lie in -63..63 \(R3\)"),
        ("INT32_LIMIT", 2**14, r"^conv: int32 can overflow in channel 0: bound \d+ \(R4\)"),
        ("Q_MAX", 2**30, r"^conv: int32 can overflow in channel 0: bound \d+ \(R4\)"),
        ("ZERO_POINTS", (0, 64), r"^conv: zero point 128, must be 0 or 64 \(R1\)"),
    ],
)
def test_the_other_limits_are_stated_once(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, match: str
) -> None:
    nodes = (
        conv_node(weight=full(64, 4 * 27, np.int8).reshape(4, 3, 3, 3), zero_point=128),
        head_node(pad_value=full(128, 4, np.uint8)),
    )
    build(*nodes)
    monkeypatch.setattr(rules, name, value)
    refused(match, *nodes)
