"""Pass over one layer: rounding of weights with regard to the inputs: GPTQ (Frantar et al., arXiv:2210.17323).

The error of rounding one weight is made up for by the weights not rounded yet, as far as the inputs' second moments
H allow: with U the upper Cholesky factor of H^-1, column after column,

    w[i] = round(W[i]);   W[i:] -= (W[i] - w[i]) / U[i, i] * U[i, i:]

The fan-in of an output channel is that of its group, so each group has moments and a factor of its own; all groups
are worked on at once.

Assumes: the inputs' second moments. Guarantees: integers in -127..127. Rule: R3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.quantization.exact import FLOAT64_BITS, fixed_point, sum_bits

__all__ = ["descend", "inverse_factor", "round_weights", "second_moments", "unit_error"]

DAMPING = 0.01
BLOCK = 64


def second_moments(rows: Tensor) -> Tensor:
    """Mean of the outer products x x^T, exact up to the division: float64 [groups, fan-in, fan-in].

    Products are added up in float32 for so few rows that every sum is exact, so no order of them matters.

    Args:
        rows: float32 [groups, rows, fan-in], integers in -255..255.
    """
    groups, count, fan_in = rows.shape
    total = torch.zeros(groups, fan_in, fan_in, dtype=torch.float64)
    for part in torch.split(rows, rules.FLOAT32_EXACT // rules.Q_MAX**2, 1):
        total += part.mT @ part
    return total / count


def central_moments(moments: Tensor, rows: Tensor) -> Tensor:
    """The covariance of the inputs: what is left of their second moments where the bias takes in the mean.

    Args:
        moments: float64 [groups, fan-in, fan-in], second moments of ``rows``.
        rows: float32 [groups, rows, fan-in], integers.
    """
    mean = rows.sum(1, dtype=torch.float64) / rows.shape[1]
    return moments - mean[:, :, None] * mean[:, None]


def mean_output(weight: Tensor, rows: Tensor) -> Tensor:
    """Mean output of weights: float64 [groups, outputs of one]; no order of the sums changes it.

    Args:
        weight: float64 [groups, outputs of one, fan-in].
        rows: float32 [groups, rows, fan-in], integers in -255..255.
    """
    count, fan_in = rows.shape[1:]
    bits = FLOAT64_BITS - rules.Q_MAX.bit_length() - sum_bits(count) - sum_bits(fan_in)
    kernel, unit = fixed_point(weight, bits, (2,))
    return (kernel @ rows.sum(1, dtype=torch.float64)[..., None] * unit)[..., 0] / count


def inverse_factor(moments: Tensor) -> Tensor:
    """U, upper triangular, with U^T U = H^-1, of the damped moments H: float64 [groups, fan-in, fan-in]."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_damped(moments)))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def _damped(moments: Tensor) -> Tensor:
    """The moments with a share of their mean on the diagonal, so that there is an inverse; the same shape."""
    mean = moments.diagonal(dim1=1, dim2=2).mean(1)
    damping = torch.where(mean > 0, DAMPING * mean, 1)
    return moments + damping[:, None, None] * torch.eye(moments.shape[1], dtype=torch.float64)


def unit_error(factor: Tensor) -> Tensor:
    """Mean squared output error of rounding to multiples of 1: each step leaves ((W - w) / U[i, i])^2.

    Args:
        factor: U, float64 [groups, fan-in, fan-in].

    Returns:
        float64 [groups].
    """
    return factor.diagonal(dim1=1, dim2=2).pow(-2).sum(1) / 12


def round_weights(weight: Tensor, step: Tensor, factor: Tensor) -> Tensor:
    """Round to multiples of each channel's step.

    Args:
        weight: float64 [groups, outputs of one, fan-in].
        step: float64 [groups, outputs of one].
        factor: U, float64 [groups, fan-in, fan-in].

    Returns:
        The multiples, of the shape of ``weight``, float64 integers in -127..127.
    """
    rest = weight / step[..., None]
    rounded = torch.empty_like(rest)
    fan_in = rest.shape[2]
    for start in range(0, fan_in, BLOCK):
        block = slice(start, min(start + BLOCK, fan_in))
        errors = torch.empty_like(rest[..., block])
        for i in range(block.start, block.stop):
            rounded[..., i] = rest[..., i].round().clamp(-rules.WEIGHT_LIMIT, rules.WEIGHT_LIMIT)
            error = (rest[..., i] - rounded[..., i]) / factor[:, i, i, None]
            rest[..., i : block.stop] -= error[..., None] * factor[:, i, None, i : block.stop]
            errors[..., i - start] = error
        rest[..., block.stop :] -= errors @ factor[:, block, block.stop :]
    return rounded


def descend(rounded: Tensor, weight: Tensor, step: Tensor, moments: Tensor, sweeps: int) -> Tensor:
    """Coordinate descent: one weight after the other becomes the multiple that is best beside the others.

    Args:
        rounded: multiples of the step to start from, float64 [groups, outputs of one, fan-in].
        weight: float64, of the same shape.
        step: float64 [groups, outputs of one].
        moments: of the inputs, float64 [groups, fan-in, fan-in].
        sweeps: over all weights, at most.

    Returns:
        The multiples, float64 integers in -127..127; (w - W) H (w - W)^T of no output, with the damped moments H, is larger than before.
    """
    rounded, moments = rounded.clone(), _damped(moments)
    slope = (rounded - weight / step[..., None]) @ moments
    diagonal = moments.diagonal(dim1=1, dim2=2)
    for _ in range(sweeps):
        before = rounded.clone()
        for i in range(rounded.shape[2]):
            best = rounded[..., i] - slope[..., i] / diagonal[:, i, None]
            change = best.round().clamp(-rules.WEIGHT_LIMIT, rules.WEIGHT_LIMIT) - rounded[..., i]
            rounded[..., i] += change
            slope += change[..., None] * moments[:, i, None]
        if torch.equal(rounded, before):
            break
    return rounded
