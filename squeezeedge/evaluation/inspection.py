"""A description of a network: its layers and their costs, its preprocessing, and the support of every target.

Nothing is run or lowered. Limits of sizes are therefore not covered; ``compile`` checks them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError, counted
from squeezeedge.graph import Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.graph.dispatch import Table
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
from squeezeedge.graph.integer import INTEGER_OPERATORS
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import feature_of
from squeezeedge.lower.support import NATIVE, Convolution, Support, support_of
from squeezeedge.targets.protocol import Target

__all__ = ["Inspection", "Layer", "inspect_float", "inspect_integer"]

SUM_BYTES = 4
"""Of a class sum."""


@dataclass(frozen=True)
class Layer:
    """One node of the graph.

    Attributes:
        name: of the node and of the tensor that it makes.
        operator: kind, window, stride and groups, for people.
        inputs: names of the tensors that it reads.
        shape: of the tensor that it makes.
        parameters: how many weights, biases that are not all 0 included.
        macs: multiply-accumulates of one image.
        device_macs: the same in the integer graph, before a target rewrites it.
        folded: quantization makes it a part of the layers beside it.
        support: target -> how it runs the layer; empty where it is folded, or the network is not supported at all.
        integer: of an integer graph: ``zero_point``, ``activation_bytes`` of what it makes, and where it has them
            ``shift_min``, ``shift_max``, ``weight_bytes``.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    shape: Shape
    parameters: int
    macs: int
    device_macs: int
    folded: bool = False
    support: Mapping[str, Support] = field(default_factory=dict)
    integer: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values; the shape is [height, width, channels]."""
        values = {key: value for key, value in vars(self).items() if key not in ("support", "integer", "folded")}
        values |= {"inputs": list(self.inputs), "shape": list(self.shape)}
        values |= dict(self.integer) if self.integer else {"folded": self.folded}
        return values | {"targets": {name: support._asdict() for name, support in self.support.items()}}


@dataclass(frozen=True)
class Inspection:
    """What was read.

    Attributes:
        layers: in execution order.
        input_shape: of the image.
        added: convolutions that quantization adds, which copy.
        refused: why the network cannot be expressed as integers; empty if it can.
    """

    layers: tuple[Layer, ...]
    input_shape: Shape
    added: tuple[Layer, ...] = ()
    refused: str = ""

    @property
    def parameters(self) -> int:
        """Of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of all layers, for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def device_macs(self) -> int:
        """Of the integer graph, for one image."""
        return sum(layer.device_macs for layer in (*self.layers, *self.added))

    def macs_on(self, target: str) -> int:
        """Multiply-accumulates of one image after legalization, of the layers that are not refused."""
        layers = [layer for layer in (*self.layers, *self.added) if target in layer.support]
        return sum(layer.device_macs * layer.support[target].factor for layer in layers)

    def supported(self, target: str) -> Mapping[str, list[Layer]]:
        """How a target runs layers ("native", "legalized" or "refused") -> the layers."""
        found: dict[str, list[Layer]] = {"native": [], "legalized": [], "refused": []}
        for layer in self.layers:
            if target in layer.support:
                found[layer.support[target].how].append(layer)
        return found

    def notes(self) -> list[str]:
        """Sentences on what quantization does to the layers."""
        notes = []
        kinds: dict[str, int] = {}
        for layer in self.layers:
            if layer.folded:
                kinds[layer.operator] = kinds.get(layer.operator, 0) + 1
        if kinds and not self.refused:
            told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            notes.append(f"quantization folds (+) into the layers beside them: {told}")
        if self.added:
            names = ", ".join(layer.name for layer in self.added)
            notes.append(f"quantization adds {counted(len(self.added), 'convolution')} that copy: {names}")
        if not self.refused and self.device_macs != self.macs:
            notes.append(
                f"the integer graph has {self.device_macs / 1e6:.1f} MMAC instead of {self.macs / 1e6:.1f}: "
                + "; ".join(self._more_work())
            )
        return notes

    def _more_work(self) -> Iterator[str]:
        """Why the integer graph has a different number of multiply-accumulates than the float one."""
        for layer in self.layers:
            if layer.device_macs != layer.macs:
                work = f"{layer.macs / 1e6:.1f} become {layer.device_macs / 1e6:.1f}"
                moved = (
                    " in front of the global average, at each of its positions" if layer.operator == "linear" else ""
                )
                yield f"of {layer.name} {work}, because it is computed{moved or ' otherwise'}"
        if self.added:
            yield f"{sum(layer.device_macs for layer in self.added) / 1e6:.1f} are of what is added"


