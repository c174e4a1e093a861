"""Kernels without a reduction over channels: copy, border, pooling and addition, as TVM PrimFunc bodies."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import MaxPool, rules
from squeezeedge.targets.cpu.layout import Layout
from squeezeedge.targets.cpu.loops import Expr, lanes, loop

__all__ = ["add_rows", "copy_rows", "fill_border", "pool_row"]

MAX_VECTOR = 64


def vector_width(size: int) -> int:
    """Bytes a step for runs of so many bytes: the largest power of two, at most 64, that divides them."""
    return min(size & -size, MAX_VECTOR)


def copy_rows(source: Layout, data: Expr, target: Layout, out: Expr, channel: int, y: Expr) -> None:
    """Copy row y of a tensor into some channels of another, the first of them ``channel``."""
    whole = source.channels == target.channels
    run = source.width * source.channels if whole else source.channels
    width = vector_width(run)
    with loop(1 if whole else source.width) as x, loop(run // width) as i:
        value = data[lanes(source.address(y, x, i * width), width)]
        T.buffer_store(out, value, [lanes(target.address(y, x, channel + i * width), width)])


def fill_border(layout: Layout, out: Expr, values: Sequence[int]) -> None:
    """Write the pad value, one for each channel, around a tensor."""
    top, left, bottom, right = layout.border
    above = [(-(i + 1), -left, left + layout.width + right) for i in range(top)]
    below = [(layout.height + i, -left, left + layout.width + right) for i in range(bottom)]
    for y, x, count in above + below:
        _fill(layout, out, values, y, x, count)
    if left or right:
        with loop(layout.height) as row:
            for x, count in ((-left, left), (layout.width, right)):
                _fill(layout, out, values, row, x, count)


def _fill(layout: Layout, out: Expr, values: Sequence[int], y: Expr, x: int, count: int) -> None:
    if count == 0:
        return
    if len(set(values)) == 1:
        width = vector_width(count * layout.channels)
        value = T.broadcast(T.uint8(values[0]), width) if width > 1 else T.uint8(values[0])
        with loop(count * layout.channels // width) as i:
            T.buffer_store(out, value, [lanes(layout.address(y, x, i * width), width)])
        return
    with loop(count) as i:
        for channel, pad in enumerate(values):
            T.buffer_store(out, T.uint8(pad), [layout.address(y, x + i, channel)])


def pool_row(
    pooling: MaxPool, height: int, source: Layout, data: Expr, target: Layout, out: Expr, y: Expr, ring: int = 0
) -> None:
    """Row y of a max pooling (R5).

    A window's pixels outside the map are replaced by the nearest inside, which the window has too.

    Args:
        pooling: window and stride.
        height: rows of the input.
        source: layout of the buffer.
        data: buffer of the input.
        target: layout of the output.
        out: buffer of the output.
        y: output row.
        ring: number of input rows that the buffer holds, the others taking their turn; 0: all of them.
    """
    step = vector_width(source.channels)
    (kernel_h, kernel_w), (down, right), (top, left) = pooling.kernel, pooling.stride, pooling.padding[:2]
    rows = [_clamped(y, target.height, down, i - top, height) for i in range(kernel_h)]
    if ring:
        rows = [row % ring for row in rows]
    with loop(target.width) as x, loop(source.channels // step) as i:
        columns = [_clamped(x, target.width, right, j - left, source.width) for j in range(kernel_w)]
        largest = None
        for row in rows:
            for column in columns:
                value = data[lanes(source.address(row, column, i * step), step)]
                largest = value if largest is None else T.max(largest, value)
        T.buffer_store(out, largest, [lanes(target.address(y, x, i * step), step)])


def _clamped(index: Expr, count: int, stride: int, offset: int, size: int) -> Expr:
    """Input position index * stride + offset, moved into 0..size - 1 where some index leaves it."""
    position = index * stride + offset
    if offset < 0:
        position = T.max(position, 0)
    if (count - 1) * stride + offset >= size:
        position = T.min(position, size - 1)
    return position


def add_rows(
    layouts: Sequence[Layout],
    data: Sequence[Expr],
    target: Layout,
    out: Expr,
    constants: Expr,
    zero_point: int,
    y: Expr,
) -> None:
    """Row y of a bypass addition (R5); constants: int32 [operand][offset, shift][channels]."""
    channels = target.channels
    step = min(vector_width(channels), 16)

    def spread(value: int) -> Expr:
        return T.broadcast(T.int32(value), step) if step > 1 else T.int32(value)

    with loop(target.width) as x, loop(channels // step) as i:
        total = None
        for operand, (layout, buffer) in enumerate(zip(layouts, data, strict=True)):
            value = buffer[lanes(layout.address(y, x, i * step), step)]
            wide = T.cast(value, f"int32x{step}" if step > 1 else "int32")
            offset, shift = (constants[lanes((2 * operand + part) * channels + i * step, step)] for part in (0, 1))
            term = T.shift_right(wide + offset, shift)
            total = term if total is None else total + term
        clipped = T.max(T.min(total, spread(rules.Q_MAX - zero_point)), spread(-zero_point)) + spread(zero_point)
        T.buffer_store(
            out,
            T.cast(clipped, f"uint8x{step}" if step > 1 else "uint8"),
            [lanes(target.address(y, x, i * step), step)],
        )
