"""Pass over the folded graph: scales that additions tie together.

An addition needs scale = scale_a * 2^sa = scale_b * 2^sb in every channel, so all channels that meet in additions,
directly or through concatenation, pooling and further additions (a chain of residual blocks), form a class with
scales base * 2^e: one base for the class, an integer e for each channel. Both are chosen here, before the layers are
quantized one by one:

- an addition's e is that of least expected error: rounding and clipping of its operands and of the sum, see
  :mod:`ranges`; it is at least that of every operand that is an addition itself (shifts are not negative);
- a convolution that only the addition reads gets the addition's scale: a finer one would be rounded twice;
- any other convolution's e stays open, up to that of the additions that read it, and to what its ReLU's limit allows;
- the base is that of 16 to an octave with the least error over the class.

All e of a class lie within a window of as many octaves as R3's largest shift, so no shift reaches beyond that. Every
class has a solution: what an image adds has been copied by a convolution of its own (:mod:`fold`).

Assumes: ranges of all convolutions but the head, and of all additions. Guarantees: scales for which R5's relation holds
exactly, with shifts in 0..``MAX_SHIFT``. Rules: R3, R5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from squeezeedge.graph import rules
from squeezeedge.graph.integer import IMAGE
from squeezeedge.quantization.folded import FoldedAdd, FoldedGraph
from squeezeedge.quantization.ranges import Range
from squeezeedge.quantization.scale_search import largest_scale, output_limit

__all__ = ["Ties", "tie_scales"]

BASES = 16
HEADROOM = 3
"""Octaves of the window above the class's largest value, if it has more; the others are below."""


@dataclass(frozen=True, eq=False)
class Ties:
    """Scales of the tied channels.

    Attributes:
        candidates: convolution -> float64 [candidates, out]: scales it may have; NaN where nothing ties a channel.
        sums: addition -> float64 [channels]: its scale.
    """

    candidates: dict[str, Tensor]
    sums: dict[str, Tensor]


def tie_scales(graph: FoldedGraph, ranges: dict[str, Range]) -> Ties:
    """Solve for all additions of a graph.

    Args:
        graph: the folded graph.
        ranges: of every convolution but the head, and of every addition.
    """
    channels = _Channels(graph, ranges)
    window = channels.windows()
    exponents = torch.zeros(BASES, channels.count, dtype=torch.int64)  # place in the window, of additions
    ceiling = channels.highest(window)  # of convolutions: lowest addition that reads it
    penalty = torch.zeros(BASES, channels.count, dtype=torch.float64)  # summed over each class, at its root
    for node in channels.additions:
        out, operands = channels.of[node.name], [channels.of[name] for name in node.inputs]
        error = channels.sum_error(node, window)
        for operand in operands:
            lowest = torch.where(channels.is_sum[operand], exponents[:, operand], 0)
            error[torch.arange(channels.octaves) < lowest[:, :, None]] = torch.inf
        least, chosen = error.min(2)
        exponents[:, out] = chosen
        for operand in operands:
            ceiling.scatter_reduce_(1, operand.expand(BASES, -1), chosen, "amin")
        penalty.index_add_(1, channels.root[out], _relative(least))
    for name in channels.convs:
        own = channels.of[name]
        shared = (channels.tied[own] & ~channels.exclusive[own]).nonzero()[:, 0]
        error = channels.own_error(name, shared, window)
        error[torch.arange(channels.octaves) > ceiling[:, own[shared], None]] = torch.inf
        penalty.index_add_(1, channels.root[own[shared]], _relative(error.amin(2)))
    base = penalty.argmin(0)[channels.root]
    return _solution(channels, window, base, exponents, ceiling)


