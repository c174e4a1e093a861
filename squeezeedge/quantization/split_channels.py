"""Pass over the folded graph: more resolution for the channels whose rounding costs most.

Several output channels of the same weights, each with a shift and bias of its own, compute one channel: a chain of
pieces. The first piece covers the smallest values; each next one starts where the one before it ends at 255:

    piece j = clip((acc - sum of 255 << k[i] of the pieces i < j + rounding) >> k[j], 0, 255),   k[j] = k - octaves[j]

The scale of piece j is scale * 2^-octaves[j]. The pieces' values add up to the channel's value, in finer steps where a
finer piece covers it. The layers that read the channel read all of its pieces with the same float weights; to them and
to every target these are ordinary channels (R3). Max pooling keeps the sum, as every piece grows with the accumulator.
Zhao et al. (arXiv:1901.09504) split channels for another purpose: outliers.

Pieces are added one after the other until the budget is spent, always where they save most error of the logits
(:mod:`sensitivity`) per multiply-accumulate.

Assumes: a folded graph. Guarantees: the same function; at most the budget is added. Channels that an addition, a
grouped convolution or a ReLU with a limit makes or reads are left alone. Rules: R3, R4, R5.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import rules
from squeezeedge.graph.integer import IMAGE, Conv
from squeezeedge.quantization.exact import one_thread
from squeezeedge.quantization.folded import FoldedGraph, FoldedNode, execute_folded
from squeezeedge.quantization.rewrite import readers
from squeezeedge.quantization.scale_search import Grid
from squeezeedge.quantization.sensitivity import Probe, probes

__all__ = ["Chain", "SplitGraph", "chained", "chains_of", "macs", "plan", "split"]

CHAINS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((0,),),
    tuple((first, second) for first in (1, 2, 3, 4) for second in (0, 1, 2) if second <= first),
    ((2, 2, 1), (3, 2, 0), (3, 2, 1), (4, 2, 0), (4, 2, 1), (4, 3, 1), (5, 3, 1)),
)
"""Octaves of the pieces that are tried, by the number of pieces less one; where they end too low, clipping costs."""

IMAGES = 16
"""Images that channels are chosen on."""

PROBES = 2
BATCH = 4

Splits = Mapping[str, Mapping[int, tuple[int, ...]]]
"""Convolution -> channel -> octaves of its pieces."""


@dataclass(frozen=True)
class Chain:
    """Output channels of a convolution that together are one.

    Attributes:
        channels: in the order of the chain.
        octaves: of each piece: its scale is the unsplit channel's scale times 2^-octaves.
    """

    channels: tuple[int, ...]
    octaves: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SplitGraph:
    """What the pass returns.

    Attributes:
        graph: in it, every copy of a channel has the channel's values, and its readers take the mean of the copies.
        chains: convolution -> its chains, of those that have some.
        pieces: convolution -> float64 [out]: number of pieces of the channel that each output belongs to.
    """

    graph: FoldedGraph
    chains: Mapping[str, tuple[Chain, ...]]
    pieces: Mapping[str, Tensor]


def macs(graph: FoldedGraph) -> int:
    """Multiply-accumulates of one image."""
    return sum(math.prod(graph.shapes[conv.name][:2]) * conv.weight.size for conv in graph.convolutions)


def plan(graph: FoldedGraph, pixels: NDArray[np.uint8], extra_macs: float) -> Splits:
    """Choose channels.

    Args:
        graph: the folded graph.
        pixels: calibration images, uint8 [N, height, width, 3]; some are used.
        extra_macs: budget, as a share of the network's multiply-accumulates.
    """
    readers_of = {name: found for name in graph.scaled if (found := _read_by(graph, name)) is not None}
    if extra_macs <= 0 or not readers_of:
        return {}
    with one_thread():
        errors = _errors(graph, pixels, list(readers_of))
    budget = extra_macs * macs(graph)
    windows = {
        conv.name: math.prod((*graph.shapes[conv.name][:2], *conv.weight.shape[2:])) for conv in graph.convolutions
    }
    inputs = {conv.name: conv.weight.shape[1] for conv in graph.convolutions}
    outputs = {conv.name: len(conv.weight) for conv in graph.convolutions}
    more = {name: np.zeros(outputs[name], np.int64) for name in readers_of}
    while True:
        best, chosen = 0.0, None
        for name, readers_of_it in readers_of.items():
            added = windows[name] * inputs[name]
            added += sum(windows[reader] * outputs[reader] * times for reader, times in readers_of_it.items())
            saved = -np.diff(errors[name].least, axis=0, append=errors[name].least[-1:])
            now = saved[more[name], np.arange(len(more[name]))]
            channel = int(now.argmax())
            if added <= budget and float(now[channel]) / added > best:
                best, chosen = float(now[channel]) / added, (name, channel, added)
        if chosen is None:
            break
        name, channel, added = chosen
        budget -= added
        more[name][channel] += 1
        outputs[name] += 1
        for reader, times in readers_of[name].items():
            inputs[reader] += times
    return {
        name: {
            channel: CHAINS[pieces][errors[name].chain[pieces, channel]]
            for channel, pieces in enumerate(counts.tolist())
            if pieces
        }
        for name, counts in more.items()
        if counts.any()
    }


def split(graph: FoldedGraph, splits: Splits) -> SplitGraph:
    """Apply a plan: copies come behind a convolution's own channels."""
    nodes: list[FoldedNode] = []
    chains: dict[str, tuple[Chain, ...]] = {}
    pieces: dict[str, Tensor] = {}
    origin = {IMAGE: np.arange(3)}  # of every channel of a tensor: the one before the split
    copies = {IMAGE: np.ones(3)}
    convolutions = {conv.name: conv for conv in graph.convolutions}
    for node in graph.nodes:
        if conv := convolutions.get(node.name):
            of_node, channels = [], list(range(len(conv.weight)))
            for channel, octaves in splits.get(node.name, {}).items():
                added = range(len(channels), len(channels) + len(octaves) - 1)
                of_node.append(Chain((channel, *added), octaves))
                channels += [channel] * len(added)
            origin[node.name] = np.array(channels)
            copies[node.name] = np.bincount(channels)[channels].astype(np.float64)
            if of_node:
                chains[node.name], pieces[node.name] = tuple(of_node), torch.from_numpy(copies[node.name])
            (source,) = conv.inputs
            if of_node or (copies[source] > 1).any():
                read = origin[source] if conv.groups == 1 else slice(None)
                share = copies[source][None, :, None, None] if conv.groups == 1 else 1
                weight = np.ascontiguousarray((conv.weight[:, read] / share)[channels], np.float32)
                node = replace(conv, weight=weight, bias=conv.bias[channels], pad_value=conv.pad_value[read])
        else:
            before = [graph.shapes[name].channels for name in node.inputs]
            starts = np.cumsum([0, *before[:-1]])
            alike = sum(before) == graph.shapes[node.name].channels  # else an addition, whose operands are never split
            joined = node.inputs if alike else node.inputs[:1]
            origin[node.name] = np.concatenate([origin[name] + at for name, at in zip(joined, starts, strict=False)])
            copies[node.name] = np.concatenate([copies[name] for name in joined])
        nodes.append(node)
    return SplitGraph(FoldedGraph(tuple(nodes), graph.input_size), chains, pieces)


