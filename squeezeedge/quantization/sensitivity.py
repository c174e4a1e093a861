"""How much an error in a tensor changes the logits, to first order: gradients of random projections of the logits.

With d the error of a tensor and J the logits' Jacobian, the squared error of the logits is |J d|^2. This is the
expectation of ((r J) . d)^2 over vectors r of independent signs (Hutchinson, 1990), so a few backward passes rank all
channels of all layers. The ranking is a Gauss-Newton approximation; it takes errors of different channels as
independent.

The sums of the convolutions are exact in both directions (:mod:`exact`), so that the ranking is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from squeezeedge.graph.integer import IMAGE
from squeezeedge.quantization.exact import FLOAT64_BITS, exact_conv2d, fixed_point, sum_bits
from squeezeedge.quantization.folded import FoldedConv, FoldedGraph, apply_folded, pad

__all__ = ["Probe", "probes"]

SEED = 0


@dataclass(frozen=True, eq=False)
class Probe:
    """A tensor of the float network on a few images.

    Attributes:
        value: float32 [N, channels, height, width], after the ReLU.
        gradients: float32 [probes, N, channels, height, width]: of random projections of the logits.
    """

    value: Tensor
    gradients: Tensor


def probes(
    graph: FoldedGraph, pixels: Tensor, names: Collection[str], *, count: int, batch: int
) -> Iterator[dict[str, Probe]]:
    """Run the float network on images and back.

    Args:
        graph: the folded graph.
        pixels: float32 [N, 3, height, width], 0..255.
        names: of the tensors that are asked for.
        count: random projections of every image's logits.
        batch: images at a time.

    Yields:
        For each batch, name -> :class:`Probe`.
    """
    random = np.random.default_rng(SEED)
    convolutions = {conv.name: conv for conv in graph.convolutions}
    for part in torch.split(pixels, batch):
        values, kept = {IMAGE: part}, {}
        with torch.enable_grad():
            for node in graph.nodes:
                inputs = [values[name] for name in node.inputs]
                if node.name in convolutions:
                    value: Tensor = _ExactConv.apply(inputs[0], convolutions[node.name])  # type: ignore[no-untyped-call]
                else:
                    value = apply_folded(node, inputs)
                if node.name in graph.rectified:
                    value = value.clamp(0, graph.rectified[node.name])
                if node.name in names:
                    if not value.requires_grad:
                        value.requires_grad_()
                    kept[node.name] = value
                values[node.name] = value
                for name in set(node.inputs):
                    if graph.last_reader[name] == node.name:
                        del values[name]
            logits = values[graph.head.name].mean((2, 3))
            signs = torch.from_numpy(random.integers(0, 2, (count, *logits.shape)) * 2.0 - 1).float()
            gradients = [
                torch.autograd.grad(logits, list(kept.values()), of_probe, retain_graph=True) for of_probe in signs
            ]
        yield {
            name: Probe(value.detach(), torch.stack(of_name))
            for (name, value), of_name in zip(kept.items(), zip(*gradients, strict=True), strict=True)
        }


class _ExactConv(torch.autograd.Function):
    """A convolution with exact sums, in both directions: their order changes nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, node: FoldedConv) -> Tensor:  # noqa: ANN401  (torch's own type)
        padded = pad(x, node.padding, node.pad_value)
        ctx.node, ctx.shape = node, padded.shape
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        return exact_conv2d(padded, weight, bias, node.stride, node.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        node: FoldedConv = ctx.node
        bits = FLOAT64_BITS - sum_bits(len(node.weight) // node.groups * math.prod(node.weight.shape[2:]))
        gradient, unit = fixed_point(gradients[0].double(), bits // 2, (1, 2, 3))
        kernel, step = fixed_point(torch.from_numpy(node.weight).double(), bits - bits // 2, (0, 1, 2, 3))
        height, width = ctx.shape[2:]
        left = [  # rows and columns that no window reaches
            (size - kernel_size) % stride
            for size, kernel_size, stride in zip((height, width), kernel.shape[2:], node.stride, strict=True)
        ]
        whole = F.conv_transpose2d(gradient, kernel, None, node.stride, 0, left, node.groups).mul_(unit * step)
        top, beside, bottom, right = node.padding
        return whole[:, :, top : height - bottom, beside : width - right].float(), None
