"""From layers that read channels by number to the float graph, whose layers read whole tensors.

Where layers read parts of a tensor, or mix those of several (Slice, Split, Gather, channel shuffle), its maker is split
by which channels are read together: a convolution by rows of its weights, a channel-wise operator by channels. Every
layer then reads a concatenation of whole tensors, in any order that its weights can follow, and no multiplication is
added. Where that is impossible (parts of the image, groups of a grouped convolution that are mixed, operands of an
addition in different orders, a channel that is read twice), a 1x1 convolution with one 1 per row picks the channels.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
from squeezeedge.graph.importers.onnx.steps import ZERO, Step
from squeezeedge.graph.importers.onnx.tidy import Tidied
from squeezeedge.graph.importers.onnx.values import Ids

__all__ = ["float_graph"]

MAX_PARTS = 64
"""Tensors that one layer's result may become."""

MOST_PARTS = 8
"""The same, of all layers on average, in a network of more than a few hundred layers."""

MAX_WEIGHTS = 1 << 26
"""That may be added in a network for picking channels."""

UNREAD = -1


def float_graph(name: str, size: tuple[int, int], network: Tidied) -> FloatGraph:
    """The graph.

    Args:
        name: of the network.
        size: (height, width) of the image.
        network: its layers.

    Raises:
        UnsupportedError: it is not a network that can be compiled.
    """
    parts = _parts(network)
    writer = _Writer(size, network)
    concatenations = deque(network.joined)
    for step, pieces in zip(network.steps, parts, strict=True):
        while concatenations and concatenations[0][2] <= step.first:
            writer.join(concatenations.popleft()[0])
        for number, piece in enumerate(pieces):
            whole = len(piece) == step.shape.channels
            writer.name = step.node.name if whole else f"{step.node.name}.part{number + 1}"
            _write(step.node, step, piece, writer)
    writer.name = "output"
    answer = writer.exactly(network.output)
    return _with_head(writer.builder.build(name, answer))


# --- which channels are read together ---


class _Demands:
    """What each channel is read by, as a label: channels with equal labels are always read together."""

    def __init__(self, network: Tidied) -> None:
        last = max((step.first + step.shape.channels for step in network.steps), default=3)
        self.labels: Ids = np.full(last, UNREAD)
        self._known: dict[tuple[int, int], int] = {}
        self._readers = 0
        self._ordered = {0: 3}
        for step in network.steps:
            free = isinstance(step.node, FloatConv) and not _is_channelwise(step.node)
            if free or any(map(self.in_order, step.sources)):
                self._ordered[step.first] = step.shape.channels

    def in_order(self, source: Ids) -> bool:
        """Whether these are whole tensors, each in its own order as long as it is not divided."""
        place = 0
        while place < len(source):
            first = int(source[place])
            made = np.arange(first, first + self._ordered.get(first, 0))
            if not len(made) or not np.array_equal(source[place : place + len(made)], made):
                return False
            place += len(made)
        return True

    def read(self, ids: Ids) -> None:
        """One reader reads these together."""
        self._readers += 1
        ids = np.unique(ids[ids != ZERO])
        before = self.labels[ids]
        for label in np.unique(before):
            new = self._known.setdefault((int(label), self._readers), len(self._known))
            self.labels[ids[before == label]] = new

    def pieces(self, step: Step) -> list[Ids]:
        """The channels of a layer that are read, together or apart, as places in what it makes."""
        labels = self.labels[step.first : step.first + step.shape.channels]
        found = [np.flatnonzero(labels == label) for label in np.unique(labels) if label != UNREAD]
        if len(found) > MAX_PARTS:
            return [np.arange(len(labels))]
        return sorted(found, key=lambda places: int(places[0]))


def _parts(network: Tidied) -> list[list[Ids]]:
    demands = _Demands(network)
    demands.read(network.output)
    parts: list[list[Ids]] = []
    for step in reversed(network.steps):
        pieces = demands.pieces(step)
        parts.append(pieces)
        if pieces:
            _demand(step.node, step, pieces, demands)
    if sum(map(len, parts)) > MOST_PARTS * len(parts) + 2048:
        raise UnsupportedError("its channels are divided and mixed too often (Slice, Split, Gather, Concat, Transpose)")
    return parts[::-1]


