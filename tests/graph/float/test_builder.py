"""What the importers share."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.builder import FloatGraphBuilder, covers_map, float32, folded_batch_norm, padded_same
from squeezeedge.graph.float.graph import FloatGlobalAveragePool, FloatRelu
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


def test_average_pooling_over_the_whole_map_only() -> None:
    covers_map("pool", (3, 4), (0, 0, 0, 0), Shape(3, 4, 8))
    for kernel, padding in (((3, 3), (0, 0)), ((3, 4), (0, 1))):
        with pytest.raises(UnsupportedError, match="pool: average pooling with a window of 3x"):
            covers_map("pool", kernel, padding, Shape(3, 4, 8))
