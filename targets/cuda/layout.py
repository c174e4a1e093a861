"""How an activation lies in memory: NHWC bytes, each pixel filled up to 16 so that it can be loaded at once."""

from __future__ import annotations

from dataclasses import dataclass

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.grid import Expr

__all__ = ["PIXEL", "Layout"]

PIXEL = 16
"""Bytes of which a pixel has a multiple; the last ones may hold anything: their weights are zero."""


@dataclass(frozen=True)
class Layout:
    """One activation tensor of one image.

    Attributes:
        height: rows.
        width: pixels of a row.
        channels: bytes of a pixel that count.
        packed: whether pixels follow each other without filling: the image as it comes.
    """

    height: int
    width: int
    channels: int
    packed: bool = False

    @property
    def shape(self) -> Shape:
        """Height, width, channels."""
        return Shape(self.height, self.width, self.channels)

    @property
    def pixel(self) -> int:
        """Bytes from one pixel to the next."""
        return self.channels if self.packed else -(-self.channels // PIXEL) * PIXEL

    @property
    def size(self) -> int:
        """Bytes."""
        return self.height * self.width * self.pixel

    def address(self, image: Expr, y: Expr, x: Expr, byte: Expr = 0) -> Expr:
        """Offset of a byte of pixel (y, x) of an image of the batch."""
        return ((image * self.height + y) * self.width + x) * self.pixel + byte
