"""What the accelerator computes in one go: convolutions side by side, with the pooling behind them, and additions."""

from __future__ import annotations

from dataclasses import dataclass

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
        weight: int8 [out blocks, kernel_h * kernel_w * in blocks, block of out, block of in].
        bias: int32 [out blocks, block]: for signed storage, the rounding term included (R3).
        shift: uint8 [out blocks, block].
        low: the output's zero point is 0.
        target: where the results go (after the pooling, if the layer has one); ``None`` in the head.
    """

    kernel: tuple[int, int]
    padding: tuple[int, int]
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    low: bool
    target: Value | None

    @property
    def taps(self) -> int:
        """Matrix products of one output element."""
        return int(self.weight.shape[1])

    @property
    def blocks(self) -> int:
        """Output channel blocks."""
        return len(self.weight)


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
    """

    layers: tuple[Layer, ...]
    packings: tuple[Packing, ...]
    fills: tuple[Fill, ...]
    elements: int
    classes: int
