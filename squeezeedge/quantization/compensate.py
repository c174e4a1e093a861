"""Pass over one layer: weights that make up for the errors of the layers before it.

GPTQ takes the float weights as the aim; but the inputs are the quantized network's own, and their errors are partly
linear in them. As in GPTAQ (Li et al., arXiv:2504.02692) the aim is the float layer's output on the float inputs:
weights and bias move by the ridge regression of what is missing on the quantized inputs. Where a ReLU follows, an
output that is below zero in both networks misses nothing.

Assumes: sampled inputs of the quantized network and outputs of the float one. Guarantees: weights that differ from
the trained ones only as far as the samples carry it: the fewer there are for a weight, the stronger the ridge.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["compensate"]

RIDGE = 0.1


def compensate(
    weight: Tensor, bias: Tensor, rows: Tensor, targets: Tensor, moments: Tensor, relu: bool
) -> tuple[Tensor, Tensor]:
    """Apply the pass; see the module.

    Args:
        weight: float64 [out, fan-in], for inputs in units of q.
        bias: float64 [out].
        rows: float32 [rows, fan-in], inputs of the quantized network in units of q.
        targets: float32 [rows, out], the float network's outputs before the ReLU.
        moments: float64 [fan-in, fan-in], second moments of ``rows``.
        relu: whether a ReLU follows.

    Returns:
        The new weight and bias.
    """
    outputs = rows @ weight.float().T + bias.float()
    if relu:
        targets = torch.where(targets > 0, targets, outputs.clamp_max(0))
    missing = (targets - outputs).double()
    mean = rows.mean(0).double()
    covariance = moments - torch.outer(mean, mean)
    strength = covariance.diagonal().mean()
    if strength <= 0:  # constant inputs
        return weight, bias + missing.mean(0)
    ridge = strength * (RIDGE + rows.shape[1] / len(rows))
    together = rows.double().T @ missing / len(rows) - torch.outer(mean, missing.mean(0))
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
    change = torch.cholesky_solve(together, factor).T
    return weight + change, bias + missing.mean(0) - change @ mean
