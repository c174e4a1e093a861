"""How an activation lies in memory: NHWC bytes with a border for the convolutions that pad it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from squeezeedge.graph.rules import Shape

__all__ = ["CACHE_LINE", "OVERRUN", "Layout"]

CACHE_LINE = 64

OVERRUN = 128
"""Bytes after a tensor that kernels may read: a vector reaches past the last pixel, where its weights are zero."""


@dataclass(frozen=True)
class Layout:
    """One activation tensor.

    Attributes:
        height: rows without the border.
        width: pixels of a row without the border.
        channels: bytes of a pixel.
        border: (top, left, bottom, right) in pixels; holds the pad value.
        scratch: bytes behind it that the kernel which makes it works in.
    """

    height: int
    width: int
    channels: int
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    scratch: int = 0

    @property
    def shape(self) -> Shape:
        """Height, width, channels."""
        return Shape(self.height, self.width, self.channels)

    @property
    def row(self) -> int:
        """Bytes from one row to the next."""
        return (self.border[1] + self.width + self.border[3]) * self.channels

    @property
    def rows(self) -> int:
        """Rows with the border."""
        return self.border[0] + self.height + self.border[2]

    @property
    def size(self) -> int:
        """Bytes to allocate."""
        return self.end + self.scratch

    @property
    def end(self) -> int:
        """Where the scratch begins: behind what may be read, at a whole cache line if there is any."""
        size = self.rows * self.row + OVERRUN
        return -(-size // CACHE_LINE) * CACHE_LINE if self.scratch else size

    @property
    def contiguous(self) -> bool:
        """Whether all pixels follow each other without a border."""
        return self.border == (0, 0, 0, 0)

    def address(self, y: Any, x: Any, channel: Any = 0) -> Any:  # noqa: ANN401  (int or TVM expression)
        """Byte offset of a channel of pixel (y, x); negative coordinates lie in the border."""
        return (y + self.border[0]) * self.row + (x + self.border[1]) * self.channels + channel