def chained(chains: Sequence[Chain], weight: Tensor, bias: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Grid]:
    """Make the copies of each channel the pieces of its chain.

    Args:
        chains: of a convolution.
        weight: [out, fan-in], integers; the rows of the copies are replaced.
        bias: [out], integers.
        grid: of the channels before they were split; the copies' are replaced.

    Returns:
        Weight, bias and grid of all.
    """
    weight, bias, scale, shift = weight.clone(), bias.clone(), grid.scale.clone(), grid.shift.clone()
    for chain in chains:
        first, start = chain.channels[0], 0
        for channel, octaves in zip(chain.channels, chain.octaves, strict=True):
            finer = min(octaves, int(grid.shift[first]))
            shift[channel] = grid.shift[first] - finer
            scale[channel] = grid.scale[first] * 2.0**-finer
            weight[channel] = weight[first]
            bias[channel] = bias[first] - start
            start += rules.Q_MAX << int(shift[channel])
    return weight, bias, Grid(scale, shift)


def chains_of(conv: Conv, channels: int) -> list[tuple[int, ...]]:
    """The chains of an integer graph's convolution that had so many channels before: output channels, each in order.

    Raises:
        UnsupportedError: the others are no pieces of these.
    """
    weight, bias, shift = conv.weight, conv.bias.astype(np.int64), conv.shift.astype(np.int64)
    ends = {channel: [channel] for channel in range(channels)}  # chains by their last channel
    for piece in range(channels, len(bias)):
        starts = [
            end for end in (piece - 1, *ends) if end in ends and bias[end] - (rules.Q_MAX << shift[end]) == bias[piece]
        ]
        before = next((end for end in starts if (weight[end] == weight[piece]).all()), None)
        if before is None:
            raise UnsupportedError(f"{conv.name}: channel {piece} is no piece of another one")
        ends[piece] = [*ends.pop(before), piece]
    return [tuple(chain) for chain in ends.values() if len(chain) > 1]


