"""The walk over an ONNX graph, in execution order: what is constant is computed, the rest becomes layers.

The first node that blocks is named with its operator, what it is fed and the fix.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.builder import SUPPORTED
from squeezeedge.graph.importers.onnx.constants import FOLDED, array_of, attributes, constant, fold, label
from squeezeedge.graph.importers.onnx.context import Context, Handler, refused
from squeezeedge.graph.importers.onnx.file import opset
from squeezeedge.graph.importers.onnx.front import Front
from squeezeedge.graph.importers.onnx.layers import LAYERS
from squeezeedge.graph.importers.onnx.pointwise import GATE, POINTWISE
from squeezeedge.graph.importers.onnx.shapes import SHAPES
from squeezeedge.graph.importers.onnx.steps import Steps
from squeezeedge.graph.importers.onnx.values import Value

__all__ = ["walk"]

HANDLERS: Mapping[str, Handler] = MappingProxyType({**LAYERS, **POINTWISE, **SHAPES})

READERS = ("ArgMax", "TopK")
POSITIVE = ("Softmax", "Sigmoid", "Exp", "Softplus")
MONOTONE = (*POSITIVE, "LogSoftmax", "Log", "Tanh", *READERS)
"""Operators that change no class's rank, or only read it: dropped behind the class scores.

Each rises strictly, but for the rounding of floating-point numbers. What has flat parts (HardSigmoid, Clip, Relu,
Round) makes different scores equal, so that another class comes first; it is a layer, or refused.
"""

OVER_CLASSES = ("Softmax", "LogSoftmax", *READERS)
MOVES = ("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
COUNTED = ("Expand", "Reshape")
"""Operators that may read the number of images for which a file is made."""

SHAPE_ONLY = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout")

FIXES = MappingProxyType(
    dict.fromkeys(["Sigmoid", "HardSwish", "Swish", "Gelu", "Erf", "Tanh", "Mish", "Elu", "Softplus"], GATE)
    | dict.fromkeys(
        ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"],
        "the file is quantized already; export the network in floating point",
    )
    | dict.fromkeys(
        ["InstanceNormalization", "LayerNormalization", "GroupNormalization", "LpNormalization"],
        "its statistics are of each image; take a variant of the network with batch normalization",
    )
    | dict.fromkeys(
        ["Resize", "Upsample", "ConvTranspose"], "maps can only become smaller; take a classification network"
    )
    | {"Softmax": "it is supported behind the class scores only, over the classes"}
    | dict.fromkeys(["Loop", "Scan", "If"], "export the network for one input size, without control flow")
)
"""Operator -> why it blocks, and what to do."""


def walk(model: ModelProto, front: Front) -> tuple[Context, Value]:
    """Go through the nodes that the output depends on.

    Args:
        model: a checked model.
        front: its input.

    Returns:
        What was met, and the class scores.

    Raises:
        CorruptFileError: a constant is damaged.
        UnsupportedError: a node is not supported; the text names it.
    """
    context = Context(Steps(front.size), opset(model), front.batch)
    context.values[front.name] = front.value
    context.notes.extend(front.notes)
    context.whole_numbers.update([front.name] if front.pixels else ())
    nodes = _live(model.graph)
    stop = _tail(nodes, model.graph)
    _constants(context, model.graph)
    for place, node in enumerate(nodes):
        if place == stop:
            return context, _scores(context, nodes[stop:])
        try:
            _visit(context, node)
        except UnsupportedError as error:
            raise UnsupportedError(f"{error}{_further(nodes[place + 1 :])}") from error.__cause__
    output = model.graph.output[0].name
    if output not in context.values:
        raise UnsupportedError(f"the output {output!r} is not computed from the image")
    return context, context.plain(context.values[output])


def _live(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the output depends on, in execution order."""
    needed = {value.name for value in graph.output}
    live: list[NodeProto] = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(_inputs(node))
            live.append(node)
    return live[::-1]


