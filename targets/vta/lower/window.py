"""The input that a tile of a convolution needs, and rows of tensors as transfers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.geometry import Memory
from squeezeedge.targets.vta.isa.published import Load, Store
from squeezeedge.targets.vta.lower.layers import ConvLayer, Part
from squeezeedge.targets.vta.lower.tensors import Value

__all__ = ["Run", "Window", "runs"]

MOST_STRIDE = (1 << 16) - 1
MOST_PAD = 15


@dataclass(frozen=True)
class Run:
    """Rows that one transfer covers; on the chip they lie one after the other.

    Attributes:
        offset: first element on the chip, from the tile's start.
        dram: first element in DRAM.
        rows: rows.
        size: elements of a row.
        stride: from one row to the next in DRAM.
    """

    offset: int
    dram: int
    rows: int
    size: int
    stride: int

    def load(self) -> Load:
        """The transfer into the input memory."""
        return Load(
            memory=Memory.INP,
            sram_base=self.offset,
            dram_base=self.dram,
            y_size=self.rows,
            x_size=self.size,
            x_stride=self.stride,
        )

    def store(self, sram_base: int) -> Store:
        """The transfer out of the output memory, from an element on."""
        return Store(
            memory=Memory.OUT,
            sram_base=sram_base,
            dram_base=self.dram,
            y_size=self.rows,
            x_size=self.size,
            x_stride=self.stride,
        )


def runs(origins: Sequence[int], pitch: int, rows: int, columns: int, first: int = 0) -> list[Run]:
    """A tile of ``rows`` x ``columns`` of some planes, plane by plane on the chip, in as few transfers as possible.

    Args:
        origins: DRAM element of the tile's first pixel in each plane.
        pitch: from one row to the next in DRAM.
        rows: rows of the tile.
        columns: columns of the tile.
        first: element on the chip.
    """
    if rows == 1 or columns == pitch:  # a plane is one run: the planes are the rows of a transfer
        found = []
        size, start = rows * columns, 0
        while start < len(origins):
            end, stride = start + 1, size
            if end < len(origins) and 0 < origins[end] - origins[start] <= MOST_STRIDE:
                stride = origins[end] - origins[start]
                while end < len(origins) and origins[end] - origins[end - 1] == stride:
                    end += 1
            found.append(Run(first + start * size, origins[start], end - start, size, stride))
            start = end
        return found
    return [Run(first + i * rows * columns, origin, rows, columns, pitch) for i, origin in enumerate(origins)]


@dataclass(frozen=True)
class Window:
    """The input that a tile of outputs of some convolutions side by side needs.

    Attributes:
        source: the input tensor.
        stride: of the convolutions.
        top: rows of padding above, the most of all convolutions.
        left: columns of padding before.
        height: rows that one output needs, over all convolutions.
        width: columns that one output needs.
        block: channels of an element.
    """

    source: Value
    stride: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    block: int

    @classmethod
    def of(cls, layer: ConvLayer, parts: Sequence[Part]) -> Window:
        """The window of a layer's convolutions."""
        top, left = (max(part.padding[axis] for part in parts) for axis in (0, 1))
        height = max(top - part.padding[0] + part.kernel[0] for part in parts)
        width = max(left - part.padding[1] + part.kernel[1] for part in parts)
        return cls(layer.source, layer.stride, top, left, height, width, parts[0].weight.shape[-1])

    def only(self, first: int, end: int) -> Window:
        """The same of blocks first..end of the source."""
        return replace(self, source=replace(self.source, origins=self.source.origins[first:end]))

    def rows(self, count: int) -> int:
        """Input rows of ``count`` output rows."""
        return (count - 1) * self.stride[0] + self.height

    def columns(self, count: int) -> int:
        """Input columns of ``count`` output columns."""
        return (count - 1) * self.stride[1] + self.width

    def elements(self, rows: int, columns: int) -> int:
        """Elements on the chip of a tile of outputs."""
        return len(self.source.origins) * self.rows(rows) * self.columns(columns)

    def offsets(self, part: Part, rows: int, columns: int) -> NDArray[np.int64]:
        """Where the taps of one output lie in a tile of that many output rows and columns, in the weights' order.

        The first block that it reads begins at 0.
        """
        plane, pitch = self.rows(rows) * self.columns(columns), self.columns(columns)
        ky, kx = np.arange(part.kernel[0])[:, None, None], np.arange(part.kernel[1])[None, :, None]
        at = (ky + self.top - part.padding[0]) * pitch + kx + self.left - part.padding[1]
        return (at + np.arange(part.depth) * plane).reshape(-1)

    def loads(self, row: int, rows: int, column: int, columns: int) -> list[Load]:
        """The transfers that bring the input of outputs from (row, column) on.

        Raises:
            UnsupportedError: padding that is too wide for the instruction.
        """
        source, (y, x) = self.source, (row * self.stride[0] - self.top, column * self.stride[1] - self.left)
        height, width = self.rows(rows), self.columns(columns)
        halo_top, halo_left, halo_bottom, halo_right = source.halo
        before = (max(-halo_top - y, 0), max(-halo_left - x, 0))
        after = (max(y + height - source.height - halo_bottom, 0), max(x + width - source.width - halo_right, 0))
        before = (min(before[0], height), min(before[1], width))
        after = (min(after[0], height - before[0]), min(after[1], width - before[1]))
        valid = (height - before[0] - after[0], width - before[1] - after[1])
        if max(*before, *after) > MOST_PAD:
            raise UnsupportedError(f"padding of more than {MOST_PAD} pixels on one side is not supported")
        shift = (y + before[0]) * source.pitch + x + before[1] if min(valid) else 0
        origins = [origin + shift for origin in source.origins]
        if not any((*before, *after)):
            return [run.load() for run in runs(origins, source.pitch, height, width)]
        return [
            Load(
                memory=Memory.INP,
                sram_base=index * height * width,
                dram_base=origin,
                y_size=valid[0],
                x_size=valid[1],
                x_stride=source.pitch,
                y_pad_0=before[0],
                y_pad_1=after[0],
                x_pad_0=before[1],
                x_pad_1=after[1],
                pad_low=source.zero_point == 0,
            )
            for index, origin in enumerate(origins)
        ]
