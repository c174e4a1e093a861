"""Pass over one layer: every channel of a convolution gets the scale and shift of least expected output error.

R3 ties three numbers, scale_in * scale_w / scale_out = 2^-k. The inputs' scales are known and go into the weights;
so for an output scale s the weights' step is s * 2^-k, and k is the largest for which the largest weight fits into
127 steps (0 <= k <= ``MAX_SHIFT``). The squared error of an output value is modelled as

    active * (s^2 / 12 + step^2 * unit) + clipped weights + clipping_error(127 or 255 steps of s)

The terms are uniform rounding (Widrow, 1956) where the ReLU lets errors through, the weights' rounding (``unit``: see
:mod:`gptq`), weights that are clipped, and values of unseen images that are clipped (:mod:`ranges`).

Assumes: ranges and second moments of this layer. Guarantees: R3's relation exactly, 0 <= k <= ``MAX_SHIFT``,
s > 0; k and s are the best of the candidates under this model. Where a ReLU with a limit follows, as ReLU6, the
largest code is that limit or less, so the clip of R3 is the limit. Rules: R3, R4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.quantization.ranges import Range

__all__ = [
    "Grid",
    "cheapest_step",
    "free_scales",
    "largest_scale",
    "output_limit",
    "rounded_up",
    "search_scales",
    "weight_step",
]

ACCUMULATOR_SHARE = 0.5
"""Share of what R4 allows that an accumulator may take before weights are rounded (see :mod:`overflow`)."""

OCTAVES = torch.arange(-16, 33) / 16
"""Candidates for log2(s / smallest s that clips nothing seen)."""

COARSER = 8
"""How many values of k are tried where larger steps cost fewer bits."""

NEAR = 0.5
"""Share of a ReLU's limit from which a tensor's largest value is near it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """What the search chose.

    Attributes:
        scale: float64 [out], every value a float32: of the output; of the head, whose sums are not requantized,
            the weights' step.
        shift: int64 [out], k.
    """

    scale: Tensor
    shift: Tensor

    @property
    def step(self) -> Tensor:
        """float64 [out]: what one unit of an accumulator stands for."""
        return self.scale * torch.exp2(-self.shift.double())


def output_limit(zero_point: int) -> int:
    """Magnitude in steps up to which no value is clipped: 255, or 127 where negatives exist."""
    return rules.Q_MAX - zero_point


def free_scales(values: Range, zero_point: int) -> Tensor:
    """Candidates for a channel whose scale nothing else depends on: float64 [candidates, channels].

    The closest to the largest value seen is first, so that it wins where all are equal (dead channels). If some channel
    comes near the limit of its ReLU, the scale that reaches the limit is the only candidate: then nothing is clipped,
    not even in channels that hardly any calibration image excites.
    """
    nearest_first = OCTAVES[OCTAVES.abs().argsort(stable=True)].double()
    scales = rounded_up(values.level / output_limit(zero_point) * torch.exp2(nearest_first)[:, None])
    if values.level.amax() < NEAR * values.limit:
        return scales.clamp_max(largest_scale(values.limit))
    return torch.full_like(scales[:1], largest_scale(values.limit))


def rounded_up(scales: Tensor) -> Tensor:
    """Scales rounded up to 8 significant bits: at most 1 % larger, and each two bytes shorter in a file."""
    mantissa, exponent = torch.frexp(scales)
    return torch.ldexp((mantissa * 256).ceil() / 256, exponent)


def largest_scale(limit: float) -> float:
    """The scale, a float32, at which the largest code is a ReLU's limit; at a smaller one it is less."""
    return float(np.float32(limit / output_limit(rules.ZERO_POINTS[0])))


def weight_step(weight: Tensor, bias: Tensor, limit: float) -> Tensor:
    """Least step for which weights fit into -127..127 and |bias| + 255 * sum |w| into ``limit``: float64 [out].

    Args:
        weight: float64 [out, fan-in], for inputs in units of q.
        bias: float64 [out].
        limit: in steps.
    """
    reach = bias.abs() + rules.Q_MAX * weight.abs().sum(1)
    step = torch.maximum(weight.abs().amax(1) / rules.WEIGHT_LIMIT, reach / limit)
    return step.clamp_min(torch.finfo(torch.float32).tiny)


def search_scales(
    candidates: Tensor,
    values: Range,
    zero_point: int,
    weight: Tensor,
    bias: Tensor,
    power: Tensor,
    unit: Tensor,
    price: Callable[[Tensor], Tensor] | None = None,
) -> Grid:
    """Choose scale and shift of every output channel.

    Args:
        candidates: float64 [candidates, out], output scales; the first of equals wins.
        values: of the output.
        zero_point: of the output.
        weight: float64 [out, fan-in], for inputs in units of q.
        bias: float64 [out].
        power: float64 [groups, fan-in], mean square of the inputs in units of q.
        unit: float64 [groups], mean squared output error, before the ReLU, that rounding weights to multiples of 1
            makes.
        price: steps, float64 [out], -> what rounding to their multiples costs, float64 [out], in place of the error
            that ``unit`` gives; then larger steps, of smaller k, are candidates, too.
    """
    least = weight_step(weight, bias, ACCUMULATOR_SHARE * rules.INT32_LIMIT)
    outputs = len(weight) // len(unit)  # of one group
    power, unit = power.repeat_interleave(outputs, 0), unit.repeat_interleave(outputs)
    best = torch.full_like(least, torch.inf)
    scale, shift = torch.ones_like(least), torch.zeros_like(least)
    for candidate in candidates.float().double().clamp_min(torch.finfo(torch.float32).tiny):
        largest = torch.log2(candidate / least).floor().clamp(0, rules.MAX_SHIFT)
        clipped = values.clipping_error(candidate * output_limit(zero_point))
        for less in range(1 if price is None else COARSER):
            k = (largest - less).clamp_min(0)
            step = candidate * torch.exp2(-k)
            made = step.square() * unit if price is None else price(step)
            error = values.active * (candidate.square() / 12 + made)
            tight = step < least  # k = 0: weights are clipped
            if tight.any():
                lost = (weight[tight].abs() - rules.WEIGHT_LIMIT * step[tight, None]).clamp_min(0)
                error[tight] += (lost.square() * power[tight]).sum(1)
            error += clipped
            better = error < best
            best, scale, shift = (
                torch.where(better, new, old) for new, old in ((error, best), (candidate, scale), (k, shift))
            )
    return Grid(scale, shift.long())


def cheapest_step(least: Tensor, price: Callable[[Tensor], Tensor]) -> Tensor:
    """The head's steps of least price; no rule binds them to scales: float64 [out], every value a float32.

    Args:
        least: step, float64 [out].
        price: as for :func:`search_scales`.
    """
    steps = torch.stack([(least * 2.0 ** (rank / 4)).float().double() for rank in range(4 * COARSER)])
    chosen = torch.stack([price(step) for step in steps]).argmin(0)
    return steps.gather(0, chosen[None])[0]
