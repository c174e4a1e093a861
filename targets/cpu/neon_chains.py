"""Exact sums of products by NEON's widening multiplications: reduction steps in chains that 16 bits provably hold.

smlal multiplies eight signed bytes with eight others and adds the products in 16 bits, without saturation. The input is
q - 128 (R7), so it is -128..127, and a sum is exact for every input where the magnitudes of its weights add up to at
most 255 (128 * 255 < 2**15). A step is 16 bytes of the input and of each output channel's weights: two products a lane.
Every step keeps the bound, as |w| <= 127, and those that keep it together in all lanes are a chain. Their sums are
added in 16 bits, and sadalp then widens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph import rules
from squeezeedge.targets.cpu.loops import Expr, lanes, loop, scratch
from squeezeedge.targets.cpu.tiling import Accumulators, Operands, Tile

__all__ = ["BOUND", "STEP", "Chains", "check_chains", "plan_chains", "plan_table", "widened_sums"]

STEP = 16
"""Input bytes of a step."""

HALF = STEP // 2
"""Products of a multiply instruction."""

BOUND = 255
"""Largest sum of magnitudes of weights that 16 bits hold for all inputs."""


@dataclass(frozen=True, eq=False)
class Chains:
    """The reduction of a few output channels.

    Attributes:
        lengths: int [chains]: steps of each; they follow each other.
        steps: int [steps]: which step of the convolution's window each of them reads.
        weights: int8 [steps, channels, STEP].
    """

    lengths: NDArray[np.intp]
    steps: NDArray[np.intp]
    weights: NDArray[np.int8]


def plan_chains(weights: NDArray[np.int8]) -> list[Chains]:
    """Plan the chains of each part of a convolution: the heaviest step first, each in the first chain that holds it.

    Args:
        weights: [parts, channels, steps, STEP], within rules.WEIGHT_LIMIT.

    Returns:
        One plan a part; the same weights always give the same plans. Steps without a weight are left out.
    """
    plans = []
    for own in weights.swapaxes(1, 2):
        loads = _loads(own)
        heaviest = loads.max(1)
        held = np.zeros((0, loads.shape[1]), np.int64)
        members: list[list[int]] = []
        for step in np.argsort(-heaviest, kind="stable")[: np.count_nonzero(heaviest)].tolist():
            fits = np.flatnonzero((held + loads[step]).max(1, initial=0) <= BOUND)
            if fits.size:
                held[fits[0]] += loads[step]
                members[fits[0]].append(step)
            else:
                held = np.concatenate([held, loads[step][None]])
                members.append([step])
        members.sort(key=len, reverse=True)  # so that loops of one length follow each other
        order = np.array([step for chain in members for step in sorted(chain)], np.intp)
        plans.append(Chains(np.array([len(chain) for chain in members], np.intp), order, own[order]))
    return plans


def plan_table(plans: Sequence[Chains], places: NDArray[np.intp]) -> NDArray[np.int32]:
    """The plans of a convolution's parts as its kernel reads them.

    Args:
        plans: of all parts, in order.
        places: int [steps of the window]: how many bytes each lies behind the window's first.

    Returns:
        int32: where the places of the steps begin in this table; for each part, where its first chain is, and behind
        the last one where there is none any more; for each chain, the same of its first step; the place of every step.
    """
    chains = np.concatenate([[0], np.cumsum([len(plan.lengths) for plan in plans])])
    steps = np.concatenate([[0], np.cumsum(np.concatenate([plan.lengths for plan in plans]))])
    first = 1 + len(chains) + len(steps)
    found = [plan.steps for plan in plans]
    parts = (np.array([first]), 1 + len(chains) + chains, first + steps, places[np.concatenate(found)])
    return np.concatenate(parts).astype(np.int32)


def check_chains(name: str, plans: Sequence[Chains], weights: NDArray[np.int8]) -> None:
    """Recompute every bound of a convolution's plans, and its weights from theirs.

    Args:
        name: of the convolution.
        plans: of all parts, in order.
        weights: as in :func:`plan_chains`.

    Raises:
        SqueezeEdgeError: a sum can overflow, or the plans compute something else.
    """
    for plan, own in zip(plans, weights.swapaxes(1, 2), strict=True):
        whole = np.zeros(own.shape, np.int64)
        np.add.at(whole, plan.steps, plan.weights)
        if plan.lengths.sum() != len(plan.steps) or (plan.lengths < 1).any() or not np.array_equal(whole, own):
            raise SqueezeEdgeError(f"{name}: its plan does not have its weights; report this")
        starts = np.cumsum(plan.lengths) - plan.lengths
        if len(starts) and np.add.reduceat(_loads(plan.weights), starts).max() > BOUND:
            raise SqueezeEdgeError(f"{name}: a sum of its plan can overflow 16 bits; report this")


def _loads(weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Sums of magnitudes in each lane: [steps, channels, STEP] -> [steps, channels * HALF]."""
    magnitudes = np.abs(weights.astype(np.int64)).reshape(*weights.shape[:2], 2, HALF)
    loads: NDArray[np.int64] = magnitudes.sum(2).reshape(len(weights), weights.shape[1] * HALF)
    return loads