def inspect_float(graph: FloatGraph, preprocessing: Preprocessing, targets: Mapping[str, Target]) -> Inspection:
    """Look at a float graph, and at what quantization makes of it before it sees an image.

    Args:
        graph: the float graph.
        preprocessing: of the network.
        targets: by name.
    """
    from squeezeedge.quantization.passes import folded_graph

    refused, kept, convolutions = "", frozenset[str](), list[Convolution]()
    device_macs: dict[str, int] = {}
    try:
        folded = folded_graph(graph, preprocessing)
    except UnsupportedError as error:
        refused = str(error)
    else:
        kept = frozenset(node.name for node in folded.nodes)
        for conv in folded.convolutions:
            outputs, inputs = conv.weight.shape[:2]
            convolutions.append(Convolution(conv.name, outputs, inputs, conv.groups, conv.weight.size))
            shape = folded.shapes[conv.name]
            device_macs[conv.name] = shape.height * shape.width * conv.weight.size
    support = _Support(convolutions, {} if refused else targets)
    layers = []
    for node in graph.nodes:
        shape = graph.shapes[node.name]
        facts = _float_facts(node, shape)
        folded_away = node.name not in kept and not refused
        layers.append(
            Layer(
                *(node.name, facts.operator, node.inputs, shape, facts.parameters, facts.macs),
                *(device_macs.get(node.name, 0), folded_away, support(node.name, folded_away)),
            )
        )
    added = [
        Layer(
            *(conv.name, "conv", tuple(conv.inputs), folded.shapes[conv.name], 0, 0),
            *(device_macs[conv.name], False, support(conv.name)),
        )
        for conv in (() if refused else folded.convolutions)
        if conv.name not in graph.shapes
    ]
    return Inspection(tuple(layers), Shape(*graph.input_size, 3), tuple(added), refused)


def inspect_integer(graph: IntegerGraph, targets: Mapping[str, Target]) -> Inspection:
    """Look at an integer graph.

    Args:
        graph: the integer graph.
        targets: by name.
    """
    convolutions = [
        Convolution(conv.name, len(conv.weight), conv.weight.shape[3], conv.groups, conv.weight.size)
        for conv in graph.convolutions
    ]
    support = _Support(convolutions, targets)
    layers = []
    for node in graph.nodes:
        tensor = graph.tensors[node.name]
        facts, numbers = _integer_facts(node, tensor.shape)
        numbers = numbers if node is graph.head else {"zero_point": tensor.zero_point, **numbers}
        shape = Shape(1, 1, graph.classes) if node is graph.head else tensor.shape
        numbers["activation_bytes"] = math.prod(shape) * (SUM_BYTES if node is graph.head else 1)
        layers.append(
            Layer(
                node.name,
                facts.operator,
                tuple(node.inputs),
                shape,
                facts.parameters,
                facts.macs,
                facts.macs,
                support=support(node.name),
                integer=numbers,
            )
        )
    return Inspection(tuple(layers), graph.input_shape)


class _Support:
    """How each target runs a layer: called with its name, and whether it is folded."""

    def __init__(self, convolutions: Sequence[Convolution], targets: Mapping[str, Target]) -> None:
        self._found = {name: support_of(convolutions, target.supports) for name, target in targets.items()}

    def __call__(self, name: str, folded: bool = False) -> dict[str, Support]:
        return {} if folded else {target: found.get(name, NATIVE) for target, found in self._found.items()}


class _Facts(NamedTuple):
    operator: str
    parameters: int = 0
    macs: int = 0


def _window(kernel: Sequence[int], stride: Sequence[int] = (1, 1)) -> str:
    """``"3x3/2"``."""
    text = "x".join(map(str, kernel))
    if tuple(stride) == (1, 1):
        return text
    return f"{text}/{stride[0]}" if stride[0] == stride[1] else f"{text}/{stride[0]}x{stride[1]}"


