"""A partitioned module as stages that refer to the integer graph's nodes.

TVM decides what is fused (:mod:`squeezeedge.lower.patterns`); a stage says which nodes of the graph that are. Weights
and shapes are the graph's own: nothing is read back out of TVM but names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import IRModule, relax

from squeezeedge.graph import Add, Conv, Head, IntegerGraph, MaxPool, Node, Tensor
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.relax_module import MAIN

__all__ = ["Stage", "region_stages", "stages"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One composite: the nodes that a target computes with one kernel.

    Attributes:
        pattern: which composite.
        nodes: of the graph, in execution order; the last one makes the stage's tensor.
        inputs: names of the tensors that it reads from outside; for a concatenation or addition, all operands in order,
            so a name can be there twice.
        tensors: of the whole graph.
    """

    pattern: Pattern
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """Of the tensor it makes."""
        return self.nodes[-1].name

    @property
    def out(self) -> Shape:
        """Shape of what it makes; of the head, (1, 1, classes)."""
        shape = self.shape(self.name)
        return Shape(1, 1, shape.channels) if self.pattern is Pattern.HEAD else shape

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs."""
        return tuple(map(self.shape, self.inputs))

    @property
    def convolutions(self) -> tuple[Conv | Head, ...]:
        """Its convolutions; in the order of the concatenation where there are several."""
        found = {node.name: node for node in self.nodes if isinstance(node, Conv | Head)}
        if self.pattern is Pattern.CONCAT_CONVOLUTIONS:
            return tuple(found[name] for name in self.nodes[-1].inputs)
        return tuple(found.values())

    @property
    def pooling(self) -> MaxPool | None:
        """Of the patterns that pool."""
        last = self.nodes[-1]
        return last if isinstance(last, MaxPool) else None

    @property
    def addition(self) -> Add | None:
        """Of ``ADD``."""
        last = self.nodes[-1]
        return last if isinstance(last, Add) else None

    @property
    def head(self) -> Head | None:
        """Of ``HEAD``."""
        last = self.nodes[-1]
        return last if isinstance(last, Head) else None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        shapes = [(conv, self.shape(conv.name)) for conv in self.convolutions]
        return sum(shape.height * shape.width * conv.weight.size for conv, shape in shapes)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor; of the head's, that of its accumulators."""
        return self.tensors[name].shape


def stages(module: IRModule, graph: IntegerGraph) -> list[Stage]:
    """The stages of a partitioned module, in execution order.

    Args:
        module: from :func:`squeezeedge.lower.patterns.partition`.
        graph: that the module was written from.
    """
    return _stages(module[MAIN], dict(module.functions.items()), graph)


def region_stages(region: relax.Function, graph: IntegerGraph) -> list[Stage]:
    """The stages of a region of merged composites, whose only parameter is the image, in execution order."""
    local = {binding.var: binding.value for binding in _bindings(region) if isinstance(binding.value, relax.Function)}
    return _stages(region, local, graph)


def _stages(caller: relax.Function, composites: Mapping[Any, relax.Function], graph: IntegerGraph) -> list[Stage]:
    by_name = {node.name: node for node in graph.nodes}
    found: list[Stage] = []
    for binding in _bindings(caller):
        if isinstance(binding.value, relax.Call):
            function = composites[binding.value.op]
            pattern = Pattern(str(function.attrs["Composite"]).rpartition(".")[2])
            nodes = tuple(by_name[name] for name in _node_names(function))
            found.append(Stage(pattern, nodes, _inputs(nodes), graph.tensors))
    return found


def _inputs(nodes: Sequence[Node]) -> tuple[str, ...]:
    made = {node.name for node in nodes}
    names = [name for node in nodes for name in node.inputs if name not in made]
    return tuple(names) if len(nodes) == 1 else tuple(dict.fromkeys(names))


def _node_names(function: relax.Function) -> list[str]:
    """Names of the graph's nodes in a composite, in execution order: the sources of its calls' spans."""
    spans = [binding.value.span for binding in _bindings(function) if isinstance(binding.value, relax.Call)]
    return [span.source_name.name for span in spans if span is not None]


def _bindings(function: relax.Function) -> list[Any]:
    return [binding for block in function.body.blocks for binding in block.bindings]
