"""An equal graph whose channels are in an order with which the chains of :mod:`.chains` need few extra steps.

The order of a tensor's channels is free: the rows of what makes it and the columns of what reads it change together,
and nothing else of the library does. Channels that stand in a pair are those whose weights rarely break the bound
together; pairs that break it for the same output channels share a step; output channels that break it in the same
steps share a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cpu.chains import BOUND, signed_sums

__all__ = ["reordered"]

STEP = 4
"""Channels of a reduction step."""

ROUNDS = 2
"""Of settling what stands together in a step, and then in a block: each depends on the other."""

EXCHANGES = 25
"""Rounds of exchanges between pairs, at most."""

EXTRA = 1 << 10
"""What an extra step costs beside a sum of weights."""

Order = NDArray[np.intp]


def reordered(graph: IntegerGraph, lanes: int) -> IntegerGraph:
    """The graph with its channels in another order: the same class sums for every image.

    Args:
        graph: without grouped convolutions but depthwise ones.
        lanes: output channels of a block.
    """
    ties = _Ties(graph)
    orders = [np.arange(size) for size in ties.sizes]
    for _ in range(ROUNDS):
        for part in ties.free():
            readers = [_reader(node, start, ties, orders, part, lanes) for node, start in ties.readers(part)]
            if readers:
                orders[part] = orders[part][_steps(np.concatenate(readers, 1))]
        for part in ties.free():
            made = [_maker(node, ties, orders, part) for node in ties.makers(part)]
            if made:
                orders[part] = orders[part][_blocks(np.concatenate(made, 1), lanes)]
    return replace(graph, nodes=tuple(_permuted(node, ties, orders) for node in graph.nodes))


class _Ties:
    """Which runs of channels of the tensors have one order: a run is what one dense convolution makes."""

    def __init__(self, graph: IntegerGraph) -> None:
        self.sizes: list[int] = []
        self._same: list[int] = []
        self._fixed: set[int] = set()
        self._graph = graph
        self._runs: dict[str, tuple[int, ...]] = {IMAGE: (self._new(3, fixed=True),)}
        for node in graph.nodes:
            self._runs[node.name] = self._made(node)
        for node in graph.convolutions:
            whole = graph.tensors[node.input].channels % STEP == 0 and node.groups == 1
            starts = [start for start, _ in self.runs(node.input)]
            if not is_depthwise(node) and not (whole and all(start % STEP == 0 for start in starts)):
                self._fixed.update(self._runs[node.input])
        self._fixed = {self._find(part) for part in self._fixed}

    def runs(self, tensor: str) -> list[tuple[int, int]]:
        """(first channel, run) of a tensor, in order."""
        parts = [self._find(part) for part in self._runs[tensor]]
        starts = np.cumsum([0, *(self.sizes[part] for part in parts)])[:-1].tolist()
        return list(zip(starts, parts, strict=True))

    def free(self) -> list[int]:
        """The runs whose order may change."""
        parts = {part for tensor in self._runs for _, part in self.runs(tensor)}
        return sorted(part for part in parts - self._fixed if self.sizes[part] % STEP == 0)

    def readers(self, part: int) -> Iterator[tuple[Conv | Head, int]]:
        """The dense convolutions that read a run, and where it begins in what they read."""
        for node in self._graph.convolutions:
            if not is_depthwise(node):
                yield from ((node, start) for start, own in self.runs(node.input) if own == part)

    def makers(self, part: int) -> Iterator[Conv]:
        """The dense convolutions that make a run."""
        for node in self._graph.convolutions:
            if isinstance(node, Conv) and not is_depthwise(node) and self.runs(node.name)[0][1] == part:
                yield node

    def order(self, tensor: str, orders: list[Order]) -> Order:
        """Which channel stands at each place of a tensor."""
        return np.concatenate([start + orders[part] for start, part in self.runs(tensor)])

    def _made(self, node: Node) -> tuple[int, ...]:
        if isinstance(node, Head):
            return (self._new(len(node.bias), fixed=True),)
        if isinstance(node, Concat):
            return tuple(part for name in node.inputs for part in self._runs[name])
        if isinstance(node, Conv) and not is_depthwise(node):
            return (self._new(len(node.bias)),)
        if isinstance(node, Add):
            first, second = (self._runs[name] for name in node.inputs)
            if [self.sizes[part] for part in first] != [self.sizes[part] for part in second]:
                self._fixed.update(first + second)
            else:
                for one, other in zip(first, second, strict=True):
                    self._same[self._find(one)] = self._find(other)
            return second
        assert isinstance(node, Conv | MaxPool)
        return self._runs[node.input]

    def _new(self, size: int, fixed: bool = False) -> int:
        self.sizes.append(size)
        self._same.append(len(self._same))
        if fixed:
            self._fixed.add(len(self._same) - 1)
        return len(self._same) - 1

    def _find(self, part: int) -> int:
        while self._same[part] != part:
            part = self._same[part]
        return part


def _reader(
    node: Conv | Head, start: int, ties: _Ties, orders: list[Order], part: int, lanes: int
) -> NDArray[np.int16]:
    """Weights for a run, [channels in their order, (block of outputs, tap), lanes]."""
    out = len(node.bias)
    rows = node.weight[ties.order(node.name, orders)].reshape(out, -1, node.weight.shape[3])
    own = rows[:, :, start + orders[part]].astype(np.int16)
    padded = np.pad(own, ((0, -out % lanes), (0, 0), (0, 0))).reshape(-1, lanes, *own.shape[1:])
    return padded.transpose(3, 0, 2, 1).reshape(own.shape[2], -1, lanes)


def _maker(node: Conv, ties: _Ties, orders: list[Order], part: int) -> NDArray[np.int16]:
    """Sums of the weights of each pair of input channels, [channels in their order, step, 4]."""
    channels = node.weight.shape[3]
    rows = node.weight[orders[part]].reshape(len(node.bias), -1, channels)
    if channels % STEP == 0:
        rows = rows[:, :, ties.order(node.input, orders)]
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -channels % STEP)))
    return np.abs(signed_sums(rows.reshape(len(rows), -1, 2, 2).astype(np.int16))).reshape(len(rows), -1, 4)


def _steps(weights: NDArray[np.int16]) -> Order:
    """An order in which four neighbours are a step: weights [channels, blocks and taps, lanes]."""
    signed = [np.maximum(sign * weights, 0).reshape(len(weights), -1).astype(np.float64) for sign in (1, -1)]
    together = sum(array @ array.T for array in signed) // BOUND  # exact: integers
    pairs = _matching(EXTRA * _conflicts(weights) + together.astype(np.int64))
    over = (np.abs(weights[pairs].sum(1)) > BOUND).any(2)
    return pairs[_matching(EXTRA * _either(over))].ravel()


def _blocks(loads: NDArray[np.int16], lanes: int) -> Order:
    """An order of steps' channels in which neighbours are a block: loads [channels, steps, 4]."""
    members, last = np.arange(len(loads)).reshape(-1, STEP), []
    while members.shape[1] < lanes:
        most = loads[members].max(1)
        flat = most.reshape(len(most), -1)
        cost = EXTRA * _either((most > BOUND).any(2))
        cost += np.stack([np.maximum(flat, row).sum(1, dtype=np.int64) for row in flat])
        pairs = _matching(np.pad(cost, (0, len(members) % 2)))
        whole = (pairs < len(members)).all(1)
        last.extend(members[min(pair)] for pair in pairs[~whole])  # its partner is none
        members = members[pairs[whole]].reshape(-1, 2 * members.shape[1])
    return np.concatenate([members.ravel(), *last[::-1]])


