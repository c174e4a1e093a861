"""Quantization-aware training: the integer graph as a torch module whose weights can be trained.

The forward pass is the integer arithmetic itself (R2-R6), on floats that hold the integers: what is trained is what
is exported. Gradients pass straight through every rounding (Bengio et al., arXiv:1308.3432; Jacob et al.,
arXiv:1712.05877). They are 0 where a value was clipped, as a ReLU's gradient is. Shifts, scales and zero points stay as
the quantizer chose them. The parameters keep the float network's units, so a recipe's learning rate and weight decay
mean the same for both.

Exactness: every partial sum is an integer times 2^-k, bounded by |bias| + 255 * sum |w| + rounding. Below 2^24, float32
holds it exactly; beyond that, the layer computes in float64 (R4 keeps all sums below 2^31). Only autocast in training
mode rounds accumulators, to its own type.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.graph import FloatGraph, FloatMaxPool
from squeezeedge.graph.float.run import apply_float
from squeezeedge.graph.integer import (
    IMAGE,
    INTEGER_OPERATORS,
    Add,
    Concat,
    Conv,
    Head,
    IntegerGraph,
    MaxPool,
    Node,
)
from squeezeedge.quantization.overflow import bounded
from squeezeedge.quantization.passes import folded_graph
from squeezeedge.quantization.qat_gradient import floor_through
from squeezeedge.quantization.requantize import exact_type
from squeezeedge.quantization.rewrite import of_kind, per_output

__all__ = ["QatNetwork"]

CELL = 0.49
"""How far from its integer a weight may start: less than the half at which it would round to another one."""

Convolution = TypeVar("Convolution", Conv, Head)


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
        self.layer_of: dict[str, _Layer] = {}
        out = graph.tensors[graph.head.name]
        layers: list[tuple[Conv | Head, NDArray[np.uint8], int]]
        layers = [(conv, conv.shift, 1) for conv in of_kind(graph.nodes, Conv)]
        layers.append((graph.head, np.zeros(out.channels, np.uint8), out.height * out.width))
        for node, shift, summed in layers:
            layer = _Layer(node, shift, summed, graph, units[node.input], folded.get(node.name))
            self.layers.append(layer)
            self.layer_of[node.name] = layer
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
        pixels = ((images * self.std + self.mean) * 255).round().clamp(0, rules.Q_MAX)
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
            for node in self.nodes:
                values[node.name] = _run(node, [values[name] for name in node.inputs], self)
                for name in set(node.inputs):
                    if self.last_reader[name] == node.name:
                        del values[name]
        return values[self.nodes[-1].name]

    @torch.no_grad()
    def integer_graph(self) -> IntegerGraph:
        """The trained network as an integer graph: other weights and biases, all else as it was."""
        nodes = tuple(_exported(node, self) for node in self.nodes)
        return IntegerGraph(self.name, nodes, self.preprocessing, self.labels)


_run: Table[Node, Tensor] = Table("training", INTEGER_OPERATORS)
"""(node, its inputs, network) -> q - z of its result; of the head, the class sums."""


@_run.implements(Conv)
def _run_conv(node: Conv, inputs: list[Tensor], network: QatNetwork) -> Tensor:
    low = -node.zero_point
    codes = floor_through(network.layer_of[node.name](inputs[0]), low, low + rules.Q_MAX)
    return codes.float() if codes.dtype == torch.float64 else codes


@_run.implements(MaxPool)
def _run_max_pool(node: MaxPool, inputs: list[Tensor], network: QatNetwork) -> Tensor:
    if not any(node.padding):
        return F.max_pool2d(inputs[0], node.kernel, node.stride, ceil_mode=node.ceil_mode)
    pool = FloatMaxPool(node.name, (node.input,), node.kernel, node.stride, node.padding, node.ceil_mode)
    return apply_float(pool, inputs)


@_run.implements(Concat)
def _run_concat(node: Concat, inputs: list[Tensor], network: QatNetwork) -> Tensor:
    return torch.cat(inputs, 1)


@_run.implements(Add)
def _run_add(node: Add, inputs: list[Tensor], network: QatNetwork) -> Tensor:
    total = torch.zeros((), device=inputs[0].device)
    for operand, shift in zip(inputs, node.shift, strict=True):
        k = torch.from_numpy(shift.astype(np.int64)).to(operand.device)[:, None, None]
        term = rules.rounding_term(k) * torch.exp2(-k.float())
        total = total + floor_through(operand.float() * torch.exp2(-k.float()) + term)
    return total.clamp(-node.zero_point, rules.Q_MAX - node.zero_point)


@_run.implements(Head)
def _run_head(node: Head, inputs: list[Tensor], network: QatNetwork) -> Tensor:
    with torch.autocast(inputs[0].device.type, enabled=False):
        sums: Tensor = network.layer_of[node.name](network.dropout(inputs[0]).float())
        return (sums.relu() if node.relu else sums).sum((2, 3), dtype=torch.float64)


_exported: Table[Node, Node] = Table("export of a trained network", INTEGER_OPERATORS)
"""(node, network) -> the node with what training has made of it."""


@_exported.implements(Conv, Head)
def _trained(node: Convolution, network: QatNetwork) -> Convolution:
    codes = network.layer_of[node.name].codes()
    weight = codes.weight.permute(0, 2, 3, 1).cpu().numpy().astype(np.int8)
    return replace(node, weight=np.ascontiguousarray(weight), bias=codes.bias.cpu().numpy().astype(np.int32))


@_exported.implements(MaxPool, Concat, Add)
def _as_it_was(node: Node, network: QatNetwork) -> Node:
    return node


class _Codes(NamedTuple):
    """Integers of a convolution, with the gradients of the values that they are rounded from.

    Attributes:
        weight: float32 [out, in / groups, kh, kw].
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

    Args:
        node: the convolution or the head.
        shift: uint8 [out], k; 0 of the head.
        pixels: accumulators that are summed: height * width for the head, else 1.
        graph: what the node is part of.
        units: of its input.
        folded: float weights to start from, float64 [out, in / groups, kh, kw].

    Parameters:
        weight, bias: float32 [out, in / groups, kh, kw] and [out], in the units of the float network, batch
        normalization folded in.
    """

    gain: Tensor
    step: Tensor
    shift: Tensor
    centre: Tensor | None

    def __init__(
        self,
        node: Conv | Head,
        shift: NDArray[np.uint8],
        pixels: int,
        graph: IntegerGraph,
        units: _Units,
        folded: NDArray[np.float64] | None,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = node.stride, node.padding, node.groups
        self.zero_point, self.pixels = graph.tensors[node.name].zero_point, pixels
        self.pad_value = torch.from_numpy(node.pad_value.astype(np.float32)) if node.input == IMAGE else None
        out = len(node.bias)
        scale, centre = (per_output(values, out, node.groups) for values in units)
        step = node.scale * np.exp2(-shift.astype(np.float64)) * pixels
        codes = node.weight.transpose(0, 3, 1, 2).astype(np.float64)
        # A channel without weights has any step, perhaps the least float32.
        gain = np.minimum(scale / step[:, None], 1e30)[:, :, None, None]
        start = codes
        if folded is not None:
            scale_in = per_output(graph.tensors[node.input].scale, out, node.groups)
            wanted = folded * (scale_in / step[:, None])[:, :, None, None]
            start = wanted.clip(codes - CELL, codes + CELL).clip(-rules.WEIGHT_LIMIT, rules.WEIGHT_LIMIT)
        bias = (node.bias + (codes.sum((2, 3)) * centre).sum(1)) * step
        self.weight = nn.Parameter(torch.from_numpy((start / gain).astype(np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        for key, value in (("gain", np.float32(gain)), ("step", step), ("shift", shift.astype(np.int64))):
            self.register_buffer(key, torch.from_numpy(value), persistent=False)
        self.register_buffer("centre", torch.from_numpy(centre) if centre.any() else None, persistent=False)

    def codes(self) -> _Codes:
        """Round weights and bias; a channel that R4 or R6 forbids is projected as :mod:`overflow` does."""
        weight = floor_through(self.weight * self.gain + 0.5, -rules.WEIGHT_LIMIT, rules.WEIGHT_LIMIT)
        offset = self.bias / self.step
        if self.centre is not None:
            offset = offset - (weight.sum((2, 3)).double() * self.centre).sum(1)
        bias = floor_through(offset + 0.5, -rules.INT32_LIMIT, rules.INT32_LIMIT)
        with torch.no_grad():
            reach = self._reach(weight, bias)
            room = (rules.INT32_LIMIT - 1) // self.pixels - rules.rounding_term(self.shift) - self.zero_point
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
        """(accumulator + rounding term) * 2^-k, not yet rounded down; for the head, the accumulators.

        Args:
            x: [N, in, height, width], q - z; of the image, q.

        Returns:
            [N, out, height, width] of float32, of float64 where that is not exact, or of autocast's type.
        """
        codes = self.codes()
        multiplier = torch.exp2(-self.shift.double())
        term = rules.rounding_term(self.shift)
        dtype = exact_type(float((codes.reach + term).max()))
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
        bias = (codes.bias + term) * multiplier
        if dtype == torch.float64:
            x = x.double()
        return F.conv2d(x, weight.to(dtype), bias.to(dtype), self.stride, padding, groups=self.groups)

    def _padded(self, x: Tensor) -> Tensor:
        top, left, bottom, right = self.padding
        return F.pad(x, (left, right, top, bottom))

    def _reach(self, weight: Tensor, bias: Tensor) -> Tensor:
        return rules.Q_MAX * weight.abs().sum((1, 2, 3), dtype=torch.float64) + bias.abs()


def _folded_weights(floating: FloatGraph, graph: IntegerGraph) -> dict[str, NDArray[np.float64]]:
    """The float weights by the names of the quantizer's nodes, float64 [out, in / groups, kh, kw]."""
    folded = folded_graph(floating, graph.preprocessing)
    return {node.name: node.weight.astype(np.float64) for node in folded.convolutions}


def _units(graph: IntegerGraph) -> dict[str, _Units]:
    """Units of every tensor; those of the image are normalized values (also behind a max pooling of it)."""
    preprocessing = graph.preprocessing
    units = {IMAGE: _Units(1 / (255 * np.array(preprocessing.std)), 255 * np.array(preprocessing.mean))}
    for node in graph.nodes[:-1]:
        units[node.name] = _unit(node, [units[name] for name in node.inputs])
    return units


_unit: Table[Node, _Units] = Table("units of training", INTEGER_OPERATORS)
"""(node, units of its inputs) -> those of its result."""


@_unit.implements(Conv, Add)
def _scaled(node: Conv | Add, inputs: list[_Units]) -> _Units:
    return _Units(node.scale.astype(np.float64), np.zeros(len(node.scale)))


@_unit.implements(MaxPool, Concat)
def _joined(node: MaxPool | Concat, inputs: list[_Units]) -> _Units:
    return _Units(*(np.concatenate(arrays) for arrays in zip(*inputs, strict=True)))


_unit.refuses(Head, why="the class sums are no tensor")
