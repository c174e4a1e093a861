"""What the walk over an ONNX graph knows of a tensor that depends on the image: where each of its numbers comes from.

Every channel that a layer makes has a number, counted through the whole network. What only moves numbers about
(Reshape, Transpose, Slice, Split, Gather, Concat, ...) changes these numbers and nothing else, so a channel shuffle or
a flattened map costs nothing until a layer reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ELEMENTS", "NO_PADDING", "Ids", "Pads", "Value", "recovered"]

Ids = NDArray[np.int64]
Pads = tuple[int, int, int, int]
NO_PADDING: Pads = (0, 0, 0, 0)

MAX_ELEMENTS = 1 << 22
"""Of a map whose numbers are followed one by one."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the ONNX graph, by where its numbers come from.

    Attributes:
        ids: channel numbers, int64. Of a map in the tensor's own shape, but with 1 in place of height and width; of
            loose numbers in the tensor's own shape.
        size: (height, width) of the map that the channels are on.
        spatial: the axes of height and width; ``None`` where each channel is one pixel, or the numbers are loose.
        pixels: of loose numbers: which pixel of its channel each is, int64 of the shape of ``ids``.
        padding: (top, left, bottom, right): pixels of ``fill`` around the map that no layer has added yet.
        fill: their value.
    """

    ids: Ids
    size: tuple[int, int]
    spatial: tuple[int, int] | None = None
    pixels: Ids | None = None
    padding: Pads = NO_PADDING
    fill: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the ONNX tensor."""
        shape = list(self.ids.shape)
        if self.spatial is not None:
            top, left, bottom, right = self.padding
            for axis, side in zip(
                self.spatial, (self.size[0] + top + bottom, self.size[1] + left + right), strict=True
            ):
                shape[axis] = side
        return tuple(shape)

    @property
    def is_map(self) -> bool:
        """Whether it is [1, channels, height, width]."""
        here = self.ids.ndim == 4 and self.ids.shape[0] == 1 and self.ids.shape[2:] == (1, 1)
        return here and self.pixels is None and self.spatial in (None, (2, 3))

    @property
    def channels(self) -> Ids:
        """The channel numbers in their order."""
        return self.ids.reshape(-1)

    def elements(self) -> Ids:
        """Number of each element, int64 in the tensor's shape: its channel's times the pixels of a map, plus its pixel.

        Raises:
            ValueError: the map is padded, or too large.
        """
        area = math.prod(self.size)
        if any(self.padding):
            raise ValueError("it is padded")
        if self.ids.size * (1 if self.pixels is not None else area) > MAX_ELEMENTS:
            raise ValueError(f"it has more than {MAX_ELEMENTS} elements")
        if self.pixels is not None:
            return self.ids * area + self.pixels
        if self.spatial is None:
            return self.ids * area
        rows, columns = (np.arange(side, dtype=np.int64) for side in self.size)
        places = [1] * self.ids.ndim
        places[self.spatial[0]] = self.size[0]
        elements = self.ids * area + rows.reshape(places) * self.size[1]
        places[self.spatial[0]], places[self.spatial[1]] = 1, self.size[1]
        return np.asarray(elements + columns.reshape(places))


def recovered(elements: Ids, size: tuple[int, int]) -> Value:
    """The value of such numbers, as a map if it is one in any order of axes.

    Args:
        elements: as :meth:`Value.elements` has them.
        size: (height, width) of the map that the channels are on.
    """
    area = math.prod(size)
    if area == 1:
        return Value(elements, size)
    ids, pixels = elements // area, elements % area
    expected = np.arange(area).reshape(size)
    usual = [axes for axes in ((2, 3), (1, 2)) if elements.ndim == 4]  # of a map one pixel high several may do
    for axes in (*usual, *permutations(range(elements.ndim), 2)):
        if tuple(elements.shape[axis] for axis in axes) == size:
            same, places = np.moveaxis(ids, axes, (-2, -1)), np.moveaxis(pixels, axes, (-2, -1))
            if (places == expected).all() and (same == same[..., :1, :1]).all():
                first = ids.take([0], axes[0]).take([0], axes[1])
                return Value(first, size, axes)
    return Value(ids, size, None, pixels)