def _conflicts(weights: NDArray[np.int16]) -> NDArray[np.int64]:
    """For how many blocks and taps a lane's weights of two channels break the bound: [channels, channels]."""
    count = np.zeros((len(weights), len(weights)), np.int64)
    both = np.zeros_like(count)
    for own in weights.swapaxes(0, 1):  # [channels, lanes]
        large = np.abs(own) > BOUND // 2
        rows = np.flatnonzero(large.any(1))
        over = np.zeros((len(rows), len(own)), np.bool_)
        for lane in range(own.shape[1]):
            at = np.flatnonzero(large[rows, lane])
            over[at] |= np.abs(own[rows[at], lane, None] + own[:, lane]) > BOUND
        count[rows] += over
        both[np.ix_(rows, rows)] += over[:, rows]
    return count + count.T - both


def _either(sets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sizes of the unions of two sets: bool [sets, elements] -> [sets, sets]."""
    values = sets.astype(np.float64)
    size = values.sum(1)
    return (size[:, None] + size - values @ values.T).astype(np.int64)


def _matching(cost: NDArray[np.int64]) -> Order:
    """Pairs of an even number of things, [pairs, 2], of small cost in all: greedily, then by exchanges."""
    free = np.ones(len(cost), np.bool_)
    pairs = np.zeros((len(cost) // 2, 2), np.intp)
    number, never = 0, np.iinfo(np.int64).max
    for first in np.argsort(-cost.sum(1), kind="stable"):
        if free[first]:
            free[first] = False
            second = np.where(free, cost[first], never).argmin()
            free[second] = False
            pairs[number] = first, second
            number += 1
    for _ in range(EXCHANGES):
        a, b = pairs.T
        own = cost[a, b]
        straight, crossed = (cost[np.ix_(a, x)] + cost[np.ix_(b, y)] for x, y in ((a, b), (b, a)))
        gain = own[:, None] + own - np.minimum(straight, crossed)
        np.fill_diagonal(gain, 0)
        other = gain.argmax(1)
        best = gain[np.arange(len(gain)), other]
        changed = np.zeros(len(pairs), np.bool_)
        for i in np.argsort(-best, kind="stable"):
            j = other[i]
            if best[i] <= 0:
                break
            if changed[i] or changed[j]:
                continue
            changed[[i, j]] = True
            first, second = pairs[j] if straight[i, j] <= crossed[i, j] else pairs[j, ::-1]
            pairs[i], pairs[j] = (pairs[i, 0], first), (pairs[i, 1], second)
        if not changed.any():
            break
    return pairs


def _permuted(node: Node, ties: _Ties, orders: list[Order]) -> Node:
    """The node with its channels in the tensors' orders."""
    if isinstance(node, Concat | MaxPool):
        return node
    out = ties.order(node.name, orders)
    if isinstance(node, Add):
        return replace(node, shift=node.shift[:, out], scale=node.scale[out])
    read = ties.order(node.input, orders)
    weight = node.weight[out] if is_depthwise(node) else node.weight[out][..., read]
    changed: dict[str, Any] = {
        "weight": weight,
        "bias": node.bias[out],
        "scale": node.scale[out],
        "pad_value": node.pad_value[read],
    }
    if isinstance(node, Conv):
        changed["shift"] = node.shift[out]
    return replace(node, **changed)