def _solution(channels: _Channels, window: Tensor, base: Tensor, exponents: Tensor, ceiling: Tensor) -> Ties:
    every, octaves = torch.arange(channels.count), torch.arange(channels.octaves)[:, None]
    exponents, ceiling = exponents[base, every], ceiling[base, every]
    scales = _scale(base / BASES, window, octaves)  # [octaves, channels]
    numbers = {node.name: channels.of[node.name] for node in channels.additions}
    sums = {name: scales[exponents[those], those] for name, those in numbers.items()}
    candidates = {}
    for name in channels.convs:
        own = channels.of[name]
        if channels.tied[own].any():
            below = torch.where(channels.exclusive[own], 0, octaves)
            place = (ceiling[own] - below).clamp_min(0)
            candidates[name] = torch.where(channels.tied[own], scales[place, own], torch.nan)
    return Ties(candidates, sums)


def _relative(error: Tensor) -> Tensor:
    """Error [bases, channels] as a multiple of the least over the bases."""
    tiny = torch.finfo(torch.float64).tiny
    return (error + tiny) / (error.amin(0) + tiny)


def _scale(fraction: Tensor, window: Tensor, octave: Tensor) -> Tensor:
    """2^(fraction + window + octave), the power of two exact, the rest rounded to float32: float64."""
    mantissa = torch.exp2(fraction.double()).float().double()
    return mantissa * torch.exp2((window + octave).double())


