"""Pass over one layer: channels that are 0 whatever the image.

Pruned and trained networks have channels that their ReLU always cuts. Their magnitude before the ReLU says nothing
about a scale, and the weights that read them would coarsen the steps of the other weights. So both are set to zero.

Assumes: inputs are integers q in 0..255. Guarantees: a channel that is found is 0 for every image, in this network and,
but for rounding, in the float one. Rule: R3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from squeezeedge.graph import rules

__all__ = ["always_zero", "removed"]

_NAMED = 3
"""Layers that the remark names."""


def always_zero(weight: Tensor, bias: Tensor, zero_point: int, relu: bool) -> Tensor:
    """Whether each channel's largest accumulator is at most 0, or, without a ReLU, its weights and bias are all 0.

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
    """For people: layer -> channels that were removed, and all that it has; the first few layers are named."""
    dead, total = (sum(column) for column in zip(*counts.values(), strict=True))
    layers = [f"{name} ({of} of {all_})" for name, (of, all_) in counts.items()]
    more = f" and {len(layers) - _NAMED} more layers" if len(layers) > _NAMED else ""
    return (
        f"{dead} of {total} channels are 0 on every image (cut by their ReLU, or without weights) and are removed: "
        f"{', '.join(layers[:_NAMED])}{more}"
    )
