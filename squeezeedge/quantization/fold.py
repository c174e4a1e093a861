"""Pass: float graph -> folded graph; preprocessing and ReLUs become parts of the nodes beside them.

Assumes: what :mod:`place_relu` and :mod:`convolution_head` guarantee.
Guarantees: the same function of the image's pixels. Mean and standard deviation are folded into the convolutions
that read the image; their padded pixels hold the mean pixel (R2). Normalized values of the image, or of a max pooling
of it, are no multiples of one scale, because the mean is not zero. So every other reader gets a 1x1 convolution that
copies them. The operands of a concatenation have one zero point (R5): if some have negatives, the others are copied.

Rules: R2, R3, R5.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.graph import (
    FLOAT_OPERATORS,
    IMAGE,
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.quantization.folded import FoldedAdd, FoldedConv, FoldedGraph, FoldedNode
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, of_kind, per_output

__all__ = ["fold"]


def fold(graph: FloatGraph, preprocessing: Preprocessing) -> FoldedGraph:
    """Apply the pass; see the module.

    Args:
        graph: the float graph; its input is normalized.
        preprocessing: mean and standard deviation of that normalization.
    """
    folder = _Folder(graph, preprocessing)
    for node in graph.nodes:
        folder.alias[node.name] = _visit(node, folder)
    return FoldedGraph(tuple(folder.nodes), graph.input_size)


class _Folder:
    """One walk in execution order.

    Attributes:
        nodes: new nodes.
        alias: old tensors -> new ones.
        raw: the image and max poolings of it.
        signed: tensors with negatives.
        rectified: tensors that a ReLU follows -> its limit.
        copies: tensors -> their copies.
    """

    def __init__(self, graph: FloatGraph, preprocessing: Preprocessing) -> None:
        self.old = graph
        self.multiplier = 1 / (255 * np.array(preprocessing.std))
        self.offset = -np.array(preprocessing.mean) / preprocessing.std
        self.mean_pixel = (255 * np.array(preprocessing.mean)).astype(np.float32)
        self.nodes: list[FoldedNode] = []
        self.alias = {IMAGE: IMAGE}
        self.raw = {IMAGE}
        self.signed: set[str] = set()
        self.rectified = {relu.inputs[0]: relu.limit for relu in of_kind(graph.nodes, FloatRelu)}
        self.copies: dict[str, str] = {}

    def append(self, node: FoldedNode, signed: bool) -> str:
        self.nodes.append(node)
        if signed:
            self.signed.add(node.name)
        return node.name

    def append_conv(self, node: FloatConv) -> str:
        """Append a convolution with the ReLU that follows it, if one does."""
        relu = node.name in self.rectified
        weight, bias = node.weight.astype(np.float64), node.bias.astype(np.float64)
        pad_value: NDArray[np.float32] = np.zeros(weight.shape[1] * node.groups, np.float32)
        if node.inputs[0] in self.raw:
            multiplier, offset = (
                per_output(values, len(weight), node.groups)[:, :, None, None]
                for values in (self.multiplier, self.offset)
            )
            bias = bias + (weight * offset).sum((1, 2, 3))
            weight = weight * multiplier
            pad_value = self.mean_pixel if node.inputs[0] == IMAGE else pad_value
        conv = FoldedConv(
            node.name,
            node.inputs,
            weight.astype(np.float32),
            bias.astype(np.float32),
            node.stride,
            node.padding,
            pad_value,
            relu,
            groups=node.groups,
            limit=self.rectified.get(node.name, math.inf),
        )
        return self.append(conv, signed=not relu)

    def copy(self, source: str) -> str:
        """A tensor with the same values and zero point 128."""
        if source not in self.copies:
            name = fresh_name(f"{source}.copy", {*self.old.shapes, *(node.name for node in self.nodes)})
            conv = identity_conv(name, source, self.old.shapes[source].channels)
            self.copies[source] = self.append_conv(conv)
        return self.copies[source]

    def prepared(self, source: str) -> str:
        """The new tensor of an old one; a copy of one that has no scale."""
        new = self.alias[source]
        return self.copy(new) if new in self.raw else new


_visit: Table[object, str] = Table("folding of ReLU and preprocessing", FLOAT_OPERATORS)
"""(node, folder) -> name of the new tensor."""


@_visit.implements(FloatRelu, FloatGlobalAveragePool)
def _part(node: FloatRelu | FloatGlobalAveragePool, folder: _Folder) -> str:
    """A part of the node before it."""
    return folder.alias[node.inputs[0]]


@_visit.implements(FloatConv)
def _conv(node: FloatConv, folder: _Folder) -> str:
    (old,) = node.inputs
    source = folder.alias[old]
    if source != IMAGE and any(node.padding):  # a padded pixel of a pooled image would have to be the mean pixel
        source = folder.prepared(old)
    return folder.append_conv(replace(node, inputs=(source,)))


@_visit.implements(FloatAdd)
def _add(node: FloatAdd, folder: _Folder) -> str:
    first, second = map(folder.prepared, node.inputs)
    relu = node.name in folder.rectified
    signed = not relu and not folder.signed.isdisjoint((first, second))
    return folder.append(FoldedAdd(node.name, (first, second), relu), signed)


@_visit.implements(FloatMaxPool)
def _max_pool(node: FloatMaxPool, folder: _Folder) -> str:
    source = folder.alias[node.inputs[0]]
    if source in folder.raw:
        folder.raw.add(node.name)
    return folder.append(replace(node, inputs=(source,)), source in folder.signed)


@_visit.implements(FloatConcat)
def _concat(node: FloatConcat, folder: _Folder) -> str:
    if len(node.inputs) == 1:
        return folder.alias[node.inputs[0]]
    inputs = [folder.prepared(name) for name in node.inputs]
    signed = not folder.signed.isdisjoint(inputs)
    if signed:
        inputs = [name if name in folder.signed else folder.copy(name) for name in inputs]
    return folder.append(replace(node, inputs=tuple(inputs)), signed)


_visit.refuses(FloatAveragePool, why="averages have become convolutions before")
_visit.refuses(FloatBatchNorm, why="folding of batch normalization comes before")
_visit.refuses(FloatLinear, why="a fully connected layer has become a convolution before")
