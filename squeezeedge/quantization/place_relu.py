"""Pass: every ReLU directly behind the convolution or addition that makes its input.

Assumes: a graph without batch normalization, and without average pooling but the global one.
Guarantees: the same function. A convolution or an addition makes the input of every ReLU, and nothing else reads that
input, so the ReLU can become part of the node. Behind an addition it has no limit. min(max(x, 0), limit) is monotone,
so a ReLU moves in front of max pooling and concatenation if nothing reads their result without it. A ReLU that cuts
nothing is removed. Anywhere else, a 1x1 convolution that copies is put in front of it. This includes a limit that not
all readers share, and a limit behind an addition: there it would bound the scales of both operands, which may reach
further than the sum. A convolution that cannot make negatives, such as an average behind a ReLU, gets a ReLU: it
changes no value, and all 256 codes are left for non-negative values.

Rules: R3, R5 (zero point 0 includes the ReLU).
"""

from __future__ import annotations

import math
from dataclasses import replace

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
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, rewired

__all__ = ["place_relu"]


def place_relu(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    placer = _Placer(graph)
    for node in graph.nodes:
        placer.alias[node.name] = _place(node, placer)
    return placer.builder.build(graph.name, placer.alias[graph.nodes[-1].name])


class _Placer:
    """One walk in execution order.

    Attributes:
        builder: of the new graph.
        alias: old tensors -> new ones.
        highest: new tensors without negatives -> what none of their values exceeds.
        bare: old tensors that something reads without a ReLU, at once or behind pooling and concatenation.
        limits: old tensors that something reads with a ReLU, likewise -> the largest limit of those.
        copies: (new tensor, limit) -> the ReLU of its copy.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self.old = graph
        self.builder = FloatGraphBuilder(graph.input_size)
        self.alias = {IMAGE: IMAGE}
        self.highest: dict[str, float] = {}
        self.bare = {graph.nodes[-1].name}
        self.limits: dict[str, float] = {}
        for node in reversed(graph.nodes):
            _reads(node, self)
        self.copies: dict[tuple[str, float], str] = {}

    def append(self, node: FloatNode) -> str:
        return self.builder.append(node)

    def read(self, old: str, limit: float) -> None:
        """Something reads an old tensor with a ReLU."""
        self.limits[old] = max(limit, self.limits.get(old, 0))

    def append_relu(self, source: str, limit: float) -> str:
        name = self.append(FloatRelu(self._fresh(f"{source}.relu"), (source,), limit))
        self.highest[name] = limit
        return name

    def monotone(self, node: FloatNode) -> str:
        """A node whose result reaches no further than its operands."""
        made = self.append(node)
        if all(name in self.highest for name in node.inputs):
            self.highest[made] = max(self.highest[name] for name in node.inputs)
        return made

    def relu(self, source: str, limit: float) -> str:
        """The ReLU of a new tensor that is also read without it."""
        if source in self.highest and self.highest[source] <= limit:
            return source
        if (source, limit) not in self.copies:
            name = self._fresh(f"{source}.identity")
            copy = self.append(identity_conv(name, source, self.builder.shapes[source].channels))
            self.copies[source, limit] = self.append_relu(copy, limit)
        return self.copies[source, limit]

    def _fresh(self, wanted: str) -> str:
        return fresh_name(wanted, {*self.old.shapes, *self.builder.shapes})


_reads: Table[FloatNode, None] = Table("reading without ReLU", FLOAT_OPERATORS)
"""(node, placer that knows how what is behind the node is read): its inputs are entered as it reads them."""


@_reads.implements(FloatRelu)
def _with_relu(node: FloatRelu, placer: _Placer) -> None:
    placer.read(node.inputs[0], node.limit)


@_reads.implements(FloatMaxPool, FloatConcat)
def _as_its_result(node: FloatMaxPool | FloatConcat, placer: _Placer) -> None:
    for name in node.inputs:
        if node.name in placer.bare:
            placer.bare.add(name)
        else:
            placer.read(name, placer.limits[node.name])


@_reads.implements(FloatConv, FloatAdd, FloatBatchNorm, FloatGlobalAveragePool, FloatLinear)
def _without_relu(node: FloatNode, placer: _Placer) -> None:
    placer.bare.update(node.inputs)


_reads.refuses(FloatAveragePool, why="averages have become convolutions before")

_place: Table[FloatNode, str] = Table("placing of ReLU", FLOAT_OPERATORS)
"""(node, placer) -> name of the new tensor."""


@_place.implements(FloatRelu)
def _relu(node: FloatRelu, placer: _Placer) -> str:
    return placer.relu(placer.alias[node.inputs[0]], node.limit)


@_place.implements(FloatConv)
def _conv(node: FloatConv, placer: _Placer) -> str:
    source = placer.alias[node.inputs[0]]
    made = placer.append(replace(node, inputs=(source,)))
    if node.name not in placer.bare:
        return placer.append_relu(made, placer.limits[node.name])
    nonnegative = source in placer.highest and min(node.weight.min(), node.bias.min()) >= 0
    return placer.append_relu(made, math.inf) if nonnegative else made


@_place.implements(FloatAdd)
def _add(node: FloatAdd, placer: _Placer) -> str:
    operands = [placer.alias[name] for name in node.inputs]
    made = placer.append(rewired(node, placer.alias))
    if all(name in placer.highest for name in operands):
        placer.highest[made] = sum(placer.highest[name] for name in operands)
    elif node.name not in placer.bare:
        made = placer.append_relu(made, math.inf)
    return made


@_place.implements(FloatMaxPool, FloatConcat)
def _pass_on(node: FloatMaxPool | FloatConcat, placer: _Placer) -> str:
    """The ReLU moves to the operands; they have one already, or are read by other nodes without it."""
    if node.name in placer.bare:
        return placer.monotone(rewired(node, placer.alias))
    limit = placer.limits[node.name]
    return placer.monotone(rewired(node, {name: placer.relu(placer.alias[name], limit) for name in node.inputs}))


@_place.implements(FloatGlobalAveragePool, FloatLinear)
def _end(node: FloatGlobalAveragePool | FloatLinear, placer: _Placer) -> str:
    return placer.append(rewired(node, placer.alias))


_place.refuses(FloatAveragePool, why="averages have become convolutions before")
_place.refuses(FloatBatchNorm, why="folding of batch normalization comes before")
