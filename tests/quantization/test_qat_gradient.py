"""The gradient of rounding and clipping."""

from __future__ import annotations

import pytest
import torch

from squeezeedge.quantization.qat_gradient import floor_through


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_passes_unless_the_value_is_clipped(dtype: torch.dtype) -> None:
    value = torch.tensor([-7.5, -0.25, 0.0, 0.75, 2.5, 3.5, 3.75, 4.0, 9.0], dtype=dtype, requires_grad=True)
    result = floor_through(value * 1, 0, 3)
    assert result.dtype == dtype and result.tolist() == [0, 0, 0, 0, 2, 3, 3, 3, 3]
    torch.autograd.backward(result, torch.arange(1, 10).to(dtype))
    assert value.grad is not None and value.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 0, 0]


def test_without_limits_nothing_is_clipped() -> None:
    value = torch.tensor([-1e9 + 0.5, 2.5**20], dtype=torch.float64, requires_grad=True)
    result = floor_through(value + 0.5)
    assert torch.equal(result, (value.detach() + 0.5).floor())
    torch.autograd.backward(result.sum())
    assert value.grad is not None and value.grad.tolist() == [1, 1]
