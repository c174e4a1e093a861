"""Pass over one layer: the bias that gives every output channel the float network's mean.

As in Nagel et al. (arXiv:1906.04721, section 4.2), but on what comes out behind rounding, clipping and ReLU: there
the mean does not move in step with the bias, so the correction is repeated, each time by what is missing divided by
the share of outputs that follow the bias.

Assumes: rounded weights. Guarantees: integer biases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.quantize.requantize import requantize
from squeezeedge.quantize.scale_search import Grid

__all__ = ["corrected_bias"]

ROUNDS = 3
RATE = 0.7
LEAST_SHARE = 0.01
"""Channels with fewer live outputs say too little about their mean; they keep their bias."""


def corrected_bias(
    bias: Tensor, products: Tensor, targets: Tensor, grid: Grid, zero_point: int, head_relu: bool | None
) -> Tensor:
    """Apply the pass; see the module.

    Args:
        bias: float64 [out].
        products: float32 [rows, out], sums of integer weight times input, without bias.
        targets: float32 [rows, out], the float network's outputs after the ReLU.
        grid: scales and shifts.
        zero_point: of the output.
        head_relu: ``None``, or for the head, which is not requantized (R6): whether it has a ReLU.

    Returns:
        float64 [out], integers: the bias in steps.
    """
    aim = targets.mean(0).double()
    for _ in range(ROUNDS):
        steps = (bias / grid.step).round()
        if head_relu is None:
            codes = requantize(products, steps, grid.shift, zero_point) - zero_point
        else:
            codes = products + steps.float()
            codes = codes.relu_() if head_relu else codes
        mean = codes.mean(0).double() * grid.scale
        share = (codes != 0).float().mean(0).double()
        change = RATE * (aim - mean) / share.clamp_min(0.05)
        bias = torch.where(share > LEAST_SHARE, bias + change, bias)
    return (bias / grid.step).round()