_demand: Table[FloatNode, None] = Table("channels that ONNX layers read", FLOAT_OPERATORS)
"""(node, step, its pieces, demands): say what the node reads together."""


@_demand.implements(FloatConv)
def _of_conv(node: FloatConv, step: Step, pieces: list[Ids], demands: _Demands) -> None:
    (source,) = step.sources
    if node.groups == 1 or (len(pieces) == 1 and not _is_channelwise(node) and demands.in_order(source)):
        demands.read(source)
        return
    if _is_channelwise(node):
        _of_channels(node, step, pieces, demands)
        return
    each = len(source) // node.groups
    for piece in pieces:
        for group in np.unique(piece // (len(node.weight) // node.groups)):
            demands.read(source[group * each : (group + 1) * each])


@_demand.implements(FloatBatchNorm, FloatRelu, FloatMaxPool, FloatAveragePool, FloatAdd)
def _of_channels(node: FloatNode, step: Step, pieces: list[Ids], demands: _Demands) -> None:
    for piece in pieces:
        for source in step.sources:
            demands.read(source[piece])


_demand.refuses(FloatConcat, FloatGlobalAveragePool, FloatLinear, why="the importer makes it afterwards")


def _is_channelwise(conv: FloatConv) -> bool:
    """Whether a convolution makes each channel of one."""
    return conv.groups == len(conv.weight) and conv.weight.shape[1] == 1


# --- tensors ---


class _Writer:
    """Writes the graph.

    Attributes:
        builder: of the graph.
        name: wanted by the layer that is written.
    """

    def __init__(self, size: tuple[int, int], network: Tidied) -> None:
        self.builder = FloatGraphBuilder(size)
        self.name = ""
        self._joined = {ids.tobytes(): name for ids, name, _ in network.joined}
        last = max((step.first + step.shape.channels for step in network.steps), default=3)
        self._home: Ids = np.zeros(last, np.int64)
        self._tensors: list[tuple[str, Ids]] = [(IMAGE, np.arange(3))]
        self._concats: dict[tuple[str, ...], str] = {}
        self._picked: dict[bytes, str] = {}
        self._left = MAX_WEIGHTS

    def spend(self, *shape: int) -> None:
        """Weights that are added for picking channels."""
        self._left -= math.prod(shape)
        if self._left < 0:
            raise UnsupportedError(f"{self.name}: picking channels up to here takes more than {MAX_WEIGHTS} weights")

    def append(self, node: FloatNode, made: Ids) -> None:
        """Write a layer that makes these channels."""
        name = self.builder.append(replace(node, name=self.builder.unique(self.name)))
        self._home[made] = len(self._tensors)
        self._tensors.append((name, made))

    def whole(self, ids: Ids) -> tuple[list[str], Ids] | None:
        """Tensors that hold these channels and no others, in their order if there is one, and the order they have."""
        if len(ids) == 0 or ids.min() < 0:
            return None
        names, place = [], 0
        while place < len(ids):
            name, held = self._tensors[self._home[ids[place]]]
            if not np.array_equal(ids[place : place + len(held)], held):
                break
            names.append(name)
            place += len(held)
        else:
            return names, ids
        homes, first = np.unique(self._home[ids], return_index=True)
        homes = homes[np.argsort(first, kind="stable")]
        order = np.concatenate([self._tensors[home][1] for home in homes])
        if np.array_equal(np.sort(order), np.sort(ids)):
            return [self._tensors[home][0] for home in homes], order
        return None

    def around(self, ids: Ids) -> tuple[list[str], Ids]:
        """Tensors that hold these channels, and perhaps others, and all channels of these."""
        homes, first = np.unique(self._home[ids[ids >= 0]], return_index=True)
        if not len(homes):
            raise UnsupportedError(f"{self.name}: reads nothing but zeros")
        homes = homes[np.argsort(first, kind="stable")]
        return [self._tensors[home][0] for home in homes], np.concatenate([self._tensors[home][1] for home in homes])

    def joined(self, names: list[str], order: Ids) -> str:
        """The tensors as one."""
        key = tuple(names)
        if len(names) == 1:
            return names[0]
        if key not in self._concats:
            wanted = self._joined.get(order.tobytes(), f"{self.name}.concat")
            self._concats[key] = self.builder.append(FloatConcat(self.builder.unique(wanted), key))
        return self._concats[key]

    def join(self, ids: Ids) -> None:
        """A concatenation where the file has it; it disappears if nothing reads it whole."""
        found = self.whole(ids)
        if found is not None and _in_order(found, ids) and len(found[0]) > 1:
            self.joined(*found)

    def some_order(self, ids: Ids) -> tuple[str, Ids]:
        """A tensor of just these channels, and their order in it."""
        found = self.whole(ids)
        return (self.exactly(ids), ids) if found is None else (self.joined(*found), found[1])

    def exactly(self, ids: Ids) -> str:
        """A tensor of just these channels in this order."""
        found = self.whole(ids)
        if found is not None and _in_order(found, ids):
            return self.joined(*found)
        if ids.tobytes() not in self._picked:
            names, order = self.around(ids)
            self.spend(len(ids), len(order))
            weight = (ids[:, None] == order[None, :]).astype(np.float32)[:, :, None, None]
            source = self.joined(names, order)
            name, bias = self.builder.unique(f"{self.name}.channels"), np.zeros(len(ids), np.float32)
            conv = FloatConv(name, (source,), weight, bias, (1, 1), (0, 0, 0, 0))
            self._picked[ids.tobytes()] = self.builder.append(conv)
        return self._picked[ids.tobytes()]


_write: Table[FloatNode, None] = Table("layers that ONNX files have", FLOAT_OPERATORS)
"""(node, step, places of what it makes, writer): write these channels of a layer."""


@_write.implements(FloatConv)
def _conv(node: FloatConv, step: Step, piece: Ids, writer: _Writer) -> None:
    (source,) = step.sources
    if node.groups == 1:
        _dense(node, source, step.made[piece], node.weight[piece], node.bias[piece], writer)
    elif _is_channelwise(node):
        tensor, order = writer.some_order(source[piece])
        piece = piece[_places(order, source[piece])]
        part = replace(node, inputs=(tensor,), weight=node.weight[piece], bias=node.bias[piece], groups=len(piece))
        writer.append(part, step.made[piece])
    else:
        _grouped(node, step, piece, writer)


def _dense(
    node: FloatConv, source: Ids, made: Ids, weight: NDArray[np.float32], bias: NDArray[np.float32], writer: _Writer
) -> None:
    """A convolution of all its inputs follows any order of them; others, and zeros, have weights of 0."""
    found = writer.whole(source)
    names, order = writer.around(source) if found is None else found
    if not np.array_equal(order, source):
        writer.spend(len(weight), max(0, len(order) - len(source)), *weight.shape[2:])
        given, moved = source >= 0, np.zeros((len(weight), len(order), *weight.shape[2:]), np.float32)
        np.add.at(moved.swapaxes(0, 1), _places(source[given], order), weight[:, given].swapaxes(0, 1))
        weight = moved
    conv = replace(
        node, inputs=(writer.joined(names, order),), weight=np.ascontiguousarray(weight), bias=bias, groups=1
    )
    writer.append(conv, made)


def _grouped(node: FloatConv, step: Step, piece: Ids, writer: _Writer) -> None:
    (source,) = step.sources
    each, rows = len(source) // node.groups, len(node.weight) // node.groups
    groups, counts = np.unique(piece // rows, return_counts=True)
    inputs = [source[group * each : (group + 1) * each] for group in groups]
    if len(set(counts.tolist())) > 1 or len(groups) == 1:
        name = writer.name
        for group, ids in zip(groups, inputs, strict=True):
            part = piece[piece // rows == group]
            writer.name = name if len(groups) == 1 else f"{name}.group{group + 1}"
            _dense(node, ids, step.made[part], node.weight[part], node.bias[part], writer)
        return
    found = [writer.whole(ids) for ids in inputs]
    all_ids = np.concatenate(inputs)
    together = writer.whole(all_ids)
    if together is not None and _in_order(together, all_ids):
        tensor, order = writer.joined(*together), all_ids
    elif all(one is not None for one in found):
        names = [name for one in found if one is not None for name in one[0]]
        order = np.concatenate([one[1] for one in found if one is not None])
        tensor = writer.joined(names, order)
    else:
        tensor, order = writer.exactly(all_ids), all_ids
    weight = node.weight[piece].copy()
    for place, (group, ids) in enumerate(zip(groups, inputs, strict=True)):
        columns = _places(order[place * each : (place + 1) * each], ids)
        own = piece // rows == group
        weight[own] = weight[own][:, columns]
    conv = replace(node, inputs=(tensor,), weight=weight, bias=node.bias[piece], groups=len(groups))
    writer.append(conv, step.made[piece])


@_write.implements(FloatBatchNorm)
def _norm(node: FloatBatchNorm, step: Step, piece: Ids, writer: _Writer) -> None:
    tensor, order = writer.some_order(step.sources[0][piece])
    piece = piece[_places(order, step.sources[0][piece])]
    norm = replace(node, inputs=(tensor,), multiplier=node.multiplier[piece], offset=node.offset[piece])
    writer.append(norm, step.made[piece])


@_write.implements(FloatRelu, FloatMaxPool, FloatAveragePool)
def _channelwise(node: FloatRelu | FloatMaxPool | FloatAveragePool, step: Step, piece: Ids, writer: _Writer) -> None:
    tensor, order = writer.some_order(step.sources[0][piece])
    writer.append(replace(node, inputs=(tensor,)), step.made[piece[_places(order, step.sources[0][piece])]])


@_write.implements(FloatAdd)
def _add(node: FloatAdd, step: Step, piece: Ids, writer: _Writer) -> None:
    """In the order of the operand that comes in order."""
    operands = [source[piece] for source in step.sources]
    found = [writer.whole(ids) for ids in operands]
    leads = next((place for place in (0, 1) if _in_order(found[place], operands[place])), 0)
    tensor, order = writer.some_order(operands[leads])
    places = _places(order, operands[leads])
    other = writer.exactly(operands[1 - leads][places])
    inputs = (tensor, other) if leads == 0 else (other, tensor)
    writer.append(replace(node, inputs=inputs), step.made[piece[places]])


def _in_order(found: tuple[list[str], Ids] | None, wanted: Ids) -> bool:
    return found is not None and np.array_equal(found[1], wanted)


_write.refuses(FloatConcat, FloatGlobalAveragePool, FloatLinear, why="the importer makes it afterwards")


def _places(wanted: Ids, among: Ids) -> Ids:
    """Where each wanted number is among others."""
    if np.array_equal(wanted, among):
        return np.arange(len(among))
    order = np.argsort(among, kind="stable")
    return np.asarray(order[np.searchsorted(among, wanted, sorter=order)])


# --- the end of the network ---


def _with_head(graph: FloatGraph) -> FloatGraph:
    """The end as R6 has it: a global average pooling, or that and one fully connected layer."""
    *nodes, last = graph.nodes
    if isinstance(last, FloatAveragePool) and _is_global(last, graph):
        nodes.append(FloatGlobalAveragePool(last.name, last.inputs))
        return FloatGraph(graph.name, tuple(nodes), graph.input_size)
    before = nodes[-1] if nodes else None
    if not isinstance(last, FloatConv) or not isinstance(before, FloatAveragePool) or not _is_global(before, graph):
        return graph
    if last.weight.shape[2:] != (1, 1) or last.groups != 1 or any(last.padding):
        return graph
    if last.inputs != (before.name,):
        return graph
    pool = FloatGlobalAveragePool(before.name, before.inputs)
    linear = FloatLinear(last.name, last.inputs, last.weight[:, :, 0, 0].copy(), last.bias)
    return FloatGraph(graph.name, (*nodes[:-1], pool, linear), graph.input_size)


def _is_global(pool: FloatAveragePool, graph: FloatGraph) -> bool:
    """Whether a pooling is the mean over the whole map."""
    high, wide, _ = graph.shapes[pool.inputs[0]]
    return pool.kernel == (high, wide) and not any(pool.padding) and pool.divisor == high * wide
