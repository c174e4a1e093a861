"""The integer arithmetic of R3 on torch tensors: what the calibration images become in the quantized network."""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.graph import rules

__all__ = ["exact_type", "requantize"]


def exact_type(bound: float) -> torch.dtype:
    """The float type that holds all integers up to ``bound``: float32 below 2^24, else float64 (R4: below 2^31)."""
    return torch.float32 if bound < rules.FLOAT32_EXACT else torch.float64


def requantize(products: Tensor, bias: Tensor, shift: Tensor, zero_point: int) -> Tensor:
    """clip(((products + bias + rounding term) >> k) + zero_point, 0, 255) (R3).

    Args:
        products: [..., out], integers in a float type that holds the sums exactly.
        bias: [out], integers.
        shift: int64 [out], k.
        zero_point: of the output.

    Returns:
        Same shape and type, integers in 0..255.
    """
    offset = bias + rules.rounding_term(shift)
    scaled = (products + offset.to(products.dtype)).mul_(torch.exp2(-shift.to(products.dtype)))
    return scaled.floor_().add_(zero_point).clamp_(0, rules.Q_MAX)
