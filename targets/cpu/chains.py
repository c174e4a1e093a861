"""Exact sums of products by vpmaddubsw: reduction steps in chains whose 16-bit sums provably never overflow.

vpmaddubsw multiplies four uint8 inputs of a step with a lane's four int8 weights and adds two products each in 16 bits,
with saturation. Inputs are 0..255, so both sums are exact for every input where the positive weights of a pair add up
to at most 128 and the negative ones to at least -128 (255 * 128 < 2**15). Where several steps keep this bound
together, their sums can be added in 16 bits, too, before they are widened. Such steps are a chain. A pair that breaks
the bound is split, w = a + b, and b becomes an extra step on the same input bytes. Two steps suffice, as |w| <= 127.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.targets.cpu.depthwise import PAIR_PRODUCTS
from squeezeedge.targets.cpu.loops import Expr, broadcast_word, lanes, scratch
from squeezeedge.targets.cpu.tiling import Accumulators, Operands, Tile

__all__ = [
    "BOUND",
    "HEADER",
    "LENGTHS",
    "Chains",
    "chained_sums",
    "check_chains",
    "plan_chains",
    "plan_table",
    "signed_sums",
]

BOUND = 128
"""Largest sum of the weights of one sign that 16 bits hold for all inputs."""

LENGTHS = (4, 3, 2, 1)
"""Steps of a chain: of the first ones, then of the others."""

TOGETHER = 256
"""Steps from which chains are made, at most: of more, every second, third, ... one."""

HEADER = 2 + len(LENGTHS)
"""Numbers of a block in a table of plans: where its weights and its steps begin, and how many chains there are."""

S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Chains:
    """The reduction of one block of output channels.

    Attributes:
        counts: number of chains of each of ``LENGTHS``; their steps follow each other in that order.
        steps: int [steps]: which step of the convolution's window each of them reads.
        weights: int8 [steps, lanes, 4].
    """

    counts: tuple[int, ...]
    steps: NDArray[np.intp]
    weights: NDArray[np.int8]


def plan_chains(weights: NDArray[np.int8]) -> list[Chains]:
    """Plan the chains of each block.

    Args:
        weights: [blocks, lanes, steps, 4], within rules.WEIGHT_LIMIT.

    Returns:
        One plan a block; the same weights always give the same plans. Steps without a weight are left out.
    """
    blocks, block_lanes, steps, _ = weights.shape
    split = np.concatenate(_split(weights), 2).swapaxes(1, 2)  # [blocks, steps and extra ones, lanes, 4]
    pairs = split.reshape(blocks, 2 * steps, 2 * block_lanes, 2).astype(np.int16)
    loads = np.abs(signed_sums(pairs)).reshape(blocks, 2 * steps, 4 * block_lanes)
    order, exists = _first(loads.any(2))
    parts = -(-order.shape[1] // TOGETHER)
    found: list[list[NDArray[np.intp]]] = [[] for _ in range(blocks)]
    for part in range(parts):
        own = order[:, part::parts]
        for rows in _chains(_rows(loads, own), exists[:, part::parts]):
            for block in np.flatnonzero(rows[:, 0] >= 0):
                found[block].append(own[block, rows[block, rows[block] >= 0]])
    plans = []
    for index, chains in enumerate(found):
        kinds = [[chain for chain in chains if len(chain) == length] for length in LENGTHS]
        chosen = np.array([step for kind in kinds for chain in kind for step in chain], np.intp)
        plans.append(Chains(tuple(map(len, kinds)), chosen % steps, split[index, chosen]))
    return plans


def plan_table(plans: Sequence[Chains], places: NDArray[np.intp]) -> NDArray[np.int32]:
    """The plans of a convolution's blocks as its kernel reads them: the headers, then the place of every step.

    Args:
        plans: of all blocks, in order.
        places: int [steps of the window]: how many bytes each lies behind the window's first.

    Returns:
        int32 [blocks * HEADER + steps]; a header has the byte of the block's first weight, the index of its first step
        in this table, and the number of chains of each of ``LENGTHS``.
    """
    sizes = np.array([len(plan.steps) for plan in plans])
    before = np.cumsum(sizes) - sizes
    lanes = plans[0].weights.shape[1]
    starts = np.stack([before * lanes * 4, before + len(plans) * HEADER], 1)
    headers = np.concatenate([starts, [plan.counts for plan in plans]], 1)
    steps = [places[plan.steps] for plan in plans]
    return np.concatenate([headers.ravel(), *steps]).astype(np.int32)


def check_chains(name: str, plans: Sequence[Chains], weights: NDArray[np.int8]) -> None:
    """Recompute every bound of a convolution's plans, and its weights from theirs.

    Args:
        name: of the convolution.
        plans: of all blocks, in order.
        weights: as in :func:`plan_chains`.

    Raises:
        SqueezeEdgeError: a sum can overflow, or the plans compute something else.
    """
    for plan, own in zip(plans, weights, strict=True):
        first, whole = 0, np.zeros((own.shape[1], len(own), 4), np.int64)
        for length, count in zip(LENGTHS, plan.counts, strict=True):
            chains = plan.weights[first : first + length * count].reshape(count, length, 2 * own.shape[0], 2)
            if np.abs(signed_sums(chains.astype(np.int64)).sum(1)).max(initial=0) > BOUND:
                raise SqueezeEdgeError(f"{name}: a sum of its plan can overflow 16 bits; report this")
            first += length * count
        np.add.at(whole, plan.steps, plan.weights)
        if first != len(plan.steps) or not np.array_equal(whole.swapaxes(0, 1), own):
            raise SqueezeEdgeError(f"{name}: its plan does not have its weights; report this")


def signed_sums(weights: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Sums of the positive and of the negative weights of pairs: [..., 2] -> [..., 2]."""
    return np.stack([np.maximum(weights, 0).sum(-1), np.minimum(weights, 0).sum(-1)], -1)


