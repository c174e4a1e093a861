"""Pass: the network's end as one convolution, perhaps its ReLU, and a global average pooling.

Assumes: no batch normalization.
Guarantees: the same function. The last node is a global average pooling. In front of it is a convolution that nothing
else reads, or the ReLU of such a convolution; this ReLU has no limit, as accumulators have none. A fully connected
layer is linear, so it moves in front of the pooling as a 1x1 convolution. A linear convolution right before that one
is multiplied into it, unless that costs multiplications or the convolution is a grouped one.
Where the network ends in anything else, a 1x1 convolution that copies is added.

Rule: R6.
"""

from __future__ import annotations

import math
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
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, of_kind, pointwise_conv, readers

__all__ = ["convolution_head"]


def convolution_head(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    linear, pool = of_kind(graph.nodes[-1:], FloatLinear), of_kind(graph.nodes[-2:], FloatGlobalAveragePool)
    nodes = list(graph.nodes[: len(graph.nodes) - len(linear) - len(pool)])
    source = nodes[-1].name if nodes else IMAGE  # the graph has no dead nodes: this one makes what is pooled
    if linear:
        head = pointwise_conv(linear[0].name, source, linear[0].weight, linear[0].bias)
        before = of_kind(nodes[-1:], FloatConv)
        if before and _merging_is_cheaper(before[0], head):
            nodes[-1] = _merged(before[0], head)
        else:
            nodes.append(head)
    elif not _ends_in_conv(nodes):
        name = fresh_name(f"{source}.identity", graph.shapes)
        nodes.append(identity_conv(name, source, graph.shapes[source].channels))
    builder = FloatGraphBuilder(graph.input_size)
    for node in nodes:
        builder.append(node)
    name = pool[0].name if pool else fresh_name(f"{nodes[-1].name}.pool", graph.shapes)
    return builder.build(graph.name, builder.append(FloatGlobalAveragePool(name, (nodes[-1].name,))))


def _ends_in_conv(nodes: list[FloatNode]) -> bool:
    """Whether the last node is a convolution, or the ReLU, without a limit, of one that nothing else reads."""
    convs = {conv.name for conv in of_kind(nodes, FloatConv)}
    relu = of_kind(nodes[-1:], FloatRelu)
    if relu:
        (source,) = relu[0].inputs
        return source in convs and len(readers(nodes)[source]) == 1 and math.isinf(relu[0].limit)
    return bool(nodes) and nodes[-1].name in convs


def _merging_is_cheaper(before: FloatConv, head: FloatConv) -> bool:
    """Whether one convolution takes no more multiplications than two; a grouped one would have to become dense."""
    classes, channels = head.weight.shape[:2]
    fan_in = before.weight[0].size
    return before.groups == 1 and classes * fan_in <= channels * (fan_in + classes)


def _merged(before: FloatConv, head: FloatConv) -> FloatConv:
    """head(before(x)) as one convolution; nothing else reads the first."""
    outer = head.weight[:, :, 0, 0].astype(np.float64)
    weight = np.tensordot(outer, before.weight, 1).astype(np.float32)
    bias = (outer @ before.bias + head.bias).astype(np.float32)
    return replace(before, name=head.name, weight=weight, bias=bias)
