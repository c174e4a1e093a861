"""Rounding of weights with regard to the inputs: GPTQ (Frantar et al., arXiv:2210.17323).

The error of rounding one weight is made up for by the weights not rounded yet, as far as the inputs' second moments
H allow: with U the upper Cholesky factor of H^-1, column after column,

    w[i] = round(W[i]);   W[i:] -= (W[i] - w[i]) / U[i, i] * U[i, i:]

Assumes: the inputs' second moments. Guarantees: integers in -127..127 (R3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.quantization.scale_search import WEIGHT_LIMIT

__all__ = ["inverse_factor", "round_weights", "second_moments", "unit_error"]

EXACT_ROWS = 256
"""Rows whose products sum up exactly in float32: 256 * 255^2 < 2^24. So the moments do not depend on threads."""

DAMPING = 0.01
BLOCK = 64


def second_moments(rows: Tensor) -> Tensor:
    """Mean of the outer products x x^T, exact up to the division: float64 [fan-in, fan-in].

    Args:
        rows: float32 [rows, fan-in], integers in -255..255.
    """
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in torch.split(rows, EXACT_ROWS):
        total += part.T @ part
    return total / len(rows)


def inverse_factor(moments: Tensor) -> Tensor:
    """U, upper triangular, with U^T U = H^-1, of the damped moments H: float64 [fan-in, fan-in]."""
    mean = moments.diagonal().mean()
    damping = DAMPING * mean if mean > 0 else torch.ones_like(mean)
    damped = moments + damping * torch.eye(len(moments), dtype=torch.float64)
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return factor


def unit_error(factor: Tensor) -> float:
    """Mean squared output error of rounding to multiples of 1: each step leaves ((W - w) / U[i, i])^2.

    Args:
        factor: U, float64 [fan-in, fan-in].
    """
    return float(factor.diagonal().pow(-2).sum()) / 12


def round_weights(weight: Tensor, step: Tensor, factor: Tensor) -> Tensor:
    """Round to multiples of each channel's step.

    Args:
        weight: float64 [out, fan-in].
        step: float64 [out].
        factor: U, float64 [fan-in, fan-in].

    Returns:
        The multiples, float64 [out, fan-in], integers in -127..127.
    """
    rest = weight / step[:, None]
    rounded = torch.empty_like(rest)
    for start in range(0, rest.shape[1], BLOCK):
        block = slice(start, min(start + BLOCK, rest.shape[1]))
        errors = torch.empty_like(rest[:, block])
        for i in range(block.start, block.stop):
            rounded[:, i] = rest[:, i].round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
            error = (rest[:, i] - rounded[:, i]) / factor[i, i]
            rest[:, i : block.stop] -= error[:, None] * factor[i, i : block.stop]
            errors[:, i - start] = error
        rest[:, block.stop :] -= errors @ factor[block, block.stop :]
    return rounded