@dataclass(frozen=True, eq=False)
class _Errors:
    """Of the channels of one convolution.

    Attributes:
        least: float64 [most pieces, channels]: squared error of the logits with one, two ... pieces.
        chain: int64, of the same shape: which of :data:`CHAINS` makes it.
    """

    least: NDArray[np.float64]
    chain: NDArray[np.int64]


def _errors(graph: FoldedGraph, pixels: NDArray[np.uint8], names: Sequence[str]) -> dict[str, _Errors]:
    """What rounding each channel costs, by the number of pieces."""
    chosen = pixels[np.linspace(0, len(pixels) - 1, min(IMAGES, len(pixels))).round().astype(np.int64)]
    images = torch.from_numpy(chosen).permute(0, 3, 1, 2).float()
    peaks: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in torch.split(images, BATCH):
        for node, value in execute_folded(graph, part):
            if node.name in peaks:
                peaks[node.name].append(value.amax((0, 2, 3)))
    least = torch.finfo(torch.float32).tiny
    scales = {name: (torch.stack(peak).amax(0) / rules.Q_MAX).clamp_min(least) for name, peak in peaks.items()}
    totals = {name: [torch.zeros(len(chains), len(scales[name])).double() for chains in CHAINS] for name in names}
    for batch in probes(graph, images, names, count=PROBES, batch=BATCH):
        for name, probe in batch.items():
            for total, chains in zip(totals[name], CHAINS, strict=True):
                total += torch.stack([_squared(probe, scales[name][:, None, None], octaves) for octaves in chains])
    errors = {}
    for name, of_name in totals.items():
        best = [total.float().double().min(0) for total in of_name]  # what differs in the last bits is equal
        errors[name] = _Errors(
            np.stack([of.values.numpy() for of in best]), np.stack([of.indices.numpy() for of in best])
        )
    return errors


def _squared(probe: Probe, scale: Tensor, octaves: Sequence[int]) -> Tensor:
    """The logits' squared error that a chain of pieces causes: float64 [channels].

    Args:
        probe: of the tensor.
        scale: float32 [channels, 1, 1], before the split.
        octaves: of the pieces.
    """
    rest, made = probe.value, torch.zeros_like(probe.value)
    for octave in octaves:
        step = scale * 2.0**-octave
        made += (rest / step).round().clamp_(0, rules.Q_MAX) * step
        rest = rest - rules.Q_MAX * step
    made -= probe.value
    return (probe.gradients * made).sum((3, 4), dtype=torch.float64).square().sum((0, 1))


def _read_by(graph: FoldedGraph, name: str) -> Counter[str] | None:
    """The convolutions that read a tensor, perhaps pooled or joined, and how often; ``None``: it cannot be split."""
    convolutions = {conv.name: conv for conv in graph.convolutions}
    sums = {addition.name for addition in graph.additions}
    made = convolutions.get(name)
    if made is None or made.groups > 1 or not math.isinf(graph.rectified.get(name, 0)):
        return None
    nodes = readers(graph.nodes)
    found: Counter[str] = Counter()
    rest = list(nodes[name])
    while rest:
        node = rest.pop()
        reader = convolutions.get(node.name)
        if node.name in sums or (reader is not None and reader.groups > 1):
            return None
        if reader is not None:
            found[node.name] += 1
        else:
            rest += nodes[node.name]
    return found
