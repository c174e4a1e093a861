"""Pass over one layer: no accumulator can leave int32, whatever the image.

Assumes: integer weights and biases. Their step was chosen so that no trained network comes near the bound below
(:func:`squeezeedge.quantization.scale_search.weight_step`).
Guarantees: |bias| + 255 * sum |w| + rounding + zero point, times the pixels that are summed, is below 2^31. Weights
beyond that shrink towards zero; then the bias is clipped. Clipping a bias does not change a requantized output: the
accumulator stays so large that the output is 0 or 255 all the same. Rules: R4, R6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.graph import rules

__all__ = ["bounded"]


def bounded(weight: Tensor, bias: Tensor, shift: Tensor, zero_point: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Apply the pass; see the module.

    Args:
        weight: float64 [out, fan-in], integers.
        bias: float64 [out], integers.
        shift: int64 [out], k; 0 for the head.
        zero_point: of the output.
        pixels: accumulators that are summed: height * width for the head, else 1.

    Returns:
        int64 weight and bias.
    """
    room = (rules.INT32_LIMIT - 1) // pixels - rules.rounding_term(shift) - zero_point
    reach = rules.Q_MAX * weight.abs().sum(1)
    allowed = torch.maximum(room - bias.abs(), room // 2).double()
    shrunk = torch.where((reach > allowed)[:, None], (weight * (allowed / reach.clamp_min(1))[:, None]).trunc(), weight)
    left = room - rules.Q_MAX * shrunk.abs().sum(1).long()
    return shrunk.long(), torch.minimum(torch.maximum(bias.long(), -left), left)
