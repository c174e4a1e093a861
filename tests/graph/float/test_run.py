"""The fp32 runner against torch's own operators and hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.float.builder import FloatGraphBuilder
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
    FloatRelu,
)
from squeezeedge.graph.float.run import execute_float, images_together, run_float
from squeezeedge.graph.importers.from_torch import from_torch


def _eye(channels: int) -> FloatConv:
    weight = np.eye(channels, dtype=np.float32)[:, :, None, None]
    return FloatConv("conv", (IMAGE,), weight, np.zeros(channels, np.float32), (1, 1), (0, 0, 0, 0))


@pytest.fixture
def graph() -> FloatGraph:
    """Every kind of node once."""
    nodes = (
        _eye(3),
        FloatBatchNorm("norm", ("conv",), np.array([2, -1, 0.5], np.float32), np.array([1, 0, -3], np.float32)),
        FloatRelu("relu", ("norm",)),
        FloatAdd("sum", ("relu", "conv")),
        FloatMaxPool("pool", ("sum",), (2, 2), (1, 2), (1, 0, 0, 0), ceil_mode=True),
        FloatConcat("joined", ("pool", "pool")),
        FloatGlobalAveragePool("mean", ("joined",)),
        FloatLinear(
            "fc",
            ("mean",),
            np.array([[1, 0, 0, 0, 0, 0], [0, 0, 2, 0, 0, -1]], np.float32),
            np.array([0.5, 0.25], np.float32),
        ),
    )
    return FloatGraph("all", nodes, (2, 3))


def test_by_hand(graph: FloatGraph) -> None:
    image = np.array([[[1, 2, 3], [4, 5, 6]], [[-1, -2, -3], [0, 1, 2]], [[10, 0, 10], [0, 10, 0]]], np.float32)
    values = {name: value[0].numpy() for name, value in execute_float(graph, torch.tensor(image[None]))}
    np.testing.assert_array_equal(values["conv"], image)
    np.testing.assert_array_equal(values["norm"][0], [[3, 5, 7], [9, 11, 13]])
    np.testing.assert_array_equal(values["relu"][1], [[1, 2, 3], [0, 0, 0]])
    np.testing.assert_array_equal(values["relu"][2], [[2, 0, 2], [0, 2, 0]])
    np.testing.assert_array_equal(values["sum"][0], [[4, 7, 10], [13, 16, 19]])
    np.testing.assert_array_equal(values["pool"][0], [[7, 10], [16, 19]])
    np.testing.assert_array_equal(values["pool"][2], [[12, 12], [12, 12]])
    np.testing.assert_array_equal(values["joined"][3:], values["pool"])
    np.testing.assert_array_equal(values["mean"].ravel()[[0, 2, 5]], [13, 12, 12])
    np.testing.assert_array_equal(values["fc"].ravel(), [13.5, 12.25])
    np.testing.assert_array_equal(run_float(graph, image[None]), [[13.5, 12.25]])


def test_names_and_shapes_are_the_graph_s(graph: FloatGraph) -> None:
    results = [(name, *value.shape) for name, value in execute_float(graph, torch.zeros(2, 3, 2, 3))]
    shapes = [(node.name, graph.shapes[node.name]) for node in graph.nodes]
    assert results == [(name, 2, shape.channels, shape.height, shape.width) for name, shape in shapes]


def test_padded_pixels_never_win(graph: FloatGraph) -> None:
    values = dict(execute_float(graph, torch.full((1, 3, 2, 3), -5.0)))
    for channel, value in enumerate((-5, 0, -5)):
        assert (values["pool"][0, channel] == value).all()


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 0)])
def test_convolution_pads_with_zeros(padding: tuple[int, int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 3, 3, 2, generator=generator), torch.randn(4, generator=generator)
    x = torch.randn(2, 3, 6, 5, generator=generator)
    conv = FloatConv("conv", (IMAGE,), weight.numpy(), bias.numpy(), (2, 1), padding)
    graph = FloatGraph("conv", (conv, FloatGlobalAveragePool("mean", ("conv",))), (6, 5))
    top, left, bottom, right = padding
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, (2, 1))
    torch.testing.assert_close(next(execute_float(graph, x))[1], expected)


@pytest.mark.parametrize("groups", [1, 3])
def test_groups_read_their_part_of_the_channels(groups: int) -> None:
    weight = np.arange(6 * (3 // groups), dtype=np.float32).reshape(6, -1, 1, 1)
    conv = FloatConv("conv", (IMAGE,), weight, np.zeros(6, np.float32), (1, 1), (0, 1, 0, 0), groups=groups)
    graph = FloatGraph("conv", (conv, FloatGlobalAveragePool("mean", ("conv",))), (1, 1))
    value = next(execute_float(graph, torch.tensor([1.0, 10, 100]).reshape(1, 3, 1, 1)))[1]
    dense = weight[:, :, 0, 0] @ [1, 10, 100] if groups == 1 else weight.ravel() * [1, 1, 10, 10, 100, 100]
    np.testing.assert_array_equal(value[0, :, 0], np.stack([np.zeros(6), dense], 1))


@pytest.mark.parametrize("size", [(5, 5), (6, 7), (3, 8)])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 1, 1), (1, 2, 0), (2, 3, 0)]
)
def test_max_pooling_as_in_torch(
    size: tuple[int, int], ceil_mode: bool, kernel: int, stride: int, padding: int
) -> None:
    pool = FloatMaxPool("pool", (IMAGE,), (kernel,) * 2, (stride,) * 2, (padding,) * 4, ceil_mode)
    graph = FloatGraph("pool", (pool, FloatGlobalAveragePool("mean", ("pool",))), size)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)) - 10
    expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    assert torch.equal(next(execute_float(graph, x))[1], expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 2), (1, 1)), ((5, 3), (2, 1), (2, 0))]
)
def test_average_pooling_as_in_torch(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    pool = FloatAveragePool("pool", (IMAGE,), kernel, stride, padding * 2, kernel[0] * kernel[1])
    graph = FloatGraph("pool", (pool, FloatGlobalAveragePool("mean", ("pool",))), (6, 7))
    x = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(next(execute_float(graph, x))[1], F.avg_pool2d(x, kernel, stride, padding))


def test_average_pooling_by_hand() -> None:
    """Padded on one side, divided by what it is told."""
    pool = FloatAveragePool("pool", (IMAGE,), (1, 2), (1, 1), (0, 1, 0, 0), 4)
    graph = FloatGraph("pool", (pool, FloatGlobalAveragePool("mean", ("pool",))), (1, 2))
    value = next(execute_float(graph, torch.tensor([[4.0, 8], [0, 4], [-4, 0]]).reshape(1, 3, 1, 2)))[1]
    np.testing.assert_array_equal(value[0, :, 0], [[1, 3], [0, 1], [-1, -1]])


def test_how_many_images_run_together() -> None:
    assert [images_together(side, side) for side in (8, 96, 224, 448, 5000)] == [64, 21, 4, 1, 1]


def test_more_images_than_one_batch() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    graph = from_torch(network, (8, 8), "network")
    count = 2 * images_together(8, 8) + 3
    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = run_float(graph, x.numpy())
    assert logits.shape == (count, 4) and logits.dtype == np.float32
    with torch.no_grad():
        np.testing.assert_allclose(logits, network(x).numpy(), rtol=1e-5, atol=1e-5)


def test_no_image(graph: FloatGraph) -> None:
    assert run_float(graph, np.zeros((0, 3, 2, 3), np.float32)).shape == (0, 2)


def test_images_of_another_size(graph: FloatGraph) -> None:
    with pytest.raises(ValueError, match=r"float32 \[N, 3, 2, 3\]"):
        run_float(graph, np.zeros((1, 3, 3, 2), np.float32))


def test_tensors_are_dropped_after_their_last_reader(graph: FloatGraph) -> None:
    import weakref

    alive: list[weakref.ref[torch.Tensor]] = []
    for name, value in execute_float(graph, torch.zeros(1, 3, 2, 3)):
        if name == "norm":
            alive.append(weakref.ref(value))
        if name == "sum":
            assert alive[0]() is None


def test_a_network_that_overflows_is_refused_by_layer() -> None:
    builder = FloatGraphBuilder((2, 2))
    value = IMAGE
    for name in ("first", "second", "third"):
        weight = np.full((3, 3, 1, 1), 1e20, np.float32)
        value = builder.append(FloatConv(name, (value,), weight, np.zeros(3, np.float32), (1, 1), (0, 0, 0, 0)))
    graph = builder.build("net", builder.append(FloatGlobalAveragePool("pool", (value,))))
    with pytest.raises(SqueezeEdgeError, match=r"^second: computes values that are not finite"):
        run_float(graph, np.ones((20, 3, 2, 2), np.float32))
