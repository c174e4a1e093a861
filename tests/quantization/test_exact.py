"""Sums that no order changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.quantization.compensate import compensate
from squeezeedge.quantization.exact import exact_conv2d, fixed_point, one_thread, sum_bits
from squeezeedge.quantization.gptq import second_moments


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("out", "kernel", "stride", "groups"),
    [(80, 1, 1, 1), (80, 1, 2, 1), (80, 3, 1, 1), (80, 3, 2, 4), (80, 3, 1, 40), (40, 3, 1, 40), (40, 5, 2, 40)],
)
def test_a_convolution_is_that_of_float64(out: int, kernel: int, stride: int, groups: int) -> None:
    x = random(3, 40, 9, 11) * torch.logspace(-6, 6, 40)[:, None, None]  # channels differ in range
    weight, bias = (
        random(out, 40 // groups, kernel, kernel, seed=1) / torch.logspace(-6, 6, out)[:, None, None, None],
        torch.ones(out),
    )
    result = exact_conv2d(x, weight, bias, (stride, stride), groups)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, groups=groups)
    error = (result - expected).abs().amax((0, 2, 3)) / expected.abs().amax((0, 2, 3))
    assert error.max() < 4e-6


def test_no_order_of_the_inputs_changes_a_convolution() -> None:
    x, weight, bias = random(2, 96, 8, 8), random(8, 96, 3, 3, seed=1), random(8, seed=2)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(3))
    shuffled = exact_conv2d(x[:, order], weight[:, order], bias, (1, 1), 1)
    assert torch.equal(shuffled, exact_conv2d(x, weight, bias, (1, 1), 1))
    assert not torch.equal(F.conv2d(x[:, order], weight[:, order]), F.conv2d(x, weight)), "which float32 does not keep"


def test_no_order_of_the_rows_changes_the_compensation() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 256, (1, 5000, 12), generator=generator).float()
    weight, bias, targets = random(1, 6, 12).double(), random(1, 6, seed=1).double(), 100 * random(1, 5000, 6, seed=2)
    order = torch.randperm(5000, generator=generator)
    moments = second_moments(rows)
    first = compensate(weight, bias, rows, targets, moments, math.inf)
    second = compensate(weight, bias, rows[:, order], targets[:, order], moments, math.inf)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_fixed_point_of_zeros_and_of_extremes() -> None:
    values = torch.tensor([[0.0, 0.0], [1e-300, -3e-300], [1e300, 1.0]], dtype=torch.float64)
    integers, unit = fixed_point(values, 20, (1,))
    assert torch.equal(integers, integers.round()) and integers.abs().max() <= 2**20
    assert (integers * unit - values).abs().le(unit / 2).all()


def test_bits_of_a_sum() -> None:
    assert [sum_bits(terms) for terms in (1, 2, 3, 4, 576, 1024, 1025)] == [0, 1, 2, 2, 10, 10, 11]


def test_one_thread_for_a_while() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