class _Channels:
    """All channels that convolutions and additions make, numbered; and who reads them."""

    def __init__(self, graph: FoldedGraph, ranges: dict[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.octaves = max(1, rules.MAX_SHIFT)
        self.additions = graph.additions
        self.convs = [node.name for node in graph.convolutions[:-1]]
        self.of = {IMAGE: torch.arange(3)}  # never tied
        self.count = 3
        for node in graph.nodes[:-1]:
            if node.name in graph.scaled:
                channels = graph.shapes[node.name].channels
                self.of[node.name] = torch.arange(self.count, self.count + channels)
                self.count += channels
            else:
                self.of[node.name] = torch.cat([self.of[name] for name in node.inputs])
        summed, direct = torch.zeros(self.count, dtype=torch.int64), torch.zeros(self.count, dtype=torch.int64)
        self.is_sum = torch.zeros(self.count, dtype=torch.bool)
        self.root = torch.arange(self.count)
        for addition in graph.additions:
            self.is_sum[self.of[addition.name]] = True
            for name in addition.inputs:
                summed += self.of[name].bincount(minlength=self.count)
        for conv in graph.convolutions:
            direct += self.of[conv.inputs[0]].bincount(minlength=self.count)
        self._join()
        self.tied = self.is_sum | (summed > 0)
        read_once = (summed == 1) & (direct == 0)
        self.bound = torch.full((self.count,), torch.inf, dtype=torch.float64)  # of scales
        for conv in graph.convolutions[:-1]:
            self.bound[self.of[conv.name]] = largest_scale(conv.limit)
        self.exclusive = ~self.is_sum & read_once & self.bound.isinf()
        self.ranges = self._cut_short(read_once)

    def _join(self) -> None:
        """Give all channels of a class the least number among them."""
        links = torch.cat(
            [torch.stack([self.of[node.name], self.of[name]]) for node in self.additions for name in node.inputs], 1
        )
        while True:
            least = self.root[links].amin(0)
            joined = self.root.clone()
            for side in links:
                joined.scatter_reduce_(0, side, least, "amin")
            joined = joined[joined]
            if torch.equal(joined, self.root):
                return
            self.root = joined

    def _cut_short(self, read_once: Tensor) -> dict[str, Range]:
        """The ranges without what the ReLU of a sum always cuts.

        If a sum is 0 on every image, an operand that only the sum reads is cut at twice the level of the others. Its
        magnitude beyond that says nothing about a scale.
        """
        level, bound = torch.zeros(self.count, dtype=torch.float64), torch.full((self.count,), torch.inf).double()
        below = bound.clone()  # where a sum that is cut may end; infinite: it is not cut
        for name in self.graph.scaled:
            level[self.of[name]] = self.ranges[name].level
        for node in reversed(self.additions):
            out, operands = self.of[node.name], [self.of[name] for name in node.inputs]
            if node.relu:
                below[out] = torch.where(self.ranges[node.name].peaks[0] > 0, torch.inf, below.new_zeros(()))
            together = torch.stack([level[operand] for operand in operands]).sum(0)
            for operand in operands:
                once = operand[read_once[operand]]
                bound[once] = (below[out] + 2 * (together - level[operand]))[read_once[operand]]
                below[once] = bound[once]
        ranges = dict(self.ranges)
        for name, known in self.ranges.items():
            most = bound[self.of[name]] if name in self.of else known.level
            most = torch.where(most > 0, most, torch.inf)
            if (known.level > most).any():
                ranges[name] = replace(known, peaks=known.peaks.minimum(most), level=known.level.minimum(most))
        return ranges

    def level(self, name: str) -> Tensor:
        """Scale for which the largest value seen just fits: float64 [channels]."""
        return self.ranges[name].level / output_limit(self.graph.zero_points[name])

    def windows(self) -> Tensor:
        """Exponent of the lowest octave of each channel's class: int64 [channels]."""
        highest = torch.full((self.count,), -torch.inf, dtype=torch.float64)
        for name in self.graph.scaled:
            highest.scatter_reduce_(0, self.root[self.of[name]], self.level(name), "amax")
        highest = torch.where(highest > 0, highest, 1.0)
        above = min(HEADROOM, self.octaves - 1)
        lowest = torch.log2(highest).floor() + above - (self.octaves - 1)
        lowest.scatter_reduce_(0, self.root, torch.log2(self.bound).floor() - 1, "amin")
        return lowest.long()[self.root]

    def highest(self, window: Tensor) -> Tensor:
        """Place in the window of the largest scale that a channel may have: int64 [bases, channels]."""
        bases = torch.arange(BASES)[:, None, None] / BASES
        scales = _scale(bases, window[:, None], torch.arange(self.octaves))
        return (scales <= self.bound[:, None]).sum(2) - 1

    def _scales(self, name: str, window: Tensor) -> Tensor:
        """Every scale in the window: float64 [bases, channels, octaves]."""
        bases = torch.arange(BASES)[:, None, None] / BASES
        return _scale(bases, window[self.of[name]][:, None], torch.arange(self.octaves))

    def _clipping(self, name: str, scales: Tensor, channels: Tensor) -> Tensor:
        """Clipping error of some of a node's channels; scales float64 [bases, those channels, octaves]."""
        limits = scales.transpose(1, 2) * output_limit(self.graph.zero_points[name])
        return self.ranges[name].select(channels).clipping_error(limits).transpose(1, 2)

    def own_error(self, name: str, channels: Tensor, window: Tensor) -> Tensor:
        """Error of some channels of a convolution for every scale: float64 [bases, those channels, octaves]."""
        scales = self._scales(name, window)[:, channels]
        rounding = self.ranges[name].active[channels, None] * scales.square() / 12
        return rounding + self._clipping(name, scales, channels)

    def sum_error(self, node: FoldedAdd, window: Tensor) -> Tensor:
        """Error of a sum for every scale: both operands' rounding, and what clips them and the sum."""
        scales = self._scales(node.name, window)
        error = self.ranges[node.name].active[:, None] * scales.square() / 6
        error += self._clipping(node.name, scales, torch.arange(scales.shape[1]))
        for name in node.inputs:
            error += self._operand_clipping(name, scales)
        level = self.level(node.name)[:, None]
        return error + 1e-9 * level.square() * torch.log2(scales / level).abs()  # decides for dead channels

    def _operand_clipping(self, name: str, scales: Tensor) -> Tensor:
        """Clipping error of an operand, which may consist of several nodes' channels."""
        error = torch.empty_like(scales)
        operand = self.of[name]
        for source in self.graph.scaled:
            own = self.of[source]
            inside = (operand >= own[0]) & (operand <= own[-1])
            if inside.any():
                error[:, inside] = self._clipping(source, scales[:, inside], operand[inside] - own[0])
        return error
