"""Rounding that weighs error against code length, as in video coders (rate-distortion optimized quantization).

GPTQ (:mod:`squeezeedge.quantization.gptq`) takes the nearest multiple of a step, column after column, and lets the
columns to come make up for the error. Here the multiple is the one of least

    importance * (error / U[i, i])^2 + price * bits

where ``bits`` is the length of the integer's code in the layer. Small weights become zero (dead zones), and large ones
a little smaller where that saves bits. The columns to come make up for these errors, too, so pruning with compensation
(Hassibi and Stork, 1993) and coarser rounding are one step. The step of a channel is also chosen for the least sum of
error and price, so channels that matter little get few bits. R3 binds a step to the scales by 2^-k, so another step
means another k and other scales.

Assumes: importances of the channels (:mod:`importance`). Guarantees: integers in -127..127. Rule: R3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.compression.importance import importance
from squeezeedge.graph import rules
from squeezeedge.quantization.gptq import Factor, nearest, round_weights

__all__ = ["LAST", "RateRounding", "code_lengths"]

LEVELS = 2 * rules.WEIGHT_LIMIT + 1
PER_OCTAVE = 2
"""Steps per octave for which the price is computed; in between it is interpolated."""
RANKS = 9 * PER_OCTAVE
"""How many, upwards from the step at which a channel's largest weight is 127; beyond them all weights are zero."""
ROUNDS = 3
"""How often integers and code lengths are computed from each other before the layer is rounded."""
LEAST = 1e-3
"""Least importance of a channel, relative to the mean of its layer."""
LAST = 2.0
UNSEEN = 0.5
"""The count that is assumed for integers that do not occur."""


class RateRounding:
    """Rounding at one price of a bit; see the module.

    Args:
        price_of_bit: in squared error of the logits.
        gradients: of the weights, see :func:`squeezeedge.compression.importance.weight_gradients`.
        importances: convolution -> float64 [out]; missing ones are computed and kept here.
        head: the convolution of the classes. All classes are equally important, because a few dozen images do not show
            how frequent each will be. They count :data:`LAST` times, because no later layer makes up for their errors.
    """

    def __init__(
        self,
        price_of_bit: float,
        gradients: Mapping[str, Tensor],
        importances: dict[str, Tensor] | None = None,
        head: str | None = None,
    ) -> None:
        self.price_of_bit, self.gradients, self.head = price_of_bit, gradients, head
        self.importances: dict[str, Tensor] = {} if importances is None else importances

    def price(self, name: str, weight: Tensor, units: Tensor, factor: Factor) -> Callable[[Tensor], Tensor]:
        """See :class:`squeezeedge.quantization.gptq.Rounding`."""
        if name not in self.importances:
            found = importance(self.gradients[name], units, factor)
            if name == self.head:
                found = LAST * found.mean().expand_as(found)
            self.importances[name] = found.clamp_min(max(LEAST * float(found.mean()), torch.finfo(torch.float32).tiny))
        bit = self.price_of_bit / self.importances[name]
        groups = len(factor.order)
        diagonal = torch.empty_like(factor.order, dtype=torch.float64)
        diagonal.scatter_(1, factor.order, factor.upper.diagonal(dim1=1, dim2=2))
        power = diagonal.pow(-2).repeat_interleave(len(weight) // groups, 0)
        unit = (weight.abs().amax(1) / rules.WEIGHT_LIMIT).clamp_min(torch.finfo(torch.float32).tiny)
        square = (weight / unit[:, None]).square()
        table = []
        for rank in range(RANKS + 1):
            noise = 4.0 ** (rank / PER_OCTAVE) / 12
            error = (square.clamp_max(noise) * power).sum(1) * unit.square()
            table.append(error + bit * torch.log2(1 + square / noise).sum(1) / 2)
        prices = torch.stack(table)

        def price(step: Tensor) -> Tensor:
            rank = (torch.log2(step / unit) * PER_OCTAVE).clamp(0, RANKS)
            low = rank.floor().clamp_max(RANKS - 1)
            below, above = (prices.gather(0, index.long()[None])[0] for index in (low, low + 1))
            return torch.lerp(below, above, rank - low)

        return price

    def round(self, name: str, weight: Tensor, step: Tensor, factor: Factor) -> Tensor:
        """See :class:`squeezeedge.quantization.gptq.Rounding`."""
        groups = len(factor.order)
        aims = (weight / step[:, None]).reshape(groups, len(weight) // groups, -1)
        bit = (self.price_of_bit / (self.importances[name] * step.square())).reshape(groups, -1, 1)
        bits = bit * factor.upper.diagonal(dim1=1, dim2=2).square()[:, None]  # a bit's price at each weight, in order
        lengths = code_lengths(nearest(aims))
        for _ in range(ROUNDS):
            lengths = code_lengths(_cheapest(aims.gather(2, factor.order[:, None].expand_as(aims)), bits, lengths))
        return round_weights(
            aims,
            torch.ones(aims.shape[:2], dtype=torch.float64),
            factor,
            choose=lambda column, place: _cheapest(column, bits[..., place], lengths),
        ).flatten(0, 1)


def code_lengths(integers: Tensor) -> Tensor:
    """Bits of each integer of -127..127 in an ideal code of order 0, the same for both signs: float64 [255].

    Args:
        integers: float64 of any shape, in -127..127.
    """
    counts = torch.bincount(integers.abs().flatten().long(), minlength=rules.WEIGHT_LIMIT + 1).double()
    smooth = F.conv1d(F.pad(counts[None], (2, 2), "replicate"), torch.full((1, 1, 5), 0.2, dtype=torch.float64))[0]
    counts[3:] = smooth[3:]  # large integers are few
    counts += UNSEEN
    lengths = -torch.log2(counts / counts.sum())
    lengths[1:] += 1  # the sign
    return torch.cat([lengths[1:].flip(0), lengths])


def _cheapest(aims: Tensor, bits: Tensor, lengths: Tensor) -> Tensor:
    """Integers of least sum of squared error and price: the nearest, the next two towards zero, or zero.

    Args:
        aims: in steps, float64.
        bits: a bit's price in squared steps, of their shape.
        lengths: of :func:`code_lengths`.
    """
    near = nearest(aims)
    size = near.abs()
    candidates = torch.stack([size, (size - 1).clamp_min_(0), (size - 2).clamp_min_(0), torch.zeros_like(size)])
    prices = lengths[rules.WEIGHT_LIMIT :][candidates.long()].mul_(bits)
    cost = prices.add_((candidates - aims.abs()).square_())
    return candidates.gather(0, cost.argmin(0)[None])[0] * near.sign()