def _inputs(node: NodeProto) -> Iterable[str]:
    yield from node.input
    for graph in _branches(node):
        for inner in graph.node:
            yield from _inputs(inner)
        yield from (value.name for value in graph.output)


def _branches(node: NodeProto) -> Sequence[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _constants(context: Context, graph: GraphProto) -> None:
    for tensor in graph.initializer:
        context.constants[tensor.name] = array_of(tensor, "a weight")


def _visit(context: Context, node: NodeProto) -> None:
    """One node: a constant, a constant that is computed, a branch, or a layer."""
    if node.domain not in ("", "ai.onnx"):
        raise refused(
            node, f"an operator of {node.domain!r} is not known here; export the network in standard operators"
        )
    if node.op_type == "Constant":
        context.constants[node.output[0]] = constant(node)
        return
    if node.op_type in FOLDED and all(not name or name in context.constants for name in node.input):
        _fold(context, node)
        return
    if node.op_type not in COUNTED and not context.counting.keys().isdisjoint(node.input):
        raise refused(
            node,
            f"computes with the number of images, which the file fixes at {context.batch}: {context.fed(node)}; export "
            "it for one image, or for any number of them",
        )
    if node.op_type == "If":
        _branch(context, node)
        return
    whole = _of_whole_numbers(context, node)
    handler = HANDLERS.get(node.op_type)
    if handler is None:
        fix = FIXES.get(node.op_type, f"supported: {SUPPORTED}")
        raise refused(node, f"is not supported, and reads {context.fed(node)}: {fix}")
    _handle(context, node, handler)
    if whole:
        context.whole_numbers.update(node.output)


def _handle(context: Context, node: NodeProto, handler: Handler) -> None:
    """What an operator makes; where it cannot read loose numbers, the node is named that made them of a map."""
    loosened = next((context.loosened[name] for name in node.input if name in context.loosened), None)
    try:
        made = handler(context, node)
    except UnsupportedError as error:
        if loosened is None:
            raise
        raise refused(
            loosened,
            f"{context.fed(loosened)} come out as numbers that are no map of channels any more, which a fully "
            f"connected layer could read, but not the next: {error}",
        ) from error
    if made is not None:
        context.values[node.output[0]] = made
    for name in node.output:
        if loosened is not None and name in context.values and context.values[name].pixels is not None:
            context.loosened[name] = loosened


def _fold(context: Context, node: NodeProto) -> None:
    """What is computed of constants: of one image, and where that differs, of as many as the file is made for."""
    arrays = [context.constants.get(name) for name in node.input]
    made = fold(node, arrays, context.opset, context.budget)
    context.constants.update(zip(node.output, made, strict=False))
    if context.counting.keys().isdisjoint(node.input):
        return
    arrays = [context.counting.get(name, array) for name, array in zip(node.input, arrays, strict=True)]
    several = fold(node, arrays, context.opset, context.budget)
    for name, one, all_of_them in zip(node.output, made, several, strict=False):
        if not np.array_equal(one, all_of_them):
            context.counting[name] = all_of_them


def _of_whole_numbers(context: Context, node: NodeProto) -> bool:
    """Whether a node makes whole numbers of some: pixels that are only moved about before a Cast."""
    if context.whole_numbers.isdisjoint(node.input) or node.op_type in ("Cast", "CastLike", "Shape", "Size"):
        return False
    if node.op_type in MOVES:
        return True
    raise refused(
        node, f"computes with whole numbers, which wrap around: {context.fed(node)}; cast the image to float first"
    )


def _branch(context: Context, node: NodeProto) -> None:
    """``If`` with a constant condition, as exporters write ``squeeze``."""
    condition = context.constants.get(node.input[0])
    if condition is None:
        raise refused(node, f"reads {context.fed(node)}: {FIXES['If']}")
    wanted = "then_branch" if condition.any() else "else_branch"
    (graph,) = (attribute.g for attribute in node.attribute if attribute.name == wanted)
    for name in (name for inner in graph.node for name in inner.output):  # branches may have their names in common
        context.values.pop(name, None)
        context.constants.pop(name, None)
        context.counting.pop(name, None)
        context.loosened.pop(name, None)
    _constants(context, graph)
    for inner in graph.node:
        _visit(context, inner)
    for outer, made in zip(node.output, graph.output, strict=True):
        for table in (context.values, context.constants, context.counting, context.loosened):
            if made.name in table:
                table[outer] = table[made.name]  # type: ignore[assignment]


def _further(nodes: Sequence[NodeProto]) -> str:
    """Other operators behind the first that blocks that are not known either."""
    known = {*HANDLERS, *FOLDED, "Constant"} - set(FIXES)
    counts = Counter(node.op_type for node in nodes if node.op_type not in known)
    if not counts:
        return ""
    listed = ", ".join(f"{count} {kind!s:.40}" for kind, count in counts.most_common(5))
    return f" (behind it are also {listed})"


def _tail(nodes: Sequence[NodeProto], graph: GraphProto) -> int:
    """Place of the first node behind the class scores: from there on nothing changes a class's rank."""
    readers = Counter(name for node in nodes if node.op_type not in ("Shape", "Size") for name in _inputs(node) if name)
    made = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    stop, name = len(nodes), graph.output[0].name
    while name in made:
        node = nodes[made[name]]
        if node.op_type not in (*MONOTONE, *SHAPE_ONLY) or node.domain not in ("", "ai.onnx"):
            break
        if node.op_type == "TopK" and not attributes(node).get("largest", 1):
            break
        if node.op_type in MONOTONE:
            stop = made[name]
        name = node.input[0]
        if readers[name] > 1:
            break
    return stop


def _scores(context: Context, behind: Sequence[NodeProto]) -> Value:
    """The class scores, which the first of these nodes reads; all of them are looked at and dropped."""
    scores = context.value(behind[0], 0)
    dropped: list[NodeProto] = []
    for node in behind:
        read = any(before.op_type in READERS for before in dropped)
        if node.op_type in MONOTONE:
            if read:
                raise refused(node, f"reads what {label(dropped[-1])} picks of the classes; export the class scores")
            _check_rising(context, node, dropped)
            context.values[node.output[0]] = context.value(node, 0)
        elif not read or node.op_type not in SHAPE_ONLY or node.input[0] in context.constants:
            _visit(context, node)
        if node.op_type in (*MONOTONE, *SHAPE_ONLY) and not _is_constant(context, node):
            dropped.append(node)
    names = ", ".join(f"{label(node)} ({node.op_type})" for node in dropped)
    context.notes.append(f"dropped behind the class scores: {names}; no class changes its rank")
    return scores


def _is_constant(context: Context, node: NodeProto) -> bool:
    return all(name in context.constants for name in node.output)


def _check_rising(context: Context, node: NodeProto, before: Sequence[NodeProto]) -> None:
    """Check that an operator behind the class scores keeps their order: over the classes, or number by number."""
    value = context.value(node, 0)
    if node.op_type == "Log" and not any(one.op_type in POSITIVE for one in before):
        raise refused(node, f"reads {context.fed(node)}, which may be negative; export the class scores in front of it")
    if node.op_type not in OVER_CLASSES:
        return
    axis, shape = attributes(node).get("axis", _default_axis(node, context.opset)), value.shape
    if not -len(shape) <= axis < len(shape):
        raise refused(node, f"over axis {axis} of {list(shape)}")
    flat = node.op_type in ("Softmax", "LogSoftmax") and context.opset < 13
    if math.prod(shape[axis % len(shape) :] if flat else [shape[axis]]) != math.prod(shape):
        raise refused(
            node, f"over axis {axis} of {context.fed(node)}, which are not the classes; supported: over the classes"
        )


def _default_axis(node: NodeProto, version: int) -> int:
    if node.op_type == "ArgMax":
        return 0
    return 1 if node.op_type != "TopK" and version < 13 else -1
