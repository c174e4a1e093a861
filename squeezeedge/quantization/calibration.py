"""The calibration images on their way through both networks, layer by layer.

Some tensors are still to be read: for these, float values and quantized codes of all images are kept in memory.
Everything else is computed for a few images at a time.

If there are few images, mirrored copies of them are calibrated on as well. A network's kernels are not symmetric, so a
mirrored copy is a new image to it. The copies show much of the range that other images will reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from squeezeedge.errors import UsageError
from squeezeedge.graph import rules
from squeezeedge.graph.integer import IMAGE
from squeezeedge.quantization.effort import EFFORTS
from squeezeedge.quantization.folded import FoldedConv, FoldedGraph, FoldedNode, apply_folded, execute_folded, pad
from squeezeedge.quantization.ranges import Range, RangeObserver

__all__ = ["Calibration", "Samples", "observe"]

ROW_VALUES = 2**26
"""Most input values of a layer's sampled rows, all groups together; ``ROWS_PER_WEIGHT`` may require more."""

ROWS_PER_WEIGHT = 32
"""Rows per weight of an output channel in spite of ``ROW_VALUES``; only wide layers get fewer than asked for."""

PART_VALUES = 2**24
"""Values of one tensor that are worked on at a time."""

MEMORY = 4 * 2**30
"""Most bytes of values that are kept."""

MOST_MIRRORED = 128
"""Most images, copies included, for which mirrored copies are made; beyond that they are not worth their time."""

SEED = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """What a convolution is fitted on.

    Attributes:
        rows: float32 [groups, rows, fan-in]: its inputs in the quantized network as integers q - z; fan-in is
            [in / groups, kh, kw].
        targets: float32 [groups, rows, out / groups]: the float network's outputs at the same positions, before the
            ReLU.
        range: of the float network's outputs at all positions, after the ReLU.
    """

    rows: Tensor
    targets: Tensor
    range: Range


