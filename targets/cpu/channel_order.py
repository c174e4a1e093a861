"""Reorders a graph's channels so that the chains of :mod:`.chains` need few extra steps; its answers are unchanged.

The order of a tensor's channels is free: the rows of the weights that make it and the columns of the weights that read
it change together, and nothing else changes in the library. Two channels become a pair if their weights rarely break
the bound together. Pairs that break it for the same output channels share a step. Output channels that break it in the
same steps share a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import INTEGER_OPERATORS
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cpu.chains import BOUND, signed_sums

__all__ = ["order_of_windows", "reordered"]

STEP = 4
"""Channels of a reduction step."""

EXCHANGES = 25
"""Rounds of exchanges between pairs, at most."""

EXTRA = 1 << 10
"""What an extra step costs beside a sum of weights."""

Order = NDArray[np.intp]


def reordered(graph: IntegerGraph, lanes: int) -> tuple[IntegerGraph, dict[str, Order]]:
    """The graph with its channels in another order: the same class sums for every image.

    Args:
        graph: without grouped convolutions but depthwise ones.
        lanes: output channels of a block.

    Returns:
        The new graph; and for every tensor, the given graph's channel at each place.
    """
    ties = _Ties(graph)
    orders = [np.arange(size) for size in ties.sizes]
    for part in ties.free():
        readers = [_reader(node, start, ties, orders, part, lanes) for node, start in ties.readers(part)]
        if readers:
            orders[part] = orders[part][_steps(np.concatenate(readers, 1))]
    for part in ties.free():
        made = [_maker(node, ties, orders, part) for node in ties.makers(part)]
        if made:
            orders[part] = orders[part][_blocks(np.concatenate(made, 1), lanes)]
    nodes = tuple(_permuted(node, ties, orders) for node in graph.nodes)
    return replace(graph, nodes=nodes), {node.name: ties.order(node.name, orders) for node in graph.nodes}


def order_of_windows(rows: NDArray[np.int8], lanes: int) -> Order:
    """An order of the bytes in each row of a window, as these rows follow each other: few pairs break the bound.

    Bytes of a row change places as long as that helps.

    Args:
        rows: weights [output channels, rows, bytes of a row].
        lanes: output channels of a block.

    Returns:
        int [rows, bytes]: which byte of its row stands at each place.
    """
    out, height, run = rows.shape
    blocks = np.pad(rows, ((0, -out % lanes), (0, 0), (0, 0))).reshape(-1, lanes, height * run)
    weights = np.pad(blocks, ((0, 0), (0, 0), (0, -height * run % STEP))).transpose(2, 0, 1).astype(np.int32)
    order = np.arange(len(weights))

    def cost(step: int) -> int:
        pairs = weights[order[STEP * step : STEP * (step + 1)]].reshape(2, 2, *weights.shape[1:])
        worst = np.abs(signed_sums(pairs.transpose(0, 2, 3, 1))).max((0, 2, 3))  # of each block
        return int(EXTRA * np.count_nonzero(worst > BOUND) + worst.sum())

    costs = [cost(step) for step in range(len(weights) // STEP)]
    swaps = [
        (first, second)
        for row in range(height)
        for first, second in combinations(range(row * run, (row + 1) * run), 2)
        if first // 2 != second // 2
    ]
    changed = True
    while changed:
        changed = False
        for swap in swaps:
            steps = {place // STEP for place in swap}
            order[list(swap)] = order[list(swap[::-1])]
            found = {step: cost(step) for step in steps}
            if sum(found.values()) < sum(costs[step] for step in steps):
                changed = True
                for step, value in found.items():
                    costs[step] = value
            else:
                order[list(swap)] = order[list(swap[::-1])]
    within: Order = order[: height * run].reshape(height, run) - run * np.arange(height)[:, None]
    return within


class _Ties:
    """Runs of channels that must have the same order. One dense convolution makes one run."""

    def __init__(self, graph: IntegerGraph) -> None:
        self.sizes: list[int] = []
        self._same: list[int] = []
        self._fixed: set[int] = set()
        self._graph = graph
        self._runs: dict[str, tuple[int, ...]] = {IMAGE: (self.new(3, fixed=True),)}
        for node in graph.nodes:
            self._runs[node.name] = _runs_made(node, self)
        for node in graph.convolutions:
            whole = graph.tensors[node.input].channels % STEP == 0 and node.groups == 1
            starts = [start for start, _ in self.runs(node.input)]
            steps = whole and all(start % STEP == 0 for start in starts)
            # a depthwise head's class sums are in the order of what it reads
            if node is graph.head if is_depthwise(node) else not steps:
                self._fixed.update(self._runs[node.input])
        self._fixed = {self.find(part) for part in self._fixed}

    def runs(self, tensor: str) -> list[tuple[int, int]]:
        """(first channel, run) of a tensor, in order."""
        parts = [self.find(part) for part in self._runs[tensor]]
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

    def makers(self, part: int) -> Iterator[Conv | Head]:
        """The dense convolutions that make a run."""
        for node in self._graph.convolutions[:-1]:
            if not is_depthwise(node) and self.runs(node.name)[0][1] == part:
                yield node

    def order(self, tensor: str, orders: list[Order]) -> Order:
        """Which channel stands at each place of a tensor."""
        return np.concatenate([start + orders[part] for start, part in self.runs(tensor)])

    def parts(self, tensor: str) -> tuple[int, ...]:
        """The runs of a tensor, in order."""
        return self._runs[tensor]

    def tie(self, first: tuple[int, ...], second: tuple[int, ...]) -> None:
        """Give two tensors the same order; where the lengths of their runs differ, both keep their own order."""
        if [self.sizes[part] for part in first] != [self.sizes[part] for part in second]:
            self._fixed.update(first + second)
            return
        for one, other in zip(first, second, strict=True):
            self._same[self.find(one)] = self.find(other)

    def new(self, size: int, fixed: bool = False) -> int:
        """A run that is tied to no other."""
        self.sizes.append(size)
        self._same.append(len(self._same))
        if fixed:
            self._fixed.add(len(self._same) - 1)
        return len(self._same) - 1

    def find(self, part: int) -> int:
        """The representative of all runs that a run is tied to."""
        while self._same[part] != part:
            part = self._same[part]
        return part


_runs_made: Table[Node, tuple[int, ...]] = Table("CPU runs of channels", INTEGER_OPERATORS)
"""``_runs_made(node, ties)``: the runs of a node's tensor."""


