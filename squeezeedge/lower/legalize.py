"""Rewrites what a target has no kernels for into what every target has: the first step of every ``lower()``.

What every target has is the base: dense convolution, max pooling, concatenation, addition and the head. A target names
what it has beyond that (:class:`Feature`); for everything else there is a rule here that turns the graph into an equal
one without it. Equal means: the same class sums for every image, and the same values of every tensor that both graphs
have. The new graph is built from nodes, so rules R1-R7 are checked again.

To add a rule, such as a large kernel in two passes: add the feature to
:class:`Feature`, write one function from a graph to an equal graph without the feature (or the graph itself where it
is not used), and enter it in ``_RULES``, in front of the rules that have to see what it makes. A test compares every
rule with the oracle on random graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import Conv, Head, IntegerGraph
from squeezeedge.lower.feature import Feature

__all__ = [
    "INTO",
    "MAX_DENSE_BYTES",
    "check_dense",
    "dense_weight",
    "feature_of",
    "is_depthwise",
    "legalize",
]

MAX_DENSE_BYTES = 2**28
"""Most bytes that a graph's grouped convolutions may take as dense ones. SqueezeNet has 1.2 million weights."""


def legalize(graph: IntegerGraph, supported: Collection[Feature]) -> IntegerGraph:
    """An equal graph that uses no feature that is not supported.

    Args:
        graph: the integer graph.
        supported: what the target has kernels for beyond the base.

    Returns:
        The graph itself where nothing had to be rewritten.

    Raises:
        UnsupportedError: the rewritten graph would be unreasonably large; the text names the layer.
    """
    for feature, rule in _RULES.items():
        if feature not in supported:
            graph = rule(graph)
    return graph


def is_depthwise(node: Conv | Head) -> bool:
    """Whether a convolution has one output channel for each input channel, and several of them."""
    return feature_of(len(node.weight), node.weight.shape[3], node.groups) is Feature.DEPTHWISE


def feature_of(outputs: int, inputs: int, groups: int) -> Feature | None:
    """What a convolution uses beyond the base.

    Args:
        outputs: its output channels.
        inputs: input channels of one group.
        groups: how many.
    """
    if groups == 1:
        return None
    return Feature.DEPTHWISE if groups == outputs and inputs == 1 else Feature.GROUPS


def check_dense(grouped: Iterable[tuple[str, int, int]]) -> None:
    """Refuse grouped convolutions whose dense weights would take too much together.

    Args:
        grouped: (name, groups, weights) of each, in execution order.

    Raises:
        UnsupportedError: they do; the text names the layer with which the limit is passed.
    """
    total = 0
    for name, groups, weights in grouped:
        total += weights * groups
        if total > MAX_DENSE_BYTES:
            raise UnsupportedError(
                f"{name}: its {groups} groups become a dense convolution here, and the dense weights of the "
                f"network up to it would take {total} bytes (at most {MAX_DENSE_BYTES}); use fewer channels, or a "
                "target with kernels for grouped convolution"
            )


def _dense_groups(graph: IntegerGraph) -> IntegerGraph:
    return _dense(graph, [node for node in graph.convolutions if node.groups > 1 and not is_depthwise(node)])


def _dense_depthwise(graph: IntegerGraph) -> IntegerGraph:
    return _dense(graph, [node for node in graph.convolutions if is_depthwise(node)])


def _dense(graph: IntegerGraph, grouped: Sequence[Conv | Head]) -> IntegerGraph:
    """Grouped convolutions get weights of 0 for the channels that they do not read: nothing is added to any sum."""
    check_dense((node.name, node.groups, node.weight.size) for node in grouped)
    made = {node.name: replace(node, weight=dense_weight(node), groups=1) for node in grouped}
    return replace(graph, nodes=tuple(made.get(node.name, node) for node in graph.nodes)) if made else graph


def dense_weight(node: Conv | Head) -> NDArray[np.int8]:
    """A grouped convolution's weights with zeros for what it does not read: int8 [out, kernel_h, kernel_w, in]."""
    out, kernel_h, kernel_w, inputs = node.weight.shape
    weight = np.zeros((node.groups, out // node.groups, kernel_h, kernel_w, node.groups, inputs), np.int8)
    for group, part in enumerate(np.split(node.weight, node.groups)):
        weight[group, :, :, :, group] = part
    return weight.reshape(out, kernel_h, kernel_w, -1)


_RULES: Mapping[Feature, Callable[[IntegerGraph], IntegerGraph]] = {
    Feature.GROUPS: _dense_groups,
    Feature.DEPTHWISE: _dense_depthwise,
}
"""In the order in which they are applied."""

INTO: Mapping[Feature, str] = {Feature.GROUPS: "dense convolution", Feature.DEPTHWISE: "dense convolution"}
"""What each rule makes of it, for people."""
