"""What the importers share."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.builder import FloatGraphBuilder, average_pool, float32, folded_batch_norm, padded_same
from squeezeedge.graph.float.graph import FloatAveragePool, FloatGlobalAveragePool, FloatRelu
from squeezeedge.graph.rules import Shape


def test_names_are_unique_and_printable() -> None:
    builder = FloatGraphBuilder((4, 4))
    wanted = ["relu", "relu", "relu_1", "re\tlu", "", "image"]
    names = [builder.append(FloatRelu(builder.unique(name), ("image",))) for name in wanted]
    assert names == ["relu", "relu_1", "relu_1_1", "re_lu", "node", "image_1"]


def test_only_what_the_output_needs_is_built() -> None:
    builder = FloatGraphBuilder((4, 4))
    builder.append(FloatRelu("used", ("image",)))
    builder.append(FloatRelu("dead", ("used",)))
    builder.append(FloatGlobalAveragePool("mean", ("used",)))
    assert [node.name for node in builder.build("network", "mean").nodes] == ["used", "mean"]


def test_folded_batch_normalization_is_the_unfolded_one() -> None:
    rng = np.random.default_rng(0)
    gamma, beta, mean = rng.normal(0, 1, (3, 6)).astype(np.float32)
    variance = rng.uniform(0.1, 2, 6).astype(np.float32)
    node = folded_batch_norm("bn", "image", gamma, beta, mean, variance, 1e-3)
    x = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    scale, shift, center, spread = map(torch.from_numpy, (gamma, beta, mean, variance))
    expected = F.batch_norm(x, center, spread, scale, shift, training=False, eps=1e-3).numpy()
    ours = x.numpy() * node.multiplier[:, None, None] + node.offset[:, None, None]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_float32_copies() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    copy = float32(array.T)
    assert copy.flags.c_contiguous and copy.flags.writeable and not np.shares_memory(copy, array)
    assert float32(np.array([0.5], np.float16)).dtype == np.float32


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_same_padding(size: int, kernel: int, stride: int, lower: bool) -> None:
    top, left, bottom, right = padded_same((size, size), (kernel, kernel), (stride, stride), lower)
    assert (top, bottom) == (left, right)
    assert (size + top + bottom - kernel) // stride + 1 == -(-size // stride)
    assert (top - bottom if lower else bottom - top) in (0, 1)


def _average(
    kernel: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    stride: tuple[int, int] = (1, 1),
    *,
    count_include_pad: bool = False,
    ceil_mode: bool = False,
) -> FloatAveragePool | FloatGlobalAveragePool:
    return average_pool(
        "pool",
        "x",
        Shape(3, 4, 8),
        kernel,
        stride,
        padding,
        count_include_pad=count_include_pad,
        ceil_mode=ceil_mode,
    )


def test_average_pooling_over_the_whole_map_is_global() -> None:
    assert isinstance(_average((3, 4), ceil_mode=True), FloatGlobalAveragePool)
    assert isinstance(_average((3, 3)), FloatAveragePool)
    assert isinstance(_average((3, 4), (0, 1, 0, 0), count_include_pad=True), FloatAveragePool)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "count_include_pad", "divisor"),
    [
        ((2, 3), (1, 1), (0, 0, 0, 0), False, 6),
        ((2, 3), (1, 1), (1, 1, 1, 1), True, 6),
        ((3, 2), (2, 2), (0, 0, 1, 1), False, 6),  # no window reaches the padding
        ((5, 4), (1, 1), (1, 0, 1, 0), False, 12),  # every window is the whole map
        ((1, 3), (1, 3), (0, 1, 0, 1), False, 2),  # two pixels from either side
    ],
)
def test_what_an_average_is_divided_by(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    count_include_pad: bool,
    divisor: int,
) -> None:
    pool = _average(kernel, padding, stride, count_include_pad=count_include_pad)
    assert isinstance(pool, FloatAveragePool) and pool.divisor == divisor
    assert (pool.kernel, pool.stride, pool.padding) == (kernel, stride, padding)


def test_averages_that_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"^pool: average pooling in ceil mode"):
        _average((2, 2), (0, 0, 0, 0), (2, 2), ceil_mode=True)
    with pytest.raises(UnsupportedError, match=r"^pool: .*count_include_pad=False.* 3x4 pixels average 4 to 9 of them"):
        _average((3, 3), (1, 1, 1, 1))
    with pytest.raises(UnsupportedError, match=r"^pool: .*stride .0, 1. .* out of range"):
        _average((3, 3), (1, 1, 1, 1), (0, 1))
    with pytest.raises(UnsupportedError, match=r"^pool: its input of 3x4 pixels is smaller than its kernel"):
        _average((9, 3), (1, 1, 1, 1))