@_runs_made.implements(Conv)
def _convolution_makes(node: Conv, ties: _Ties) -> tuple[int, ...]:
    return ties.parts(node.input) if is_depthwise(node) else (ties.new(len(node.bias)),)


@_runs_made.implements(Head)
def _head_makes(node: Head, ties: _Ties) -> tuple[int, ...]:
    return (ties.new(len(node.bias), fixed=True),)


@_runs_made.implements(MaxPool)
def _pooling_makes(node: MaxPool, ties: _Ties) -> tuple[int, ...]:
    return ties.parts(node.input)


@_runs_made.implements(Concat)
def _concatenation_makes(node: Concat, ties: _Ties) -> tuple[int, ...]:
    return tuple(part for name in node.inputs for part in ties.parts(name))


@_runs_made.implements(Add)
def _addition_makes(node: Add, ties: _Ties) -> tuple[int, ...]:
    first, second = map(ties.parts, node.inputs)
    ties.tie(first, second)
    return second


def _reader(
    node: Conv | Head, start: int, ties: _Ties, orders: list[Order], part: int, lanes: int
) -> NDArray[np.int16]:
    """Weights for a run, [channels in their order, (block of outputs, tap), lanes]."""
    out = len(node.bias)
    rows = node.weight[ties.order(node.name, orders)].reshape(out, -1, node.weight.shape[3])
    own = rows[:, :, start + orders[part]].astype(np.int16)
    padded = np.pad(own, ((0, -out % lanes), (0, 0), (0, 0))).reshape(-1, lanes, *own.shape[1:])
    return padded.transpose(3, 0, 2, 1).reshape(own.shape[2], -1, lanes)


