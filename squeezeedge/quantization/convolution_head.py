"""Pass: the network's end as one convolution, perhaps its ReLU, and a global average pooling.

Assumes: no batch normalization.
Guarantees: the same function; the last node is a global average pooling, in front of it a convolution that nothing
else reads, or the ReLU of one. A fully connected layer is linear, so it moves in front of the pooling as a 1x1
convolution; a linear convolution right before that one is multiplied into it, unless that costs multiplications.
Where the network ends in anything else, a 1x1 convolution that copies is put there.

Rule: R6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeezeedge.graph.float.builder import FloatGraphBuilder
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatNode,
    FloatRelu,
)
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, pointwise_conv, readers

__all__ = ["convolution_head"]


def convolution_head(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    nodes = list(graph.nodes)
    linear = nodes.pop() if isinstance(nodes[-1], FloatLinear) else None
    pool = nodes.pop() if nodes and isinstance(nodes[-1], FloatGlobalAveragePool) else None
    source = nodes[-1].name if nodes else IMAGE  # the graph has no dead nodes: this one makes what is pooled
    if isinstance(linear, FloatLinear):
        nodes.append(pointwise_conv(linear.name, source, linear.weight, linear.bias))
        nodes = _merged(nodes)
    elif not _ends_in_conv(nodes):
        name = fresh_name(f"{source}.identity", graph.shapes)
        nodes.append(identity_conv(name, source, graph.shapes[source][0]))
    builder = FloatGraphBuilder(graph.input_size)
    for node in nodes:
        builder.append(node)
    name = pool.name if pool is not None else fresh_name(f"{nodes[-1].name}.pool", graph.shapes)
    return builder.build(graph.name, builder.append(FloatGlobalAveragePool(name, (nodes[-1].name,))))


def _ends_in_conv(nodes: list[FloatNode]) -> bool:
    """Whether the last node is a convolution, or the ReLU of one that nothing else reads."""
    if not nodes or isinstance(nodes[-1], FloatConv):
        return bool(nodes)
    source = nodes[-1].inputs[0]
    made_by_conv = any(isinstance(node, FloatConv) and node.name == source for node in nodes)
    return isinstance(nodes[-1], FloatRelu) and made_by_conv and len(readers(nodes)[source]) == 1


def _merged(nodes: list[FloatNode]) -> list[FloatNode]:
    """The fully connected layer multiplied into a linear convolution before it, if only it reads that one."""
    head, before = nodes[-1], nodes[-2] if len(nodes) > 1 else None
    assert isinstance(head, FloatConv)
    if not isinstance(before, FloatConv):
        return nodes
    classes, channels = head.weight.shape[:2]
    fan_in = before.weight[0].size
    if classes * fan_in > channels * (fan_in + classes):
        return nodes
    outer = head.weight[:, :, 0, 0].astype(np.float64)
    weight = np.tensordot(outer, before.weight, 1).astype(np.float32)
    bias = (outer @ before.bias + head.bias).astype(np.float32)
    return [*nodes[:-2], replace(before, name=head.name, weight=weight, bias=bias)]
