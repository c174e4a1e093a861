"""Rounding with the gradient of the identity, except where the value is clipped (the straight-through estimator).

Bengio et al., arXiv:1308.3432, section 4.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["floor_through"]


def floor_through(value: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """clip(floor(value), low, high), with the gradient of ``value``; 0 where that clips.

    Args:
        value: of any shape and float type; it is overwritten.
        low: least result, an integer.
        high: largest result, an integer.
    """
    result: Tensor = _FloorThrough.apply(value, low, high)  # type: ignore[no-untyped-call]
    return result


class _FloorThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:  # noqa: ANN401  (torch's class is private)
        floor = value.detach().floor_()
        ctx.save_for_backward(floor)
        ctx.limits = low - 0.5, high + 0.5
        return floor.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (floor,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, floor, *ctx.limits), None, None
