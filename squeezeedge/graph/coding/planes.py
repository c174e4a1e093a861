"""The order in which a convolution's weights are coded, and the earlier weights that predict each weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEW_CHANNELS", "Planes", "plane_count"]

FEW_CHANNELS = 4
"""Up to so many input channels, every one is a plane of its own."""
FEW_PLANES = 9
"""Up to so many planes, all earlier ones are neighbours."""
MOST_PLANES = 1024
"""A kernel with more planes than this is one plane."""
SAME = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
"""With more planes, the neighbours are at these places (down, right) in the same input channel,"""
OTHER = ((0, 0), (0, -1), (-1, 0), (0, 1), (1, 0))
"""and these in every earlier one."""


def plane_count(shape: tuple[int, ...]) -> int:
    """How many planes a weight int8 [out, kernel_h, kernel_w, in] has."""
    _, height, width, channels = shape
    count = height * width * (channels if channels <= FEW_CHANNELS and height * width > 1 else 1)
    return count if count <= MOST_PLANES else 1


class Planes:
    """Planes of one kernel: all weights of one place, or of one place and input channel.

    Attributes:
        count: how many.
        shape: of a plane: (out, in), or (out, 1).
        neighbours: of each plane: (earlier plane, number of its coefficient) in this order.
        adjacent: of each plane: the one to the left and the one above; -1: none.
        coefficients: how many there are.
        first: of each plane: its first coefficient,
        size: and how many it has. Planes with the same first one share them.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Lay out a weight int8 [out, kernel_h, kernel_w, in]."""
        out, height, width, channels = shape
        if plane_count(shape) == 1:
            height, width, channels = 1, 1, height * width * channels
        self._whole, self._given = (out, height, width, channels), shape
        self._split = channels <= FEW_CHANNELS and height * width > 1
        depth = channels if self._split else 1
        self.shape = out, (1 if self._split else channels)
        self.count = depth * height * width
        number = np.full((depth, height + 4, width + 4), -1)
        number[:, 2:-2, 2:-2] = np.arange(self.count).reshape(depth, height, width)
        few = self.count <= FEW_PLANES
        self.neighbours: list[list[tuple[int, int]]] = []
        self.adjacent: list[tuple[int, int]] = []
        self.first: list[int] = []
        self.size: list[int] = []
        first = 0
        for channel in range(depth):
            offsets = [(channel, *offset) for offset in SAME]
            offsets += [(other, *offset) for other in range(channel) for offset in OTHER]
            for y in range(2, height + 2):
                for x in range(2, width + 2):
                    self.adjacent.append((int(number[channel, y, x - 1]), int(number[channel, y - 1, x])))
                    plane = len(self.neighbours)
                    self.first.append(first)
                    self.size.append(plane if few else len(offsets))
                    if few:
                        self.neighbours.append([(other, first + other) for other in range(plane)])
                        first += plane
                        continue
                    found = [(int(number[z, y + dy, x + dx]), first + at) for at, (z, dy, dx) in enumerate(offsets)]
                    self.neighbours.append([(other, slot) for other, slot in found if other >= 0])
            first += 0 if few else len(offsets)
        self.coefficients = first

    def of(self, weight: NDArray[np.int8]) -> NDArray[np.int64]:
        """The planes of a weight: int64 [count, *shape]."""
        whole = weight.reshape(self._whole)
        rows = whole.transpose(3, 1, 2, 0) if self._split else whole.transpose(1, 2, 0, 3)
        return np.ascontiguousarray(rows.reshape(self.count, *self.shape), np.int64)

    def weight(self, planes: NDArray[np.int16]) -> NDArray[np.int8]:
        """The weight of planes."""
        out, height, width, channels = self._whole
        if self._split:
            rows = planes.reshape(channels, height, width, out).transpose(3, 1, 2, 0)
        else:
            rows = planes.reshape(height, width, out, channels).transpose(2, 0, 1, 3)
        return np.ascontiguousarray(rows, np.int8).reshape(self._given)
