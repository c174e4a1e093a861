"""Pass over one layer: weights that make up for the errors of the layers before it.

GPTQ aims at the float weights. But the inputs come from the quantized network, and their errors are partly linear in
them. As in GPTAQ (Li et al., arXiv:2504.02692), the aim here is the float layer's output on the float inputs. A ridge
regression of the output error on the quantized inputs says how weights and bias move. Where a ReLU follows, the error
counts as zero if the output is below zero in both networks, or above the ReLU's limit in both.

Assumes: sampled inputs of the quantized network and outputs of the float one. Guarantees: weights differ from the
trained ones only as far as the samples support it: the fewer samples per weight, the stronger the ridge. Each group
has a regression of its own; all groups are solved at once. Rule: R3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.quantization.effort import EFFORTS
from squeezeedge.quantization.exact import FLOAT64_BITS, fixed_point, one_thread, sum_bits

__all__ = ["compensate"]


def compensate(
    weight: Tensor,
    bias: Tensor,
    rows: Tensor,
    targets: Tensor,
    moments: Tensor,
    limit: float | None,
    strength: float = EFFORTS["fast"].ridge,
) -> tuple[Tensor, Tensor]:
    """Apply the pass; see the module.

    Args:
        weight: float64 [groups, outputs of one, fan-in], for inputs in units of q.
        bias: float64 [groups, outputs of one].
        rows: float32 [groups, rows, fan-in], inputs of the quantized network in units of q.
        targets: float32 [groups, rows, outputs of one], the float network's outputs before the ReLU.
        moments: float64 [groups, fan-in, fan-in], second moments of ``rows``.
        limit: that of the ReLU that follows, perhaps infinite; ``None`` if none follows.
        strength: of the ridge, beside what few samples add to it.

    Returns:
        The new weight and bias.
    """
    count, fan_in = rows.shape[1:]
    wide = rows.double()
    bits = FLOAT64_BITS - rules.Q_MAX.bit_length()
    kernel, unit = fixed_point(weight, bits - sum_bits(fan_in), (2,))
    outputs = wide @ kernel.mT * unit.mT + bias[:, None]
    aims = targets.double()
    if limit is not None:
        aims = torch.where(aims > 0, aims, outputs.clamp_max(0))
        aims = torch.where(aims < limit, aims, outputs.clamp_min(limit))
    missing, step = fixed_point(aims - outputs, bits - sum_bits(count), (1,))
    mean = wide.sum(1) / count
    covariance = moments - mean[:, :, None] * mean[:, None]
    power = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    varies = power > 0  # a constant input moves only the bias
    ridge = torch.where(varies, power * (strength + fan_in / count), 1)
    offset = missing.sum(1) * step[:, 0] / count
    together = wide.mT @ missing * step / count - mean[:, :, None] * offset[:, None]
    with one_thread():
        factor = torch.linalg.cholesky(covariance + ridge * torch.eye(fan_in, dtype=torch.float64))
        change = torch.where(varies, torch.cholesky_solve(together, factor).mT, 0)
    return weight + change, bias + offset - (change @ mean[..., None])[..., 0]