class Instructions(Protocol):
    """How an instruction set calls them."""

    def multiply(self, first: Expr, second: Expr) -> Expr:
        """Products of two int8x8, int16x8."""

    def widen(self, total: Expr, sums: Expr) -> Expr:
        """An int32x4 plus the neighbours of an int16x8."""

    def across(self, vectors: Sequence[Expr]) -> list[Expr]:
        """Sums of neighbours, in order: of two int32x4 each, one."""


def widened_sums(n: int, channels: int, tile: Tile, operands: Operands, instructions: Instructions) -> Accumulators:
    """Write the sums of a tile, biases included, a few channels after the others.

    Args:
        n: lanes of a block.
        channels: of a part, 4 or 8; they divide a block.
        tile: its shape.
        operands: what is summed, with the plan of :func:`plan_table`.
        instructions: how.
    """
    pixels = [row * operands.down + pixel * operands.right for row in range(tile.rows) for pixel in range(tile.pixels)]
    parts = tile.blocks * n // channels
    held = scratch(len(pixels) * tile.blocks * n, "int32")
    table = operands.parameters
    with loop(parts) as part:
        wide = scratch(len(pixels) * channels * 4, "int32")
        short = scratch(len(pixels) * channels * HALF, "int16")
        data = scratch(len(pixels) * STEP, "int8")
        for sums in range(len(pixels) * channels):
            T.buffer_store(wide, T.broadcast(T.int32(0), 4), [lanes(sums * 4, 4)])
        places = table[operands.plan]

        def step(index: Expr, first: bool) -> None:
            start = operands.start + table[operands.plan + index]
            weight = operands.weight + (index - places) * (channels * STEP)
            for place, pixel in enumerate(pixels):
                read = operands.data[lanes(start + pixel, STEP)]
                signed = T.reinterpret(f"int8x{STEP}", T.bitwise_xor(read, T.broadcast(T.uint8(rules.SIGN), STEP)))
                T.buffer_store(data, signed, [lanes(place * STEP, STEP)])
            for channel in range(channels):
                weights = operands.weights[lanes(weight + channel * STEP, STEP)]
                for place in range(len(pixels)):
                    at = lanes((place * channels + channel) * HALF, HALF)
                    read, total = data[lanes(place * STEP, STEP)], None if first else short[at]
                    for half in (list(range(HALF)), list(range(HALF, STEP))):
                        product = instructions.multiply(T.Shuffle([read], half), T.Shuffle([weights], half))
                        total = product if total is None else total + product
                    T.buffer_store(short, total, [at])

        chain = operands.plan + 1 + operands.index * parts + part
        with T.serial(0, table[chain + 1] - table[chain]) as member:
            steps = operands.plan + table[chain] + member
            step(table[steps], first=True)
            with T.serial(0, table[steps + 1] - table[steps] - 1) as more:
                step(table[steps] + 1 + more, first=False)
            for sums in range(len(pixels) * channels):
                at = lanes(sums * 4, 4)
                T.buffer_store(wide, instructions.widen(wide[at], short[lanes(sums * HALF, HALF)]), [at])
        for place in range(len(pixels)):
            own = [wide[lanes((place * channels + channel) * 4, 4)] for channel in range(channels)]
            for quad, total in enumerate(instructions.across(instructions.across(own))):
                to = part * channels + quad * 4  # channel of the tile
                block, lane = to // n, to % n
                bias = table[lanes(operands.parameter + block * 2 * n + lane, 4)]
                T.buffer_store(held, bias + total, [lanes((block * len(pixels) + place) * n + lane, 4)])

    return lambda row, pixel, block: held[lanes((block * len(pixels) + row * tile.pixels + pixel) * n, n)]