def _split(weights: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Split weights into a + b: a step keeps a, an extra step takes b, half of each pair that breaks the bound."""
    pairs = weights.reshape(*weights.shape[:-1], 2, 2).astype(np.int16)
    over = np.abs(signed_sums(pairs)).max(-1, keepdims=True) > BOUND
    extra = np.where(over, np.sign(pairs) * (np.abs(pairs) // 2), 0)
    kept, split = ((array.astype(np.int8)).reshape(weights.shape) for array in (pairs - extra, extra))
    return kept, split


def _first(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The chosen rows of each block, in order, [blocks, rows], and which of these there are."""
    count = chosen.sum(1)
    rows = int(count.max(initial=0))
    return np.argsort(~chosen, 1, kind="stable")[:, :rows], np.arange(rows) < count[:, None]


def _rows(array: NDArray[S], order: NDArray[np.intp]) -> NDArray[S]:
    """Rows of each block: [blocks, rows, ...]."""
    return np.take_along_axis(array, order[..., None], 1)


def _chains(loads: NDArray[np.int16], exists: NDArray[np.bool_]) -> Iterator[NDArray[np.intp]]:
    """Few chains whose sums keep the bound.

    Each begins with the heaviest step that is left. Of those that fit, the next one is that which has the most where
    the chain has the most room (the largest scalar product).

    Args:
        loads: [blocks, rows, sums].
        exists: [blocks, rows].

    Yields:
        One chain of each block, int [blocks, the longest]: its rows; -1: there is none.
    """
    blocks, free, weights = np.arange(len(loads)), exists.copy(), loads.astype(np.float32)
    while free.any():
        room = np.full((len(loads), loads.shape[2]), BOUND, np.int16)
        chain = np.full((len(loads), max(LENGTHS)), -1)
        fits = free
        for place in range(max(LENGTHS)):
            gain = (weights @ room.astype(np.float32)[..., None])[..., 0]  # exact: integers
            row = np.where(fits, gain, -1).argmax(1)
            at = np.flatnonzero(fits[blocks, row])
            row = row[at]
            chain[at, place], free[at, row] = row, False
            room[at] -= loads[at, row]
            fits = free & (loads <= room[:, None]).all(2)
        yield chain


def chained_sums(block_lanes: int, tile: Tile, operands: Operands) -> Accumulators:
    """Write the sums of a tile, biases included.

    Args:
        block_lanes: of a block: 4 (SSSE3), 8 (AVX2) or 16 (AVX-512BW).
        tile: its shape, of one block.
        operands: what is summed, with the plan of :func:`plan_table`.
    """
    n, table = block_lanes, operands.parameters
    pixels = [(row, pixel) for row in range(tile.rows) for pixel in range(tile.pixels)]
    acc = scratch(len(pixels) * n, "int32")

    def at(row: int, pixel: int, block: int = 0) -> Expr:
        return lanes((row * tile.pixels + pixel) * n, n)

    for row, pixel in pixels:
        T.buffer_store(acc, table[lanes(operands.parameter, n)], [at(row, pixel)])
    header = operands.plan + operands.index * HEADER
    weight, step = operands.weight + table[header], operands.plan + table[header + 1]
    for place, length in enumerate(LENGTHS):
        count = table[header + 2 + place]
        with T.serial(0, count) as chain:
            first = chain * length
            weights = [operands.weights[lanes(weight + (first + j) * 4 * n, 4 * n)] for j in range(length)]
            starts = [operands.start + table[step + first + j] for j in range(length)]
            for row, pixel in pixels:
                to, index = row * operands.down + pixel * operands.right, at(row, pixel)
                reads = zip(starts, weights, strict=True)
                sums = [_products(n, operands.data, start + to, own) for start, own in reads]
                T.buffer_store(acc, acc[index] + _widened(n, sum(sums[1:], sums[0])), [index])
        weight, step = weight + count * (length * 4 * n), step + count * length
    return lambda *position: acc[at(*position)]


def _products(n: int, data: Expr, address: Expr, weights: Expr) -> Expr:
    """Sums of two products each, int16, of four input bytes and every lane's weights."""
    name = {4: "ssse3.pmadd.ub.sw.128", 8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}[n]
    read = T.reinterpret(f"uint8x{4 * n}", broadcast_word(data, address, n))
    return T.call_llvm_pure_intrin(f"int16x{2 * n}", f"llvm.x86.{name}", read, weights)


def _widened(n: int, sums: Expr) -> Expr:
    """Sums of two 16-bit sums each, int32."""
    return T.call_llvm_pure_intrin(f"int32x{n}", PAIR_PRODUCTS[n], sums, T.broadcast(T.int16(1), 2 * n))
