"""Quantization-aware training: the integer graph as a torch module whose weights can be trained.

The forward pass is the integer arithmetic itself (R2-R6), on floats that hold the integers: what is trained is what
is exported. Gradients pass straight through every rounding (Bengio et al., arXiv:1308.3432; Jacob et al.,
arXiv:1712.05877), but not where a value was clipped, which is where the ReLU's is 0, too. Shifts, scales and zero
points stay as the quantizer chose them; with them, the parameters keep the float network's units, so that a recipe's
learning rate and weight decay mean the same for both.

Exactness: every partial sum is an integer times 2^-k, bounded by |bias| + 255 * sum |w| + rounding; a float32 is exact
while that is below 2^24, beyond it the layer takes float64 (R4 keeps all below 2^31). Only under autocast in training
mode are accumulators rounded to that type.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from squeezeedge.graph.float.graph import FloatGraph, FloatMaxPool
from squeezeedge.graph.float.run import apply_float
from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.quantization.convolution_head import convolution_head
from squeezeedge.quantization.fold import fold
from squeezeedge.quantization.fold_batch_norm import fold_batch_norm
from squeezeedge.quantization.folded import FoldedConv
from squeezeedge.quantization.overflow import INT32_LIMIT, bounded
from squeezeedge.quantization.place_relu import place_relu
from squeezeedge.quantization.qat_gradient import floor_through
from squeezeedge.quantization.requantize import exact_type
from squeezeedge.quantization.scale_search import WEIGHT_LIMIT

__all__ = ["QatNetwork"]

CELL = 0.49
"""How far from its integer a weight may start: less than the half at which it would round to another one."""


class QatNetwork(nn.Module):
    """A network of exact integers, trainable.

    Args:
        graph: the quantized network; where training starts from.
        floating: the network that it was quantized from. With it, a weight starts as close to its float value as the
            quantizer's choice of integer permits, else at the integer.

    Tensors between the nodes hold q - z.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, graph: IntegerGraph, floating: FloatGraph | None = None) -> None:
        super().__init__()
        self.name, self.nodes = graph.name, graph.nodes
        self.preprocessing, self.labels = graph.preprocessing, graph.labels
        self.zero_points = {name: tensor.zero_point for name, tensor in graph.tensors.items()}
        self.last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
        self.dropout = nn.Dropout()
        folded = {} if floating is None else _folded_weights(floating, graph)
        units = _units(graph)
        self.layers = nn.ModuleList()
        self.layer_of: dict[str, int] = {}
        for node in graph.nodes:
            if isinstance(node, Conv | Head):
                self.layer_of[node.name] = len(self.layers)
                self.layers.append(_Layer(node, graph, units[node.input], folded.get(node.name)))
        for key in ("mean", "std"):
            value = torch.tensor(getattr(self.preprocessing, key)).reshape(1, 3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        self.register_buffer("scale", torch.from_numpy(graph.head.scale.copy()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, as of the float network; in evaluation mode they equal ``graph.logits(class sums)`` bit for bit.

        Args:
            images: normalized float32 [N, 3, height, width]; rounded to pixels of 0..255 (R2).

        Returns:
            float32 [N, classes].
        """
        pixels = ((images * self.std + self.mean) * 255).round().clamp(0, 255)
        return self.class_sums(pixels).float() * self.scale

    def class_sums(self, pixels: Tensor) -> Tensor:
        """The head's sums over the map (R6); in evaluation mode those of the oracle on :meth:`integer_graph`.

        Args:
            pixels: float32 [N, 3, height, width], integers in 0..255.

        Returns:
            float64 [N, classes], integers; in training, dropout scales what it leaves.
        """
        if tuple(pixels.shape[2:]) != self.preprocessing.size:
            raise ValueError(f"images must be of {self.preprocessing.size} pixels, not {tuple(pixels.shape[2:])}")
        exactly: AbstractContextManager[Any] = torch.autocast(pixels.device.type, enabled=False)
        values = {IMAGE: pixels}
        with nullcontext() if self.training else exactly:
            for node in self.nodes[:-1]:
                values[node.name] = self._run(node, [values[name] for name in node.inputs])
                for name in set(node.inputs):
                    if self.last_reader[name] == node.name:
                        del values[name]
        head = self.nodes[-1]
        assert isinstance(head, Head)
        with exactly:
            sums: Tensor = self._layer(head)(self.dropout(values[head.input]).float())
            return (sums.relu() if head.relu else sums).sum((2, 3), dtype=torch.float64)

    def integer_graph(self) -> IntegerGraph:
        """The trained network as an integer graph: other weights and biases, all else as it was."""
        return IntegerGraph(self.name, tuple(map(self._exported, self.nodes)), self.preprocessing, self.labels)

    def _run(self, node: Node, inputs: list[Tensor]) -> Tensor:
        low = -self.zero_points[node.name]
        if isinstance(node, Conv):
            codes = floor_through(self._layer(node)(inputs[0]), low, low + 255)
            return codes.float() if codes.dtype == torch.float64 else codes
        if isinstance(node, MaxPool):
            if not any(node.padding):
                return F.max_pool2d(inputs[0], node.kernel, node.stride, ceil_mode=node.ceil_mode)
            pool = FloatMaxPool(node.name, (node.input,), node.kernel, node.stride, node.padding, node.ceil_mode)
            return apply_float(pool, inputs)
        if isinstance(node, Concat):
            return torch.cat(inputs, 1)
        assert isinstance(node, Add)
        total = torch.zeros((), device=inputs[0].device)
        for operand, shift in zip(inputs, node.shift, strict=True):
            k = torch.from_numpy(shift).to(operand.device)[:, None, None]
            total = total + floor_through(operand.float() * torch.exp2(-k.float()) + 0.5 * (k > 0))
        return total.clamp(low, low + 255)

    def _layer(self, node: Conv | Head) -> _Layer:
        layer = self.layers[self.layer_of[node.name]]
        assert isinstance(layer, _Layer)
        return layer

    @torch.no_grad()
    def _exported(self, node: Node) -> Node:
        if not isinstance(node, Conv | Head):
            return node
        codes = self._layer(node).codes()
        weight = codes.weight.permute(0, 2, 3, 1).cpu().numpy().astype(np.int8)
        return replace(node, weight=np.ascontiguousarray(weight), bias=codes.bias.cpu().numpy().astype(np.int32))


class _Codes(NamedTuple):
    """Integers of a convolution, with the gradients of the values that they are rounded from.

    Attributes:
        weight: float32 [out, in, kh, kw].
        bias: float64 [out].
        reach: float64 [out]: bound of the accumulators, the rounding term left out (R4).
    """

    weight: Tensor
    bias: Tensor
    reach: Tensor


class _Units(NamedTuple):
    """What the codes of a tensor stand for in the float network: scale * (q - z - centre), float64 [channels] each."""

    scale: NDArray[np.float64]
    centre: NDArray[np.float64]


class _Layer(nn.Module):
    """A convolution or the head.

    Parameters:
        weight, bias: float32 [out, in, kh, kw] and [out], in the units of the float network, batch normalization
        folded in.
    """

    gain: Tensor
    step: Tensor
    shift: Tensor
    centre: Tensor | None

    def __init__(
        self, node: Conv | Head, graph: IntegerGraph, units: _Units, folded: NDArray[np.float64] | None
    ) -> None:
        super().__init__()
        out = graph.tensors[node.name]
        self.stride, self.padding = node.stride, node.padding
        self.zero_point, self.pixels = out.zero_point, out.height * out.width if isinstance(node, Head) else 1
        self.pad_value = torch.from_numpy(node.pad_value.astype(np.float32)) if node.input == IMAGE else None
        shift = node.shift.astype(np.int64) if isinstance(node, Conv) else np.zeros(len(node.bias), np.int64)
        step = node.scale * np.exp2(-shift.astype(np.float64)) * self.pixels
        codes = node.weight.transpose(0, 3, 1, 2).astype(np.float64)
        # A channel without weights has any step, perhaps the least float32.
        gain = np.minimum(units.scale / step[:, None], 1e30)[:, :, None, None]
        start = codes
        if folded is not None:
            wanted = folded * (graph.tensors[node.input].scale / step[:, None])[:, :, None, None]
            start = wanted.clip(codes - CELL, codes + CELL).clip(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        bias = (node.bias + codes.sum((2, 3)) @ units.centre) * step
        self.weight = nn.Parameter(torch.from_numpy((start / gain).astype(np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        for key, value in (("gain", np.float32(gain)), ("step", step), ("shift", shift)):
            self.register_buffer(key, torch.from_numpy(value), persistent=False)
        centre = torch.from_numpy(units.centre) if units.centre.any() else None
        self.register_buffer("centre", centre, persistent=False)

    def codes(self) -> _Codes:
        """Round weights and bias; a channel that R4 or R6 forbids is projected as :mod:`overflow` does."""
        weight = floor_through(self.weight * self.gain + 0.5, -WEIGHT_LIMIT, WEIGHT_LIMIT)
        offset = self.bias / self.step
        if self.centre is not None:
            offset = offset - weight.sum((2, 3)).double() @ self.centre
        bias = floor_through(offset + 0.5, -INT32_LIMIT, INT32_LIMIT)
        with torch.no_grad():
            reach = self._reach(weight, bias)
            room = (INT32_LIMIT - 1) // self.pixels - ((1 << self.shift) >> 1) - self.zero_point
            fits = bool((reach <= room).all())
        if fits:
            return _Codes(weight, bias, reach)
        with torch.no_grad():
            rows, limited = bounded(weight.flatten(1).double(), bias, self.shift, self.zero_point, self.pixels)
            shrunk = rows.reshape(weight.shape).float()
            reach = self._reach(shrunk, limited)
            change = shrunk - weight, limited - bias
        return _Codes(weight + change[0], bias + change[1], reach)

    def forward(self, x: Tensor) -> Tensor:
        """(accumulator + rounding term) * 2^-k, before it is rounded down; of the head, accumulators.

        Args:
            x: [N, in, height, width], q - z; of the image, q.

        Returns:
            [N, out, height, width] of float32, of float64 where that is not exact, or of autocast's type.
        """
        codes = self.codes()
        multiplier = torch.exp2(-self.shift.double())
        half = (1 << self.shift) >> 1
        dtype = exact_type(float((codes.reach + half).max()))
        if x.is_cuda and not self.training:  # convolutions of float32 there may take inexact algorithms
            dtype = torch.float64
        if self.pad_value is not None and any(self.padding):
            value = self.pad_value.to(x.device)[:, None, None]
            x, padding = self._padded(x - value) + value, (0, 0)
        elif self.padding[:2] == self.padding[2:]:
            padding = self.padding[:2]
        else:
            x, padding = self._padded(x), (0, 0)
        weight = codes.weight * multiplier.float()[:, None, None, None]
        bias = (codes.bias + half) * multiplier
        if dtype == torch.float64:
            x = x.double()
        return F.conv2d(x, weight.to(dtype), bias.to(dtype), self.stride, padding)

    def _padded(self, x: Tensor) -> Tensor:
        top, left, bottom, right = self.padding
        return F.pad(x, (left, right, top, bottom))

    def _reach(self, weight: Tensor, bias: Tensor) -> Tensor:
        return 255 * weight.abs().sum((1, 2, 3), dtype=torch.float64) + bias.abs()


def _folded_weights(floating: FloatGraph, graph: IntegerGraph) -> dict[str, NDArray[np.float64]]:
    """The float weights by the names of the quantizer's nodes, float64 [out, in, kh, kw]."""
    folded = fold(place_relu(convolution_head(fold_batch_norm(floating))), graph.preprocessing)
    return {node.name: node.weight.astype(np.float64) for node in folded.nodes if isinstance(node, FoldedConv)}


def _units(graph: IntegerGraph) -> dict[str, _Units]:
    """Units of every tensor; those of the image are normalized values (also behind a max pooling of it)."""
    preprocessing = graph.preprocessing
    units = {IMAGE: _Units(1 / (255 * np.array(preprocessing.std)), 255 * np.array(preprocessing.mean))}
    for node in graph.nodes:
        if isinstance(node, MaxPool):
            units[node.name] = units[node.input]
        elif isinstance(node, Concat):
            parts = [units[name] for name in node.inputs]
            units[node.name] = _Units(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        elif not isinstance(node, Head):
            units[node.name] = _Units(node.scale.astype(np.float64), np.zeros(len(node.scale)))
    return units
