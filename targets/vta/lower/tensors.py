"""Where tensors lie in DRAM.

A tensor is a list of planes, one for each block of channels: int8 [rows, columns, block] of q - 128 (R7). A
concatenation is a list of other tensors' planes, so it costs nothing and its parts may have any channel count: lanes
that have no channel meet weights of zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import rules
from squeezeedge.graph.rules import Shape

__all__ = ["NO_PADS", "Arena", "Fill", "Pads", "Value", "joined"]

Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""

NO_PADS: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class Fill:
    """Elements of the arena that a host or nobody writes.

    Attributes:
        name: of the region.
        first: element.
        count: elements.
        value: byte that they are filled with once.
        host: whether the host writes them before every run.
    """

    name: str
    first: int
    count: int
    value: int
    host: bool


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor in DRAM.

    Attributes:
        name: as in the graph.
        height: rows.
        width: columns.
        zero_point: 0 or 128.
        pitch: elements from one row to the next.
        origins: for each channel block, the arena's element that holds pixel (0, 0).
        lanes: int [blocks * block]: the channel in each lane, -1 where there is none.
        halo: padding that lies in DRAM: top, left, bottom, right.
    """

    name: str
    height: int
    width: int
    zero_point: int
    pitch: int
    origins: tuple[int, ...]
    lanes: NDArray[np.int64]
    halo: Pads = NO_PADS


class Arena:
    """Gives out the DRAM of the activations: every tensor has a place of its own, so nothing is ever overwritten."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.elements = 0
        self.fills: list[Fill] = []

    def value(self, name: str, shape: Shape, zero_point: int, halo: Pads = NO_PADS, *, host: bool = False) -> Value:
        """A new tensor."""
        height, width, channels = shape
        top, left, bottom, right = halo
        pitch = width + left + right
        plane = pitch * (height + top + bottom)
        blocks = -(-channels // self.block)
        lanes = np.full(blocks * self.block, -1)
        lanes[:channels] = np.arange(channels)
        first = self.elements
        self.elements += blocks * plane
        byte = rules.SIGN if zero_point == 0 else 0
        self.fills.append(Fill(name, first, blocks * plane, byte, host))
        origins = tuple(first + index * plane + top * pitch + left for index in range(blocks))
        return Value(name, height, width, zero_point, pitch, origins, lanes, halo)


def joined(name: str, parts: Sequence[Value]) -> Value:
    """The parts' channels one after the other; they have one size and one halo."""
    lanes, offset = [], 0
    for part in parts:
        lanes.append(np.where(part.lanes >= 0, part.lanes + offset, -1))
        offset += int((part.lanes >= 0).sum())
    origins = tuple(origin for part in parts for origin in part.origins)
    return replace(parts[0], name=name, origins=origins, lanes=np.concatenate(lanes))
