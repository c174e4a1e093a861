"""Pass: every ReLU directly behind the convolution or addition that makes its input.

Assumes: a graph without batch normalization, and without average pooling but the global one.
Guarantees: the same function; the input of every ReLU is made by a convolution or an addition and read by nothing
else, so that it can become part of that node. max(x, 0) is monotone, so it moves in front of max pooling and
concatenation if nothing reads their result without it; on a tensor without negatives it disappears; anywhere else
a 1x1 convolution that copies is put in front of it. A convolution that cannot make negatives, as an average behind a
ReLU, gets a ReLU: it changes nothing there, and all 256 codes are left for what is not negative.

Rules: R3, R5 (zero point 0 includes the ReLU).
"""

from __future__ import annotations

import math
from dataclasses import replace

from squeezeedge.errors import UnsupportedError
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
        nonnegative: new tensors without negatives.
        bare: old tensors that something reads without a ReLU, at once or behind pooling and concatenation.
        copies: new tensors -> the ReLU of their copy.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self.old = graph
        self.builder = FloatGraphBuilder(graph.input_size)
        self.alias = {IMAGE: IMAGE}
        self.nonnegative: set[str] = set()
        self.bare = {graph.nodes[-1].name}
        for node in reversed(graph.nodes):
            _reads(node, self.bare)
        self.copies: dict[str, str] = {}

    def append(self, node: FloatNode) -> str:
        return self.builder.append(node)

    def append_relu(self, source: str) -> str:
        name = self.append(FloatRelu(self._fresh(f"{source}.relu"), (source,)))
        self.nonnegative.add(name)
        return name

    def monotone(self, node: FloatNode) -> str:
        """A node whose result has no negatives if none of its operands has."""
        made = self.append(node)
        if self.nonnegative.issuperset(node.inputs):
            self.nonnegative.add(made)
        return made

    def relu(self, source: str) -> str:
        """The ReLU of a new tensor that is also read without it."""
        if source in self.nonnegative:
            return source
        if source not in self.copies:
            name = self._fresh(f"{source}.identity")
            copy = self.append(identity_conv(name, source, self.builder.shapes[source].channels))
            self.copies[source] = self.append_relu(copy)
        return self.copies[source]

    def rectified(self, old: str, made: str) -> str:
        """A new tensor, with a ReLU if the old one is never read without."""
        return made if old in self.bare or made in self.nonnegative else self.append_relu(made)

    def _fresh(self, wanted: str) -> str:
        return fresh_name(wanted, {*self.old.shapes, *self.builder.shapes})


_reads: Table[FloatNode, None] = Table("reading without ReLU", FLOAT_OPERATORS)
"""(node, tensors behind it that are read without a ReLU): its inputs are added where it reads them so."""


@_reads.implements(FloatRelu)
def _with_relu(node: FloatRelu, bare: set[str]) -> None:
    pass


@_reads.implements(FloatMaxPool, FloatConcat)
def _as_its_result(node: FloatMaxPool | FloatConcat, bare: set[str]) -> None:
    if node.name in bare:
        bare.update(node.inputs)


@_reads.implements(FloatConv, FloatAdd, FloatBatchNorm, FloatGlobalAveragePool, FloatLinear)
def _without_relu(node: FloatNode, bare: set[str]) -> None:
    bare.update(node.inputs)


_reads.refuses(FloatAveragePool, why="averages have become convolutions before")

_place: Table[FloatNode, str] = Table("placing of ReLU", FLOAT_OPERATORS)
"""(node, placer) -> name of the new tensor."""


@_place.implements(FloatRelu)
def _relu(node: FloatRelu, placer: _Placer) -> str:
    if math.isfinite(node.limit):
        raise UnsupportedError(f"{node.name}: a ReLU with a limit is not supported")
    return placer.relu(placer.alias[node.inputs[0]])


@_place.implements(FloatConv)
def _conv(node: FloatConv, placer: _Placer) -> str:
    source = placer.alias[node.inputs[0]]
    made = placer.append(replace(node, inputs=(source,)))
    if source in placer.nonnegative and min(node.weight.min(), node.bias.min()) >= 0:
        return placer.append_relu(made)
    return placer.rectified(node.name, made)


@_place.implements(FloatAdd)
def _add(node: FloatAdd, placer: _Placer) -> str:
    return placer.rectified(node.name, placer.monotone(rewired(node, placer.alias)))


@_place.implements(FloatMaxPool, FloatConcat)
def _pass_on(node: FloatMaxPool | FloatConcat, placer: _Placer) -> str:
    """The ReLU moves to the operands; they have one already, or are read by other nodes without it."""
    if node.name in placer.bare:
        return placer.monotone(rewired(node, placer.alias))
    return placer.monotone(rewired(node, {name: placer.relu(placer.alias[name]) for name in node.inputs}))


@_place.implements(FloatGlobalAveragePool, FloatLinear)
def _end(node: FloatGlobalAveragePool | FloatLinear, placer: _Placer) -> str:
    return placer.append(rewired(node, placer.alias))


_place.refuses(FloatAveragePool, why="averages have become convolutions before")
_place.refuses(FloatBatchNorm, why="folding of batch normalization comes before")
