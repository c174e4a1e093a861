"""Kernels without a reduction over channels: pooling, addition, and copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.script.ir_builder import tirx as T

from squeezeedge.lower.patterns import Addition, Pooling
from squeezeedge.targets.cuda.grid import Block, Expr, only, vector
from squeezeedge.targets.cuda.layout import Layout

__all__ = ["THREADS", "add", "concatenate", "each_item", "pool", "pooled"]

THREADS = 128
"""Of a block."""
GROUP, GROUP_WORDS = 16, 4


def each_item(block: Block, count: int, body: Callable[[Expr], None]) -> None:
    """One item a thread."""
    with block.region(barrier=False), block.threads() as thread:
        item = block.index * block.threads_count + thread
        with only(None if count % block.threads_count == 0 else item < count):
            body(item)


def pooled(block: Block, pooling: Pooling, source: Layout, data: Expr, y: Expr, x: Expr, part: Expr) -> Expr:
    """16 channels of pixel (y, x) of a max pooling (R5), as uint32x4; inside ``threads``.

    A window's pixels outside the map are replaced by the nearest inside, which the window has too.
    """
    largest, value = block.registers(GROUP_WORDS, "uint32"), block.registers(GROUP_WORDS, "uint32")
    with block.unrolled(GROUP_WORDS) as word:
        largest[word] = T.uint32(0)
    with block.unrolled(pooling.kernel[0]) as i, block.unrolled(pooling.kernel[1]) as j:
        row = _clamped(pooling, 0, y, i)
        column = _clamped(pooling, 1, x, j)
        at = source.address(block.image, row, column, part * GROUP)
        value.load(0, GROUP_WORDS, T.reinterpret("uint32x4", data[vector(at, GROUP)]))
        with block.unrolled(GROUP_WORDS) as word:
            largest[word] = block.byte_max(largest[word], value[word])
    return largest.lanes(0, GROUP_WORDS)


def _clamped(pooling: Pooling, axis: int, out: Expr, tap: Expr) -> Expr:
    """Input position of a tap, moved into the map where some window leaves it."""
    stride, before, size = pooling.stride[axis], pooling.padding[axis], pooling.source[axis]
    position = out * stride + tap - before
    if before:
        position = T.max(position, 0)
    if (pooling.out[axis] - 1) * stride + pooling.kernel[axis] - 1 - before >= size:
        position = T.min(position, size - 1)
    return position


def pool(block: Block, pooling: Pooling, source: Layout, target: Layout) -> None:
    """Max pooling, 16 channels a thread."""
    parts = target.pixel // GROUP

    def body(item: Expr) -> None:
        pixel, part = item // parts, item % parts
        value = pooled(block, pooling, source, block.inputs[0], pixel // target.width, pixel % target.width, part)
        at = target.address(block.image, 0, pixel, part * GROUP)
        T.buffer_store(block.out, T.reinterpret("uint8x16", value), [vector(at, GROUP)])

    each_item(block, target.size // GROUP, body)


def add(block: Block, addition: Addition, target: Layout, inputs: Sequence[int]) -> None:
    """Bypass addition (R5), four channels a thread.

    Args:
        block: ``constants[0]`` is int32 [operand][offset, shift][target.pixel].
        addition: for its zero point.
        target: layout of the output and of both operands.
        inputs: the operands among the block's inputs.
    """
    words = target.pixel // 4
    constants = block.constants[0]

    def body(item: Expr) -> None:
        pixel, channel = item // words, item % words * 4
        at = target.address(block.image, 0, pixel, channel)
        value: Expr = T.uint32(0)
        for byte in range(4):
            total: Expr = T.int32(addition.zero_point)
            for operand, source in enumerate(inputs):
                offset, shift = (constants[(2 * operand + i) * target.pixel + channel + byte] for i in (0, 1))
                total = total + T.shift_right(T.cast(block.inputs[source][at + byte], "int32") + offset, shift)
            q = T.cast(T.max(T.min(total, 255), 0), "uint32")
            value = T.bitwise_or(value, T.shift_left(q, T.uint32(8 * byte)))
        T.buffer_store(block.out, T.reinterpret("uint8x4", value), [vector(at, 4)])

    each_item(block, target.size // 4, body)


def concatenate(block: Block, sources: Sequence[tuple[int, Layout]], target: Layout) -> None:
    """Channels of the sources one after the other, byte by byte; with one source, a copy into another layout.

    Args:
        block: where the code goes.
        sources: (index among the block's inputs, layout).
        target: layout of the output.
    """

    def body(item: Expr) -> None:
        pixel, channel = item // target.pixel, item % target.pixel
        value: Expr = T.uint8(0)
        first = target.channels
        for index, layout in reversed(sources):
            first -= layout.channels
            q = block.inputs[index][layout.address(block.image, 0, pixel, channel - first)]
            own = T.And(channel >= first, channel < first + layout.channels)
            value = T.if_then_else(own, q, value)
        T.buffer_store(block.out, value, [target.address(block.image, 0, pixel, channel)])

    each_item(block, target.size, body)
