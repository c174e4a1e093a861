"""Pass: batch normalization into convolutions (Jacob et al., arXiv:1712.05877, section 3.2).

Assumes: no average pooling but the global one.
Guarantees: the same function without batch normalization. In order of preference, a normalization is

1. folded into the convolution before it, if nothing else reads that one;
2. folded into the convolutions after it, if only convolutions read it and none of them pads (or there is no
   offset): padding adds zeros behind the normalization, and a zero there is no zero in front of it;
3. replaced by a 1x1 convolution with a diagonal weight.

Rule: R3 (convolution is the only operator with weights).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.builder import FloatGraphBuilder
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
    FloatNode,
    FloatRelu,
)
from squeezeedge.quantization.rewrite import of_kind, per_output, pointwise_conv, readers, rewired

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    folder = _Folder(graph)
    for node in graph.nodes:
        _visit(node, folder)
    builder = FloatGraphBuilder(graph.input_size)
    for node in folder.nodes.values():
        builder.append(node)
    return builder.build(graph.name, folder.alias[graph.nodes[-1].name])


class _Folder:
    """One walk in execution order.

    Attributes:
        nodes: new nodes by name, in execution order.
        convs: those of them that are convolutions.
        ahead: normalizations that their readers take in.
        alias: old tensors -> new ones.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self.read_by = readers(graph.nodes)
        self.paddings = {conv.name: conv.padding for conv in of_kind(graph.nodes, FloatConv)}
        self.nodes: dict[str, FloatNode] = {}
        self.convs: dict[str, FloatConv] = {}
        self.ahead: dict[str, FloatBatchNorm] = {}
        self.alias = {IMAGE: IMAGE}

    def append(self, node: FloatNode) -> None:
        self.nodes[node.name] = node
        self.alias[node.name] = node.name

    def append_conv(self, conv: FloatConv) -> None:
        self.convs[conv.name] = conv
        self.append(conv)

    def taken(self, norm: FloatBatchNorm) -> bool:
        """Whether everything that reads a normalization can take it in."""
        following = self.read_by[norm.name]
        return bool(following) and all(
            reader.name in self.paddings and not (any(self.paddings[reader.name]) and norm.offset.any())
            for reader in following
        )


_visit: Table[FloatNode, None] = Table("folding of batch normalization", FLOAT_OPERATORS)


@_visit.implements(FloatBatchNorm)
def _norm(node: FloatBatchNorm, folder: _Folder) -> None:
    (old,) = node.inputs
    source = folder.alias[old]
    if source in folder.convs and len(folder.read_by[old]) == 1:
        folder.append_conv(_after(folder.convs[source], node))
        folder.alias[node.name] = source
    elif folder.taken(node):
        folder.ahead[node.name] = replace(node, inputs=(source,))
        folder.alias[node.name] = source
    else:
        folder.append_conv(pointwise_conv(node.name, source, np.diag(node.multiplier), node.offset))


@_visit.implements(FloatConv)
def _conv(node: FloatConv, folder: _Folder) -> None:
    conv = replace(node, inputs=(folder.alias[node.inputs[0]],))
    norm = folder.ahead.get(node.inputs[0])
    folder.append_conv(conv if norm is None else _before(conv, norm))


@_visit.implements(FloatRelu, FloatMaxPool, FloatConcat, FloatAdd, FloatGlobalAveragePool, FloatLinear)
def _other(node: FloatNode, folder: _Folder) -> None:
    folder.append(rewired(node, folder.alias))


_visit.refuses(FloatAveragePool, why="averages have become convolutions before")


def _after(conv: FloatConv, norm: FloatBatchNorm) -> FloatConv:
    """norm(conv(x)) as one convolution."""
    multiplier = norm.multiplier.astype(np.float64)
    weight = (conv.weight * multiplier[:, None, None, None]).astype(np.float32)
    return replace(conv, weight=weight, bias=(conv.bias * multiplier + norm.offset).astype(np.float32))


def _before(conv: FloatConv, norm: FloatBatchNorm) -> FloatConv:
    """conv(norm(x)) as one convolution."""
    weight = conv.weight.astype(np.float64)
    multiplier, offset = (
        per_output(values, len(weight), conv.groups)[:, :, None, None] for values in (norm.multiplier, norm.offset)
    )
    bias = conv.bias + (weight * offset).sum((1, 2, 3))
    return replace(conv, weight=(weight * multiplier).astype(np.float32), bias=bias.astype(np.float32))
