"""Pass: batch normalization into convolutions (Jacob et al., arXiv:1712.05877, section 3.2).

Assumes: any float graph.
Guarantees: the same function without batch normalization. In order of preference, a normalization is

1. folded into the convolution before it, if nothing else reads that one;
2. folded into the convolutions after it, if only convolutions read it and none of them pads (or there is no
   offset): a padded pixel is zero behind the normalization, which would not be zero in front of it;
3. replaced by a 1x1 convolution with a diagonal weight.

Rule: R3 (convolution is the only operator with weights).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeezeedge.graph.float.builder import FloatGraphBuilder
from squeezeedge.graph.float.graph import IMAGE, FloatBatchNorm, FloatConv, FloatGraph, FloatNode
from squeezeedge.quantization.rewrite import pointwise_conv, readers, rewired

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    read_by = readers(graph.nodes)
    convs: dict[str, int] = {}  # convolution -> its place in nodes
    ahead: dict[str, FloatBatchNorm] = {}  # normalizations that their readers take in
    alias = {IMAGE: IMAGE}
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        source = node.inputs[0]
        if isinstance(node, FloatBatchNorm):
            norm = replace(node, inputs=(alias[source],))
            if norm.inputs[0] in convs and source not in ahead and len(read_by[source]) == 1:
                place = convs[norm.inputs[0]]
                nodes[place] = _after(nodes[place], norm)
                alias[node.name] = norm.inputs[0]
                continue
            following = read_by[node.name]
            if source not in ahead and following and all(_takes(norm, reader) for reader in following):
                ahead[node.name] = norm
                alias[node.name] = norm.inputs[0]
                continue
            diagonal = pointwise_conv(node.name, norm.inputs[0], np.diag(norm.multiplier), norm.offset)
            made: FloatNode = diagonal
        else:
            made = rewired(node, alias)
        if source in ahead:
            made = _before(made, ahead[source])
        if isinstance(made, FloatConv):
            convs[made.name] = len(nodes)
        alias[node.name] = made.name
        nodes.append(made)
    builder = FloatGraphBuilder(graph.input_size)
    for node in nodes:
        builder.append(node)
    return builder.build(graph.name, alias[graph.nodes[-1].name])


def _takes(norm: FloatBatchNorm, reader: FloatNode) -> bool:
    return isinstance(reader, FloatConv) and not (any(reader.padding) and norm.offset.any())


def _after(conv: FloatNode, norm: FloatBatchNorm) -> FloatConv:
    """norm(conv(x)) as one convolution."""
    assert isinstance(conv, FloatConv)
    multiplier = norm.multiplier.astype(np.float64)
    weight = (conv.weight * multiplier[:, None, None, None]).astype(np.float32)
    return replace(conv, weight=weight, bias=(conv.bias * multiplier + norm.offset).astype(np.float32))


def _before(conv: FloatNode, norm: FloatBatchNorm) -> FloatConv:
    """conv(norm(x)) as one convolution."""
    assert isinstance(conv, FloatConv)
    weight = conv.weight.astype(np.float64)
    bias = conv.bias + (weight * norm.offset[:, None, None]).sum((1, 2, 3))
    scaled = (weight * norm.multiplier[:, None, None]).astype(np.float32)
    return replace(conv, weight=scaled, bias=bias.astype(np.float32))
