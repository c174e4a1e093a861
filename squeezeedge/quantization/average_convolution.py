"""Pass: average pooling as a depthwise convolution with equal weights.

Assumes: any float graph.
Guarantees: the same function without average pooling, but for the global one at the end. Padded pixels are zeros for
both, and each window is divided by one number, so this is exact. Behind a ReLU the averages have no negatives either;
:mod:`place_relu` finds that from the weights.

Rule: R3 (convolution is the only operator with weights).
"""

from __future__ import annotations

import numpy as np

from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.float.builder import FloatGraphBuilder
from squeezeedge.graph.float.graph import (
    FLOAT_OPERATORS,
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

__all__ = ["average_convolution"]


def average_convolution(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    builder = FloatGraphBuilder(graph.input_size)
    for node in graph.nodes:
        builder.append(_visit(node, graph))
    return builder.build(graph.name, graph.nodes[-1].name)


_visit: Table[FloatNode, FloatNode] = Table("averages as convolutions", FLOAT_OPERATORS)
"""(node, graph) -> the node of the same name that takes its place."""


@_visit.implements(FloatAveragePool)
def _average_pool(node: FloatAveragePool, graph: FloatGraph) -> FloatConv:
    channels = graph.shapes[node.name].channels
    weight = np.full((channels, 1, *node.kernel), 1 / node.divisor, np.float32)
    bias = np.zeros(channels, np.float32)
    return FloatConv(node.name, node.inputs, weight, bias, node.stride, node.padding, groups=channels)


@_visit.implements(
    FloatConv, FloatBatchNorm, FloatRelu, FloatMaxPool, FloatConcat, FloatAdd, FloatGlobalAveragePool, FloatLinear
)
def _other(node: FloatNode, graph: FloatGraph) -> FloatNode:
    return node