class Calibration:
    """Values of both networks.

    Args:
        graph: the folded graph.
        pixels: uint8 [N, height, width, 3].
        rows: most output positions that a layer is fitted on.
        mirror: add mirrored copies, unless the total would exceed ``MOST_MIRRORED`` or what fits into memory.

    Raises:
        UsageError: no images, or more than fit into memory.
    """

    def __init__(
        self,
        graph: FoldedGraph,
        pixels: NDArray[np.uint8],
        rows: int = EFFORTS["fast"].rows,
        mirror: bool = EFFORTS["fast"].mirror,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (*graph.input_size, 3):
            raise ValueError(f"calibration images must be uint8 [N, {graph.input_size[0]}, {graph.input_size[1]}, 3]")
        if len(pixels) == 0:
            raise UsageError("no images to calibrate on")
        most = MEMORY // _kept_bytes(graph)
        if len(pixels) > most:
            raise UsageError(
                f"{len(pixels)} images of {graph.input_size[0]}x{graph.input_size[1]} pixels are more than fit into "
                f"memory while calibrating; use at most {most} (64 are usually enough)"
            )
        if mirror and 2 * len(pixels) <= min(most, MOST_MIRRORED):
            pixels = np.concatenate([pixels, pixels[:, :, ::-1]])
        self.graph, self.rows = graph, rows
        self.count = len(pixels)
        self.codes = {IMAGE: torch.from_numpy(pixels).permute(0, 3, 1, 2)}
        self.values: dict[str, Tensor] = {}
        self._random = np.random.default_rng(SEED)

    def parts(self, node: FoldedNode) -> Iterator[slice]:
        """Ranges of images that are worked on at a time."""
        shapes = self.graph.shapes
        largest = max(math.prod(shapes[name]) for name in (node.name, *node.inputs))
        step = max(1, PART_VALUES // largest)
        for start in range(0, self.count, step):
            yield slice(start, min(start + step, self.count))

    def inputs(self, node: FoldedNode, part: slice) -> list[Tensor]:
        """The node's inputs in the float network."""
        return [self.codes[IMAGE][part].float() if name == IMAGE else self.values[name][part] for name in node.inputs]

    def run_float(self, node: FoldedNode) -> None:
        """Run a node of the float network."""
        result = self._empty(node.name, torch.float32)
        for part in self.parts(node):
            result[part] = self._rectified(node, apply_folded(node, self.inputs(node, part)))
        self.values[node.name] = result

    def sample(self, node: FoldedConv) -> Samples:
        """Run a convolution of the float network, and sample both networks at random output positions."""
        height, width, _ = self.graph.shapes[node.name]
        total, wanted = self.count * height * width, self._wanted_rows(node)
        picked = np.arange(total)
        if total > wanted:
            picked = np.sort(self._random.choice(total, wanted, replace=False, shuffle=False))
        image, y, x = (torch.from_numpy(index) for index in np.unravel_index(picked, (self.count, height, width)))
        observer = RangeObserver(node.name, self.graph.rectified.get(node.name))
        rows, targets = [], []
        result = self._empty(node.name, torch.float32)
        for part in self.parts(node):
            output = apply_folded(node, self.inputs(node, part))
            observer.add(output)
            inside = (image >= part.start) & (image < part.stop)
            place = image[inside] - part.start, y[inside], x[inside]
            targets.append(_by_group(output[place[0], :, place[1], place[2]], node.groups))
            windows = self.padded_codes(node, part, torch.int16)
            for axis in (0, 1):
                windows = windows.unfold(axis + 2, node.weight.shape[axis + 2], node.stride[axis])
            rows.append(_by_group(windows[place[0], :, place[1], place[2]].flatten(1).float(), node.groups))
            result[part] = self._rectified(node, output)
        self.values[node.name] = result
        return Samples(torch.cat(rows, 1), torch.cat(targets, 1), observer.range())

    def padded_codes(self, node: FoldedConv, part: slice, dtype: torch.dtype) -> Tensor:
        """A convolution's padded input in the quantized network, as integers q - z."""
        (name,) = node.inputs
        codes = self.codes[name][part].to(dtype)
        zero_point = self.graph.zero_points[name]
        return pad(codes - zero_point if zero_point else codes, node.padding, pad_codes(node))

    def store(self, node: FoldedNode, codes: Iterator[tuple[slice, Tensor]]) -> None:
        """Keep what a node makes in the quantized network, and drop what nothing reads any more."""
        result = self._empty(node.name, torch.uint8)
        for part, value in codes:
            result[part] = value
        self.codes[node.name] = result
        for name in set(node.inputs):
            if self.graph.last_reader[name] == node.name:
                del self.codes[name]
                self.values.pop(name, None)

    def _wanted_rows(self, node: FoldedConv) -> int:
        """Most positions to fit a convolution on."""
        fan_in = math.prod(node.weight.shape[1:])
        return min(self.rows, max(ROW_VALUES // (node.groups * fan_in), ROWS_PER_WEIGHT * fan_in))

    def _empty(self, name: str, dtype: torch.dtype) -> Tensor:
        height, width, channels = self.graph.shapes[name]
        shape = self.count, channels, height, width
        return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)

    def _rectified(self, node: FoldedNode, value: Tensor) -> Tensor:
        limit = self.graph.rectified.get(node.name)
        return value if limit is None else value.clamp_(0, limit)


def pad_codes(node: FoldedConv) -> NDArray[np.uint8]:
    """A padded pixel as q - z, uint8 [in]: 0; on the image the rounded mean pixel (R2)."""
    return np.rint(node.pad_value).clip(0, rules.Q_MAX).astype(np.uint8)


def observe(graph: FoldedGraph, calibration: Calibration) -> dict[str, Range]:
    """Ranges of all convolutions but the head, and of all additions, in the float network."""
    observers = {name: RangeObserver(name, graph.rectified.get(name)) for name in graph.scaled}
    widest = max(graph.nodes, key=lambda node: math.prod(graph.shapes[node.name]))
    for part in calibration.parts(widest):
        for node, value in execute_folded(graph, calibration.codes[IMAGE][part].float()):
            if node.name in observers:
                observers[node.name].add(value)
    return {name: observer.range() for name, observer in observers.items()}


def _by_group(values: Tensor, groups: int) -> Tensor:
    """[rows, groups * n] -> [groups, rows, n]."""
    return values.reshape(len(values), groups, -1).transpose(0, 1)


def _kept_bytes(graph: FoldedGraph) -> int:
    """Most bytes that one image's values take at a time: 4 for the float value, 1 for the code."""
    sizes = {name: 5 * math.prod(shape) for name, shape in graph.shapes.items()}
    kept = most = sizes[IMAGE]
    for node in graph.nodes:
        kept += sizes[node.name]
        most = max(most, kept)
        kept -= sum(sizes[name] for name in set(node.inputs) if graph.last_reader[name] == node.name)
    return most