def _maker(node: Conv | Head, ties: _Ties, orders: list[Order], part: int) -> NDArray[np.int16]:
    """Sums of the weights of each pair of input channels, [channels in their order, step, 4]."""
    channels = node.weight.shape[3]
    rows = node.weight[orders[part]].reshape(len(node.bias), -1, channels)
    if channels % STEP == 0:
        rows = rows[:, :, ties.order(node.input, orders)]
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -channels % STEP)))
    pairs = rows.reshape(len(rows), -1, 2, 2).astype(np.int16)
    loads: NDArray[np.int16] = np.abs(signed_sums(pairs)).reshape(len(rows), -1, 4)
    return loads


def _steps(weights: NDArray[np.int16]) -> Order:
    """An order in which four neighbours form a step: weights [channels, blocks and taps, lanes]."""
    signed = [np.maximum(sign * weights, 0).reshape(len(weights), -1).astype(np.float64) for sign in (1, -1)]
    positive, negative = (array @ array.T for array in signed)  # exact: integers
    together = ((positive + negative) // BOUND).astype(np.int32)
    pairs = _matching(EXTRA * _conflicts(weights) + together)
    over = (np.abs(weights[pairs].sum(1)) > BOUND).any(2)
    return pairs[_matching(EXTRA * _either(over))].ravel()


def _blocks(loads: NDArray[np.int16], lanes: int) -> Order:
    """An order of output channels in which neighbours form a block: loads [channels, steps, 4]."""
    members = np.arange(len(loads)).reshape(-1, STEP)
    last: list[Order] = []
    while members.shape[1] < lanes:
        most = loads[members].max(1)
        flat = most.reshape(len(most), -1)
        cost = EXTRA * _either((most > BOUND).any(2))
        cost += np.stack([np.maximum(flat, row).sum(1, dtype=np.int32) for row in flat])
        pairs = _matching(np.pad(cost, (0, len(members) % 2)))
        whole = (pairs < len(members)).all(1)
        last.extend(members[min(pair)] for pair in pairs[~whole])  # its partner is none
        members = members[pairs[whole]].reshape(-1, 2 * members.shape[1])
    return np.concatenate([members.ravel(), *last[::-1]])


def _conflicts(weights: NDArray[np.int16]) -> NDArray[np.int32]:
    """For how many blocks and taps a lane's weights of two channels break the bound: [channels, channels]."""
    count = np.zeros((len(weights), len(weights)), np.int32)
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
    found: NDArray[np.int32] = count + count.T - both
    return found


def _either(sets: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Sizes of the unions of two sets: bool [sets, elements] -> [sets, sets]."""
    values = sets.astype(np.float64)
    size = values.sum(1)
    found: NDArray[np.int32] = (size[:, None] + size - values @ values.T).astype(np.int32)
    return found


def _matching(cost: NDArray[np.int32]) -> Order:
    """Match an even number of items in pairs, [pairs, 2], at a small total cost: greedily, then by exchanges."""
    free = np.ones(len(cost), np.bool_)
    pairs = np.zeros((len(cost) // 2, 2), np.intp)
    number, never = 0, np.iinfo(np.int32).max
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


_permuted: Table[Node, Node] = Table("CPU order of channels", INTEGER_OPERATORS)
"""``_permuted(node, ties, orders)``: the node with its channels in the tensors' orders."""


@_permuted.implements(MaxPool, Concat)
def _unchanged(node: Node, ties: _Ties, orders: list[Order]) -> Node:
    return node


@_permuted.implements(Add)
def _addition(node: Add, ties: _Ties, orders: list[Order]) -> Add:
    out = ties.order(node.name, orders)
    return replace(node, shift=node.shift[:, out], scale=node.scale[out])


@_permuted.implements(Conv)
def _convolution(node: Conv, ties: _Ties, orders: list[Order]) -> Conv:
    return replace(node, shift=node.shift[ties.order(node.name, orders)], **_arrays(node, ties, orders))


@_permuted.implements(Head)
def _head(node: Head, ties: _Ties, orders: list[Order]) -> Head:
    return replace(node, **_arrays(node, ties, orders))


def _arrays(node: Conv | Head, ties: _Ties, orders: list[Order]) -> dict[str, Any]:
    """What both kinds of convolutions have."""
    out, read = ties.order(node.name, orders), ties.order(node.input, orders)
    weight = node.weight[out] if is_depthwise(node) else node.weight[out][..., read]
    return {"weight": weight, "bias": node.bias[out], "scale": node.scale[out], "pad_value": node.pad_value[read]}