def _convolution(outputs: int, inputs: int, groups: int, window: str, kind: str = "conv") -> str:
    if feature_of(outputs, inputs, groups) is Feature.DEPTHWISE:
        return f"depthwise {window}" if kind == "conv" else f"{kind} {window} depthwise"
    return f"{kind} {window}" + (f" g{groups}" if groups > 1 else "")


_float_facts: Table[FloatNode, _Facts] = Table("inspection of float graphs", FLOAT_OPERATORS)
"""(node, shape of its output) -> what it costs."""


@_float_facts.implements(FloatConv)
def _conv(node: FloatConv, shape: Shape) -> _Facts:
    outputs, inputs, *kernel = node.weight.shape
    text = _convolution(outputs, inputs, node.groups, _window(kernel, node.stride))
    return _Facts(text, node.weight.size + _biases(node), shape.height * shape.width * node.weight.size)


@_float_facts.implements(FloatLinear)
def _linear(node: FloatLinear, shape: Shape) -> _Facts:
    return _Facts("linear", node.weight.size + _biases(node), node.weight.size)


def _biases(node: FloatConv | FloatLinear) -> int:
    return node.bias.size if node.bias.any() else 0


@_float_facts.implements(FloatBatchNorm)
def _batch_norm(node: FloatBatchNorm, shape: Shape) -> _Facts:
    return _Facts("batch norm", node.multiplier.size + node.offset.size)


@_float_facts.implements(FloatRelu)
def _relu(node: FloatRelu, shape: Shape) -> _Facts:
    return _Facts("ReLU" if math.isinf(node.limit) else f"ReLU{node.limit:g}")


@_float_facts.implements(FloatMaxPool)
def _max_pool(node: FloatMaxPool, shape: Shape) -> _Facts:
    return _Facts(f"max pool {_window(node.kernel, node.stride)}")


@_float_facts.implements(FloatAveragePool)
def _average_pool(node: FloatAveragePool, shape: Shape) -> _Facts:
    return _Facts(f"average {_window(node.kernel, node.stride)}", 0, math.prod(shape) * math.prod(node.kernel))


@_float_facts.implements(FloatConcat)
def _concat(node: FloatConcat, shape: Shape) -> _Facts:
    return _Facts("concat")


@_float_facts.implements(FloatAdd)
def _add(node: FloatAdd, shape: Shape) -> _Facts:
    return _Facts("add")


@_float_facts.implements(FloatGlobalAveragePool)
def _global_average_pool(node: FloatGlobalAveragePool, shape: Shape) -> _Facts:
    return _Facts("global average")


_integer_facts: Table[Node, tuple[_Facts, dict[str, int]]] = Table("inspection of integer graphs", INTEGER_OPERATORS)
"""(node, shape of its output; of the head, of its accumulators) -> what it costs, and its numbers."""


@_integer_facts.implements(Conv)
def _integer_conv(node: Conv, shape: Shape) -> tuple[_Facts, dict[str, int]]:
    return _weighted(node, shape, "conv"), _shifts(node) | {"weight_bytes": node.weight.nbytes}


@_integer_facts.implements(Head)
def _head(node: Head, shape: Shape) -> tuple[_Facts, dict[str, int]]:
    return _weighted(node, shape, "head"), {"weight_bytes": node.weight.nbytes}


def _weighted(node: Conv | Head, shape: Shape, kind: str) -> _Facts:
    outputs, *kernel, inputs = node.weight.shape
    text = _convolution(outputs, inputs, node.groups, _window(kernel, node.stride), kind)
    return _Facts(text, node.weight.size + node.bias.size, shape.height * shape.width * node.weight.size)


def _shifts(node: Conv | Add) -> dict[str, int]:
    return {"shift_min": int(node.shift.min()), "shift_max": int(node.shift.max())}


@_integer_facts.implements(MaxPool)
def _integer_max_pool(node: MaxPool, shape: Shape) -> tuple[_Facts, dict[str, int]]:
    return _Facts(f"max pool {_window(node.kernel, node.stride)}"), {}


@_integer_facts.implements(Concat)
def _integer_concat(node: Concat, shape: Shape) -> tuple[_Facts, dict[str, int]]:
    return _Facts("concat"), {}


@_integer_facts.implements(Add)
def _integer_add(node: Add, shape: Shape) -> tuple[_Facts, dict[str, int]]:
    return _Facts("add"), _shifts(node)
