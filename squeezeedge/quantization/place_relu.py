"""Pass: every ReLU directly behind the convolution or addition that makes its input.

Assumes: a graph without batch normalization.
Guarantees: the same function; the input of every ReLU is made by a convolution or an addition and read by nothing
else, so that it can become part of that node. max(x, 0) is monotone, so it moves in front of max pooling and
concatenation if nothing reads their result without it; on a tensor without negatives it disappears; anywhere else
a 1x1 convolution that copies is put in front of it.

Rules: R3, R5 (zero point 0 includes the ReLU).
"""

from __future__ import annotations

from squeezeedge.graph.float.builder import FloatGraphBuilder
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGraph,
    FloatMaxPool,
    FloatNode,
    FloatRelu,
)
from squeezeedge.quantization.rewrite import fresh_name, identity_conv, readers, rewired

__all__ = ["place_relu"]


def place_relu(graph: FloatGraph) -> FloatGraph:
    """Apply the pass; see the module."""
    return _Placer(graph).graph()


class _Placer:
    """One walk in execution order; ``alias`` maps the old tensors to the new ones."""

    def __init__(self, graph: FloatGraph) -> None:
        self.old = graph
        self.builder = FloatGraphBuilder(graph.input_size)
        self.alias = {IMAGE: IMAGE}
        self.nonnegative: set[str] = set()
        self.rectified = _rectified(graph)
        self.copies: dict[str, str] = {}

    def graph(self) -> FloatGraph:
        for node in self.old.nodes:
            self.alias[node.name] = self._place(node)
        return self.builder.build(self.old.name, self.alias[self.old.nodes[-1].name])

    def _place(self, node: FloatNode) -> str:
        if isinstance(node, FloatRelu):
            return self._relu(self.alias[node.inputs[0]])
        wanted = node.name in self.rectified
        if wanted and isinstance(node, FloatMaxPool | FloatConcat):
            inputs = {name: self._relu(self.alias[name]) for name in node.inputs}
            made = self._append(rewired(node, inputs))
        else:
            made = self._append(rewired(node, self.alias))
        if isinstance(node, FloatMaxPool | FloatConcat | FloatAdd) and self.nonnegative.issuperset(
            self.builder.nodes[-1].inputs
        ):
            self.nonnegative.add(made)
        if wanted and made not in self.nonnegative:
            return self._append_relu(made)
        return made

    def _relu(self, source: str) -> str:
        """The ReLU of a new tensor that is also read without it."""
        if source in self.nonnegative:
            return source
        if source not in self.copies:
            name = self._fresh(f"{source}.identity")
            copy = self._append(identity_conv(name, source, self.builder.shapes[source][0]))
            self.copies[source] = self._append_relu(copy)
        return self.copies[source]

    def _append_relu(self, source: str) -> str:
        name = self._append(FloatRelu(self._fresh(f"{source}.relu"), (source,)))
        self.nonnegative.add(name)
        return name

    def _append(self, node: FloatNode) -> str:
        return self.builder.append(node)

    def _fresh(self, wanted: str) -> str:
        return fresh_name(wanted, {*self.old.shapes, *self.builder.shapes})


def _rectified(graph: FloatGraph) -> set[str]:
    """The tensors that nothing reads without a ReLU, at once or behind pooling and concatenation."""
    read_by = readers(graph.nodes)
    found: set[str] = set()
    for node in reversed(graph.nodes):
        passed = [
            isinstance(reader, FloatRelu) or (isinstance(reader, FloatMaxPool | FloatConcat) and reader.name in found)
            for reader in read_by[node.name]
        ]
        if isinstance(node, FloatConv | FloatAdd | FloatMaxPool | FloatConcat) and passed and all(passed):
            found.add(node.name)
    return found
