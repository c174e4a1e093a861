"""The accelerator's layers: convolutions side by side, with the pooling behind them, and additions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import MaxPool
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.vta.isa.program import Packing
from squeezeedge.targets.vta.lower.tensors import Fill, Value

__all__ = ["LAYERS", "AddLayer", "ConvLayer", "Layer", "Layers", "Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """A convolution of a layer.

    Attributes:
        kernel: (height, width).
        padding: top and left.
        weight: int8 [out blocks, kernel_h * kernel_w * depth, block of out, block of in].
        bias: int32 [out blocks, block]: for signed storage, the rounding term included (R3).
        shift: uint8 [out blocks, block].
        low: the output's zero point is 0.
        target: where the results go (after the pooling, if the layer has one); ``None`` in the head.
        first: for each output block, the first of the ``depth`` blocks of the source that it reads.
    """

    kernel: tuple[int, int]
    padding: tuple[int, int]
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    low: bool
    target: Value | None
    first: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Matrix products of one output element."""
        return int(self.weight.shape[1])

    @property
    def blocks(self) -> int:
        """Output channel blocks."""
        return len(self.weight)

    @property
    def depth(self) -> int:
        """Blocks of the source that an output block reads: all, or those that its groups touch."""
        return self.taps // (self.kernel[0] * self.kernel[1])

    def inputs(self, first: int, end: int) -> tuple[int, int]:
        """The range of source blocks (first, end) that output blocks first..end read."""
        own = self.first[first:end]
        return min(own), max(own) + self.depth

    def most_inputs(self, count: int) -> int:
        """The most source blocks that any ``count`` consecutive output blocks read."""
        spans = (self.inputs(first, first + count) for first in range(max(self.blocks - count, 0) + 1))
        return max(end - first for first, end in spans)

    def alike(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Split output blocks first..end into runs (first, end) that read the same source blocks."""
        for block in range(first + 1, end + 1):
            if block == end or self.first[block] != self.first[first]:
                yield first, block
                first = block


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """Convolutions side by side that read one tensor; all have the same output size and stride.

    Attributes:
        name: as in the graph.
        source: the tensor.
        parts: the convolutions.
        stride: (vertical, horizontal).
        height: output rows (before the pooling).
        width: output columns (before the pooling).
        out: of the results (behind the pooling); of the head, of its accumulators.
        pool: the pooling behind every part.
        head: whether the results are summed over the map (R6).
        relu: of the head.
        macs: multiply-accumulates of the network.
    """

    name: str
    source: Value
    parts: tuple[Part, ...]
    stride: tuple[int, int]
    height: int
    width: int
    out: Shape
    pool: MaxPool | None = None
    head: bool = False
    relu: bool = False
    macs: int = 0


@dataclass(frozen=True, eq=False)
class AddLayer:
    """A bypass addition (R5): operands with the same lanes.

    Attributes:
        name: as in the graph.
        operands: the two tensors.
        bias: int32 [blocks, 2, block]: 128 - z and the rounding term.
        shift: uint8 [blocks, 2, block].
        low: the output's zero point is 0.
        target: where the results go.
    """

    name: str
    operands: tuple[Value, Value]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    low: bool
    target: Value

    @property
    def macs(self) -> int:
        """None."""
        return 0


Layer = ConvLayer | AddLayer

LAYERS = (ConvLayer, AddLayer)


@dataclass(frozen=True)
class Layers:
    """A network for the accelerator.

    Attributes:
        layers: in execution order, the head last.
        packings: what the host makes of the image.
        fills: elements that a layer does not write.
        elements: size of the arena.
        classes: of the head.
        values: the graph's tensors that lie in DRAM, by name, in execution order, the image's among them if it is one.
        unseen: the name of every other tensor but image and head -> why it does not.
    """

    layers: tuple[Layer, ...]
    packings: tuple[Packing, ...]
    fills: tuple[Fill, ...]
    elements: int
    classes: int
    values: Mapping[str, Value] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
