"""Pass: float graph -> folded graph; preprocessing and ReLUs become parts of the nodes beside them.

Assumes: what :mod:`place_relu` and :mod:`convolution_head` guarantee.
Guarantees: the same function of the image's pixels. Mean and standard deviation are folded into the convolutions
that read the image, whose padded pixels hold the mean pixel (R2). All else that reads the image, or a max pooling of
it (their values are no multiples of one scale: the mean is not zero), reads a 1x1 convolution that copies. The
operands of a concatenation have one zero point (R5): where some have negatives, the others are copied likewise.

Rules: R2, R3, R5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatMaxPool,
    FloatNode,
    FloatRelu,
)
from squeezeedge.quantization.folded import FoldedAdd, FoldedConv, FoldedGraph, FoldedNode
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, rewired

__all__ = ["fold"]


def fold(graph: FloatGraph, preprocessing: Preprocessing) -> FoldedGraph:
    """Apply the pass; see the module.

    Args:
        graph: the float graph; its input is normalized.
        preprocessing: mean and standard deviation of that normalization.
    """
    folder = _Folder(graph, preprocessing)
    for node in graph.nodes:
        folder.visit(node)
    return FoldedGraph(tuple(folder.nodes), graph.input_size)


class _Folder:
    """One walk in execution order; ``alias`` maps the old tensors to the new ones."""

    def __init__(self, graph: FloatGraph, preprocessing: Preprocessing) -> None:
        self.old = graph
        self.multiplier = 1 / (255 * np.array(preprocessing.std))
        self.offset = -np.array(preprocessing.mean) / preprocessing.std
        self.mean_pixel = (255 * np.array(preprocessing.mean)).astype(np.float32)
        self.nodes: list[FoldedNode] = []
        self.alias = {IMAGE: IMAGE}
        self.raw = {IMAGE}  # the image and max poolings of it
        self.signed: set[str] = set()
        self.rectified = {node.inputs[0] for node in graph.nodes if isinstance(node, FloatRelu)}
        self.copies: dict[str, str] = {}

    def visit(self, node: FloatNode) -> None:
        if isinstance(node, FloatRelu | FloatGlobalAveragePool):  # parts of the nodes before them
            self.alias[node.name] = self.alias[node.inputs[0]]
            return
        inputs = [self.alias[name] for name in node.inputs]
        if isinstance(node, FloatConcat) and len(inputs) == 1:
            self.alias[node.name] = inputs[0]
            return
        direct = isinstance(node, FloatMaxPool) or (
            isinstance(node, FloatConv) and (inputs[0] == IMAGE or not any(node.padding))
        )
        if not direct:
            inputs = [self._copy(name) if name in self.raw else name for name in inputs]
        if isinstance(node, FloatConcat) and self.signed.intersection(inputs):
            inputs = [name if name in self.signed else self._copy(name) for name in inputs]
        made = rewired(node, dict(zip(node.inputs, inputs, strict=True)))
        self.alias[node.name] = self._append(made, node.name in self.rectified)

    def _append(self, node: FloatNode, relu: bool) -> str:
        signed = not self.signed.isdisjoint(node.inputs)
        if isinstance(node, FloatConv):
            self.nodes.append(self._conv(node, relu))
            signed = not relu
        elif isinstance(node, FloatAdd):
            self.nodes.append(FoldedAdd(node.name, node.inputs, relu))
            signed &= not relu
        else:
            assert isinstance(node, FloatMaxPool | FloatConcat)
            self.nodes.append(node)
            if isinstance(node, FloatMaxPool) and node.inputs[0] in self.raw:
                self.raw.add(node.name)
        if signed:
            self.signed.add(node.name)
        return node.name

    def _conv(self, node: FloatConv, relu: bool) -> FoldedConv:
        weight, bias = node.weight.astype(np.float64), node.bias.astype(np.float64)
        pad_value: NDArray[np.float32] = np.zeros(weight.shape[1], np.float32)
        if node.inputs[0] in self.raw:
            bias = bias + (weight * self.offset[:, None, None]).sum((1, 2, 3))
            weight = weight * self.multiplier[:, None, None]
            pad_value = self.mean_pixel if node.inputs[0] == IMAGE else pad_value
        return FoldedConv(
            node.name,
            node.inputs,
            weight.astype(np.float32),
            bias.astype(np.float32),
            node.stride,
            node.padding,
            pad_value,
            relu,
        )

    def _copy(self, source: str) -> str:
        """A tensor with the same values and zero point 128."""
        if source not in self.copies:
            name = fresh_name(f"{source}.copy", {*self.old.shapes, *(node.name for node in self.nodes)})
            self.copies[source] = self._append(identity_conv(name, source, self.old.shapes[source][0]), False)
        return self.copies[source]
