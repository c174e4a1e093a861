"""The windows of an image's convolution, brought side by side: a few channels fill no reduction step of a window's row.

A row of 3 pixels has 9 bytes, of which steps of four bytes make twelve; the nine pixels of a whole window are 27 bytes,
or 28. The windows of one output row are written into memory of their own, from where a convolution with a window of one
pixel reads them. In chains of vpmaddubsw it matters, too, which bytes stand side by side: the bytes of a window's row
have the order that :mod:`.channel_order` finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Head, Tensor
from squeezeedge.lower.legalize import is_depthwise
from squeezeedge.targets.cpu.channel_order import order_of_windows
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.layout import OVERRUN, Layout
from squeezeedge.targets.cpu.loops import Expr, lanes, loop

__all__ = ["Windows", "windows_size"]

FEW = 4
"""Channels; with as many, whole steps are read where the image lies."""

WORD = 4
"""Bytes of which a window has a multiple."""

MAX_VECTOR = 64


@dataclass(frozen=True, eq=False)
class Windows:
    """A convolution as it reads windows that are side by side.

    Attributes:
        conv: the same sums of a window's bytes as if they were channels; there is no padding.
        layout: of the windows of one output row.
        whole: the convolution itself.
        order: int [bytes of a window's row] for each window row: which of its bytes stands at each place.
    """

    conv: Conv | Head
    layout: Layout
    whole: Conv | Head
    order: NDArray[np.intp]

    @classmethod
    def of(cls, conv: Conv | Head, isa: InstructionSet, width: int) -> Windows | None:
        """The windows of a convolution whose output rows have ``width`` pixels; ``None``: they do not pay."""
        if not windows_size(conv, isa, width):
            return None
        out, height, across, channels = conv.weight.shape
        run, bytes_ = across * channels, _bytes(conv)
        rows = conv.weight.reshape(out, height, run)
        order = order_of_windows(rows, isa.lanes) if isa.paired else np.tile(np.arange(run), (height, 1))
        weight = np.take_along_axis(rows, order[None], 2).reshape(out, 1, 1, -1)
        weight = np.pad(weight, [(0, 0)] * 3 + [(0, bytes_ - height * run)])
        pad = np.zeros(bytes_, np.uint8)
        flat = replace(conv, weight=weight, stride=(1, 1), padding=(0, 0, 0, 0), pad_value=pad)
        return cls(flat, Layout(1, width, bytes_), conv, order)

    def source(self, image: Tensor) -> Tensor:
        """What :attr:`conv` reads, as a tensor of the graph."""
        return replace(image, height=1, width=self.layout.width, channels=self.layout.channels)

    def write(self, source: Layout, data: Expr, windows: Expr, y: Expr) -> None:
        """Write the windows of output row y.

        Args:
            source: layout of the image.
            data: its buffer.
            windows: buffer of the windows.
            y: the row.
        """
        run = self.order.shape[1]
        (top, left), (down, right) = self.whole.padding[:2], self.whole.stride
        vector = 1 << (run - 1).bit_length()
        with loop(self.layout.width) as x:
            for row, order in enumerate(self.order.tolist()):  # each store covers what the one before wrote too much
                value = data[lanes(source.address(y * down - top + row, x * right - left), vector)]
                if order != list(range(run)):
                    value = T.Shuffle([value], order + order[:1] * (vector - run))
                T.buffer_store(windows, value, [lanes(x * self.layout.channels + row * run, vector)])


def windows_size(conv: Conv | Head, isa: InstructionSet, width: int) -> int:
    """Bytes for the windows of ``width`` output pixels; 0: they do not pay.

    A last store and a last reduction step reach beyond the windows.
    """
    _, height, across, channels = conv.weight.shape
    run = across * channels
    if is_depthwise(conv) or channels >= FEW or run > MAX_VECTOR:
        return 0
    read, needed = (steps * group for steps, group in (isa.steps(run), isa.steps(height * run)))
    return width * _bytes(conv) + MAX_VECTOR + OVERRUN if height * read > needed else 0


def _bytes(conv: Conv | Head) -> int:
    """Bytes of a window."""
    count: int = conv.weight[0].size
    return -(-count // WORD) * WORD
