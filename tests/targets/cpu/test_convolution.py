"""Every instruction set's tiles: windows at odd places, steps that do not fill, shifts up to what R3 may allow."""

import numpy as np
import pytest

from squeezeedge.graph import IntegerGraph, rules
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu.options import FEATURES
from squeezeedge.targets.cpu.packing import MAX_SHIFT
from tests.graphs import GraphBuilder, largest_shift_graph, random_images
from tests.targets.cpu.conftest import Runner


def _windows() -> IntegerGraph:
    """Rows that end within a step, kernels and strides that are not square, padding on some sides, 1 to 70 channels."""
    builder = GraphBuilder(np.random.default_rng(3), (23, 29))
    value = builder.conv("image", 17, (5, 3), (2, 1), (2, 0, 1, 2))
    value = builder.conv(value, 70, (1, 1), (1, 2), zero_point=128)
    value = builder.conv(value, 1, (3, 3), (1, 1), (1, 1, 1, 1))
    value = builder.conv(value, 48, (2, 5), (1, 1), (0, 3, 1, 1), zero_point=128)
    return builder.finish(value, 19, (3, 3), (2, 1), (1, 0, 0, 1))


def _depthwise() -> IntegerGraph:
    """Windows of every way to go through them; every number of blocks; the image, which is padded with its mean."""
    builder = GraphBuilder(np.random.default_rng(4), (23, 29))
    value = builder.conv("image", 3, (3, 5), (1, 1), (1, 2, 1, 2), zero_point=128, groups=3)
    value = builder.conv(builder.conv(value, 70), 70, (3, 3), (1, 1), (1, 1, 1, 1), zero_point=128, groups=70)
    value = builder.conv(value, 70, (5, 5), (2, 2), (1, 2, 2, 1), groups=70)
    pooled = builder.pool(builder.conv(value, 70, (2, 1), (1, 1), (0, 0, 1, 0), groups=70), (3, 3), (1, 1))
    beside = [builder.conv(pooled, 70, (1, 1), (1, 1), groups=70), builder.conv(pooled, 23)]
    value = builder.conv(builder.concat(beside), 93, (7, 4), (3, 2), (3, 0, 3, 3), zero_point=128, groups=93)
    tensor = builder.tensors[value]
    return builder.finish(value, 93, (tensor.height, tensor.width), groups=93)


@pytest.mark.slow
@pytest.mark.parametrize("isa", FEATURES, indirect=True)
@pytest.mark.parametrize("graph", [_windows(), _depthwise()], ids=["windows", "depthwise"])
def test_windows(graph: IntegerGraph, isa: str, run_graph: Runner) -> None:
    images = random_images(graph, 2, 0)
    np.testing.assert_array_equal(run_graph(graph, images, isa, 1)[0], run(graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [18, MAX_SHIFT])
def test_shifts(isa: str, run_graph: Runner, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another largest shift in the one place where it stands."""
    monkeypatch.setattr(rules, "MAX_SHIFT", limit)
    graph = largest_shift_graph(limit)
    images = random_images(graph, 2, 1)
    np.testing.assert_array_equal(run_graph(graph, images, isa, 2)[0], run(graph, images))
