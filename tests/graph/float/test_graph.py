"""The float graph refuses what does not fit together, and knows every tensor's shape."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatNode,
    FloatRelu,
)

SIZE = (9, 12)


def _ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def _conv(
    name: str = "conv",
    source: str = IMAGE,
    shape: tuple[int, ...] = (4, 3, 3, 3),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> FloatConv:
    return FloatConv(name, (source,), _ones(*shape), _ones(shape[0]), stride, padding, groups=groups)


def _pool(
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (2, 2),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    ceil_mode: bool = False,
) -> FloatMaxPool:
    return FloatMaxPool("pool", ("conv",), kernel, stride, padding, ceil_mode)


def _average(kernel: tuple[int, int] = (3, 3), divisor: int = 9) -> FloatAveragePool:
    return FloatAveragePool("average", ("conv",), kernel, (2, 3), (1, 0, 0, 1), divisor)


def _mean(source: str) -> FloatGlobalAveragePool:
    return FloatGlobalAveragePool("mean", (source,))


def _linear(source: str = "mean", shape: tuple[int, int] = (5, 4), name: str = "fc") -> FloatLinear:
    return FloatLinear(name, (source,), _ones(*shape), _ones(shape[0]))


def _graph(*nodes: FloatNode, size: tuple[int, int] = SIZE) -> FloatGraph:
    return FloatGraph("network", nodes, size)


def test_shapes_of_every_tensor() -> None:
    graph = _graph(
        _conv(stride=(2, 3), padding=(1, 0, 2, 1)),
        FloatBatchNorm("norm", ("conv",), _ones(4), _ones(4)),
        FloatRelu("relu", ("norm",)),
        FloatAdd("sum", ("conv", "relu")),
        FloatConcat("joined", ("sum", "conv", "relu")),
        FloatMaxPool("pool", ("joined",), (2, 3), (2, 1), (0, 1, 0, 1), ceil_mode=True),
        _mean("pool"),
        _linear(shape=(5, 12)),
    )
    assert graph.shapes == {
        "image": (9, 12, 3),
        "conv": (5, 4, 4),
        "norm": (5, 4, 4),
        "relu": (5, 4, 4),
        "sum": (5, 4, 4),
        "joined": (5, 4, 12),
        "pool": (3, 4, 12),
        "mean": (1, 1, 12),
        "fc": (1, 1, 5),
    }


def test_grouped_convolution() -> None:
    graph = _graph(_conv(), _conv("grouped", "conv", (6, 2, 3, 3), groups=2), _mean("grouped"))
    assert graph.shapes["grouped"] == (5, 8, 6)


def test_local_average_pooling() -> None:
    assert _graph(_conv(), _average(), _mean("average")).shapes["average"] == (3, 3, 4)


@pytest.mark.parametrize(
    "nodes",
    [
        [_conv(), _mean("conv")],
        [_conv(shape=(4, 3, 9, 12))],
        [_conv(shape=(4, 3, 9, 12)), _linear("conv")],
    ],
)
def test_the_ways_to_end(nodes: list[FloatNode]) -> None:
    assert _graph(*nodes).shapes[nodes[-1].name][:2] == (1, 1)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([], "network network: it has no layers"),
        ([_conv("image"), _mean("image")], "image: the name is used twice"),
        ([_conv(), _conv(), _mean("conv")], "conv: the name is used twice"),
        ([_mean("conv"), _conv()], "mean: input conv is not made by an earlier node"),
        ([FloatConcat("joined", ()), _mean("joined")], "joined: it has no input"),
        ([_conv(), _conv("dead"), _mean("conv")], "dead: nothing reads its output"),
        ([_conv()], "conv: the result must be one value a class, not 4x7x10"),
        (
            [_conv(shape=(4, 5, 3, 3)), _mean("conv")],
            r"conv: weight is .*\[4, 5, 3, 3\], must be .* \[4, 3, 3, 3\]",
        ),
        (
            [_conv(shape=(6, 3, 3, 3), groups=3), _mean("conv")],
            r"conv: weight is .*\[6, 3, 3, 3\], must be .* \[6, 1, 3, 3\]",
        ),
        (
            [_conv(shape=(6, 1, 3, 3), groups=2), _mean("conv")],
            "conv: 2 groups do not divide its 3 input and 6 output channels",
        ),
        ([_conv(groups=3), _mean("conv")], "conv: 3 groups do not divide its 3 input and 4 output channels"),
        ([_conv(groups=0), _mean("conv")], "conv: 0 groups do not divide"),
        ([_conv(shape=(4, 3, 3)), _mean("conv")], r"conv: weight is float32 \[4, 3, 3\]"),
        ([_conv(shape=(0, 3, 3, 3)), _mean("conv")], r"conv: weight is float32 \[0, 3, 3, 3\]"),
        ([_conv(stride=(0, 1)), _mean("conv")], "conv: .*stride .0, 1. .*out of range"),
        ([_conv(padding=(0, 0, -1, 0)), _mean("conv")], "conv: .*padding .* out of range"),
        ([_conv(shape=(4, 3, 11, 3)), _mean("conv")], "conv: its input of 9x12 pixels is smaller than its kernel"),
        ([_conv(), _pool((8, 1), (1, 1)), _mean("pool")], "pool: its input of 7x10 pixels is smaller"),
        ([_conv(), _average((9, 1)), _mean("average")], "average: its input of 7x10 pixels is smaller"),
        ([_conv(), _average(divisor=0), _mean("average")], "average: it averages 0 pixels"),
        ([_conv(), FloatBatchNorm("bn", ("conv",), _ones(4), _ones(3)), _mean("bn")], r"bn: offset is float32 \[3\]"),
        ([_conv(), _pool(), FloatAdd("sum", ("conv", "pool")), _mean("sum")], "sum: it adds 4x7x10 and 4x3x4"),
        ([_conv(), _pool(), FloatConcat("j", ("conv", "pool")), _mean("j")], "j: it concatenates 4x7x10 and 4x3x4"),
        ([_conv(), _linear("conv")], "fc: the fully connected layer reads a map of 7x10 pixels"),
        ([_conv(), _mean("conv"), _linear(shape=(5, 3))], r"fc: weight is float32 \[5, 3\], must be float32 \[5, 4\]"),
        ([_conv(), _mean("conv"), FloatRelu("relu", ("mean",))], "mean: a global average pooling must be the last"),
        (
            [_conv(), _mean("conv"), _linear(), _linear("fc", (2, 5), "fc2")],
            "mean: a global average pooling must be the last node, or the last before",
        ),
        (
            [_conv(shape=(4, 3, 9, 12)), _linear("conv"), FloatRelu("r", ("fc",))],
            "fc: a fully connected layer must be",
        ),
    ],
)
def test_what_does_not_fit_together(nodes: list[FloatNode], match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        _graph(*nodes)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (10**5, 10**5)])
def test_image_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedError, match=f"its input has {size[0]}x{size[1]} pixels"):
        _graph(_conv(), _mean("conv"), size=size)


def test_types_and_values_of_arrays() -> None:
    conv = FloatConv("conv", (IMAGE,), np.ones((4, 3, 3, 3)), _ones(4), (1, 1), (0, 0, 0, 0))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="conv: weight is float64"):
        _graph(conv, _mean("conv"))
    for value in (np.nan, np.inf):
        conv = _conv()
        conv.bias[2] = value
        with pytest.raises(UnsupportedError, match="conv: bias holds values that are not finite"):
            _graph(conv, _mean("conv"))
