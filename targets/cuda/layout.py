"""How an activation lies in memory: NHWC bytes, each pixel filled up to 16 so that it can be loaded at once."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.grid import Expr

__all__ = ["PIXEL", "Layout", "clamped", "masked"]

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


def clamped(at: Expr, first: int, last: int, size: int) -> tuple[Expr, Expr | None]:
    """A position within ``first``..``last``, moved into 0..size - 1, and a mask: all ones if it was inside.

    A mask of ``None`` means always inside. Masked loads wait for memory together; loads behind branches would not.
    """
    moved, mask = at, None
    if first < 0:
        moved, mask = T.max(moved, 0), _mask(at >= 0)
    if last >= size:
        moved, below = T.min(moved, size - 1), _mask(at < size)
        mask = below if mask is None else T.bitwise_and(mask, below)
    return moved, mask


def _mask(condition: Expr) -> Expr:
    return T.Select(condition, T.uint32(0xFFFFFFFF), T.uint32(0))


def masked(value: Expr, pad: Expr, mask: Expr) -> Expr:
    """Bits of a value where the mask has ones, else of the pad value."""
    return T.bitwise_or(T.bitwise_and(value, mask), T.bitwise_and(pad, T.bitwise_not(mask)))
