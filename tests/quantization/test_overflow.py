"""No accumulator leaves int32."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.quantization.overflow import bounded
from squeezeedge.quantization.requantize import requantize


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fan_in=st.sampled_from([1, 40, 5000, 70_000]),
    biases=st.lists(st.integers(-(2**45), 2**45), min_size=3, max_size=3),
    shift=st.integers(0, 15),
    zero_point=st.sampled_from([0, 128]),
    pixels=st.sampled_from([1, 169, 10_000, 2**20]),
)
def test_no_accumulator_overflows(
    seed: int, fan_in: int, biases: list[int], shift: int, zero_point: int, pixels: int
) -> None:
    rng = np.random.default_rng(seed)
    amplitude = rng.choice([0, 1, 20, 127], 3)[:, None]
    weight = torch.from_numpy(np.rint(rng.uniform(-1, 1, (3, fan_in)) * amplitude))
    if rng.random() < 0.5:
        weight = weight.sign() * torch.from_numpy(amplitude)
    bias, shifts = torch.tensor(biases).double(), torch.full((3,), shift)
    if pixels > 1:
        shifts, zero_point = torch.zeros(3, dtype=torch.int64), 0
    new_weight, new_bias = bounded(weight, bias, shifts, zero_point, pixels)
    bound = new_bias.abs() + 255 * new_weight.abs().sum(1) + ((1 << shifts) >> 1) + zero_point
    assert int(bound.max()) * pixels < 2**31
    assert (new_weight.abs() <= weight.abs()).all()
    old = bias.abs() + 255 * weight.abs().sum(1) + ((1 << shifts) >> 1) + zero_point
    untouched = old * pixels < 2**31
    assert torch.equal(new_weight[untouched].double(), weight[untouched])
    assert torch.equal(new_bias[untouched].double(), bias[untouched])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 15))
def test_clipping_a_bias_does_not_change_the_output(seed: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.integers(-127, 128, (4, 30)).astype(np.float64))
    bias = torch.from_numpy(rng.choice([-1, 1], 4) * np.exp2(rng.uniform(20, 50, 4))).round()
    shifts = torch.full((4,), shift)
    clipped = bounded(weight, bias, shifts, 0, 1)[1]
    products = torch.from_numpy(rng.integers(0, 256, (50, 30)).astype(np.float64)) @ weight.T
    assert torch.equal(requantize(products, bias, shifts, 0), requantize(products, clipped.double(), shifts, 0))
