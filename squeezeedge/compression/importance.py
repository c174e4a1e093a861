"""How much the logits notice an error of a channel's weights.

An error d of the weights of one output channel changes the logits of an image by about J d, with J the Jacobian
(Gauss-Newton). Rounding with compensation (:mod:`squeezeedge.quantization.gptq`) leaves errors of covariance
proportional to U^T S U with S = diag(1 / U[i, i]^2). They cause a mean squared output error of trace(S) per squared
step. So a channel's importance, the logits' squared error per squared output error, is

    trace(J U^T S U J^T) / trace(S)

J^T J is estimated by random combinations of the logits (Hutchinson); one backward pass gives their gradients for all
weights. The combinations of a batch's images are independent, so a batch's gradient is one sample of their sum.

Not every error of the logits changes a class: an equal error of all logits does not, and an error of an improbable
class hardly does. So the covariance of the combinations is not the identity I, but

    (1 - SHARE) * classes * (diag(p) - p p^T) + SHARE * (I - 1 1^T / classes)

with p the softened probabilities of the float network. The first term is the Fisher information of the class. The
second counts all classes alike, because few images show few classes (measured: docs/compression.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.graph.integer import IMAGE
from squeezeedge.quantization.folded import FoldedConv, FoldedGraph, apply_folded, pad
from squeezeedge.quantization.gptq import Factor

__all__ = ["Gradients", "importance", "weight_gradients"]

PROBES = 2
"""Random combinations of the logits of each image."""
BATCH = 2
TEMPERATURE = 2.0
"""Softens the probabilities."""
SHARE = 0.3
"""Weight of the term that counts all classes alike."""

Gradients = Mapping[str, Tensor]
"""Convolution -> float32 [samples, out, fan-in]."""


def weight_gradients(
    graph: FoldedGraph,
    pixels: NDArray[np.uint8],
    seed: int = 0,
    on_image: Callable[[str, int, int], None] = lambda name, index, total: None,
) -> Gradients:
    """Gradients of random combinations of the logits with regard to the weights of each convolution.

    Args:
        graph: the folded graph.
        pixels: uint8 [N, height, width, 3].
        seed: of the combinations.
        on_image: called with ("image", index, total) before some images.

    Returns:
        One sample per batch and probe; the sum of the samples' outer products estimates J^T J of all images.
    """
    random = torch.Generator().manual_seed(seed)
    weights = {conv.name: torch.from_numpy(conv.weight).requires_grad_() for conv in graph.convolutions}
    found: dict[str, list[Tensor]] = {name: [] for name in weights}
    with torch.enable_grad():
        for start in range(0, len(pixels), BATCH):
            on_image("image", start, len(pixels))
            batch = torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2).float()
            logits = _logits(graph, batch, weights)
            for probe in range(PROBES):
                chosen = _combination(logits.detach(), random)
                last = probe == PROBES - 1
                gradients = torch.autograd.grad((chosen * logits).sum(), list(weights.values()), retain_graph=not last)
                for name, gradient in zip(weights, gradients, strict=True):
                    found[name].append(gradient.flatten(1))
    return {name: torch.stack(samples) / (len(pixels) * PROBES) ** 0.5 for name, samples in found.items()}


def importance(gradients: Tensor, units: Tensor, factor: Factor) -> Tensor:
    """Squared error of the logits per mean squared output error: float64 [out].

    Args:
        gradients: float32 [samples, out, fan-in], with regard to the weights.
        units: float64 [out, fan-in]: what the weights are divided by to be for inputs in units of q.
        factor: of the inputs.
    """
    groups, samples = len(factor.order), len(gradients)
    scaled = gradients.double() / units
    by_group = scaled.reshape(samples, groups, -1, scaled.shape[2]).transpose(0, 1).flatten(1, 2)
    by_group = by_group.gather(2, factor.order[:, None].expand_as(by_group))
    unit = factor.upper.diagonal(dim1=1, dim2=2).pow(-2)
    noticed = (by_group @ factor.upper.mT).square() @ unit[..., None]
    found: Tensor = (noticed[..., 0] / unit.sum(1, keepdim=True)).reshape(groups, samples, -1).sum(1).flatten()
    return found


def _combination(logits: Tensor, random: torch.Generator) -> Tensor:
    """A random combination for each image, float32 [N, classes], of the covariance that the module states."""
    classes = logits.shape[1]
    if classes == 1:
        return torch.randn(logits.shape, generator=random)
    sure, even = (torch.randn(logits.shape, generator=random) for _ in range(2))
    chance = torch.softmax(logits / TEMPERATURE, 1)
    sure *= chance.sqrt()
    sure -= chance * sure.sum(1, keepdim=True)
    return math.sqrt((1 - SHARE) * classes) * sure + math.sqrt(SHARE) * (even - even.mean(1, keepdim=True))


def _logits(graph: FoldedGraph, pixels: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    values = {IMAGE: pixels}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, FoldedConv):
            x = pad(inputs[0], node.padding, node.pad_value)
            value = F.conv2d(x, weights[node.name], torch.from_numpy(node.bias), node.stride, groups=node.groups)
        else:
            value = apply_folded(node, inputs)
        if node.name in graph.rectified:
            value = value.clamp(0, graph.rectified[node.name])
        values[node.name] = value
        for name in set(node.inputs):
            if graph.last_reader[name] == node.name:
                del values[name]
    return values[graph.head.name].mean((2, 3))
