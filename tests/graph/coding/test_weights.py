"""The model of weights: extreme kernels, and that their context makes them shorter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.graph.coding import weight_bits
from squeezeedge.graph.coding.coder import Decoder, Encoder
from squeezeedge.graph.coding.planes import MOST_PLANES
from squeezeedge.graph.coding.rans import Reader
from squeezeedge.graph.coding.weights import WeightModel


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 1, 300), (2, 33, 32, 1), (1, 2, 2, MOST_PLANES), (4, 7, 1, 3), (2, 40, 40, 5)]
)
@pytest.mark.parametrize("value", [0, 1, -127, 127])
def test_constant_weights(shape: tuple[int, ...], value: int) -> None:
    weight = np.full(shape, value, np.int8)
    encoder = Encoder()
    WeightModel().code(encoder, shape, weight)
    decoded = WeightModel().code(Decoder(Reader(encoder.code(32), 32)), shape, None)
    assert decoded.dtype == np.int8
    np.testing.assert_array_equal(decoded, weight)


def _laplace(shape: tuple[int, ...], scale: float) -> NDArray[np.int8]:
    values = np.random.default_rng(0).laplace(0, scale, shape)
    return np.clip(np.round(values), -127, 127).astype(np.int8)


def test_the_length_is_nearly_the_entropy() -> None:
    weight = _laplace((64, 1, 1, 512), 12.0)
    share = np.unique(weight, return_counts=True)[1] / weight.size
    entropy = -weight.size * float((share * np.log2(share)).sum())
    bits = weight_bits(weight)
    assert entropy < bits < 1.02 * entropy


def test_rows_and_columns_neighbours_and_zeros_are_made_use_of() -> None:
    random = np.random.default_rng(0)
    plain = _laplace((64, 3, 3, 64), 12.0)
    order = random.permutation(plain.size)
    rows = plain * np.exp2(random.standard_normal((64, 1, 1, 1)))
    smooth = plain + 1.5 * np.roll(plain, 1, 2)
    zeros = plain * (random.random((64, 1, 1, 64)) < 0.4)
    for values in (rows, smooth, zeros):
        weight = np.clip(np.round(values), -127, 127).astype(np.int8)
        shuffled = weight.reshape(-1)[order].reshape(weight.shape)
        assert weight_bits(weight) < 0.99 * weight_bits(shuffled)
