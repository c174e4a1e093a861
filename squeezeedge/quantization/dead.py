"""Pass over one layer: channels that are 0 whatever the image.

Pruned and trained networks have channels that their ReLU always cuts. Their magnitude before the ReLU is no measure
for a scale, and weights that read them would flatten those that read the others: so both are removed, by zeros.

Assumes: inputs are integers q in 0..255. Guarantees: a channel that is found is 0 for every image, in this network and,
but for rounding, in the float one. Rule: R3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from squeezeedge.graph import rules

__all__ = ["always_zero", "removed"]


def always_zero(weight: Tensor, bias: Tensor, zero_point: int, relu: bool) -> Tensor:
    """Whether each channel's largest accumulator is not above 0, or, without a ReLU, all its weights are 0.

    Args:
        weight: float64 [out, fan-in], for inputs in units of q.
        bias: float64 [out].
        zero_point: of the input.
        relu: whether a ReLU follows.

    Returns:
        bool [out].
    """
    if not relu:
        return (weight == 0).all(1) & (bias == 0)
    highest = torch.maximum(weight * (rules.Q_MAX - zero_point), -weight * zero_point)
    return bias + highest.sum(1) <= 0


def removed(counts: Mapping[str, tuple[int, int]]) -> str:
    """For people: layer -> channels that were removed, and all that it has."""
    layers = ", ".join(f"{name} ({dead} of {total})" for name, (dead, total) in counts.items())
    return f"channels that are 0 on every image (cut by their ReLU, or without weights) are removed: {layers}"
