"""Kernels without a reduction over channels: pooling, addition, and copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import MaxPool, rules
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.grid import Block, Expr, Memory, only
from squeezeedge.targets.cuda.layout import Layout, clamped

__all__ = ["GROUP", "THREADS", "Pooling", "add", "concatenate", "each_group", "pool", "pooled"]

THREADS = 128
"""Of a block."""
GROUP, GROUP_WORDS = 16, 4


def each_group(block: Block, target: Layout, body: Callable[[Expr, Expr], None]) -> None:
    """One 16-byte group of the output a thread: ``body(pixel, first channel)``."""
    count, parts = target.size // GROUP, target.pixel // GROUP
    with block.region(barrier=False), block.threads() as thread:
        item = block.index * block.threads_count + thread
        with only(None if count % block.threads_count == 0 else item < count):
            body(item // parts, item % parts * GROUP)


@dataclass(frozen=True, eq=False)
class Pooling:
    """A max pooling in front of a kernel, or a kernel of its own.

    Attributes:
        node: of the graph.
        out: shape of its output.
    """

    node: MaxPool
    out: Shape


def pooled(block: Block, pooling: Pooling, source: Layout, data: Memory, y: Expr, x: Expr, channel: Expr) -> Expr:
    """16 channels of pixel (y, x) of a max pooling (R5), as uint32x4; inside ``threads``.

    A window's pixels outside the map are replaced by the nearest inside, which the window has too.
    """
    largest, value = block.registers(GROUP_WORDS, "uint32"), block.registers(GROUP_WORDS, "uint32")
    with block.unrolled(GROUP_WORDS) as word:
        largest[word] = T.uint32(0)
    with block.unrolled(pooling.node.kernel[0]) as i, block.unrolled(pooling.node.kernel[1]) as j:
        row = _clamped(pooling, source, 0, y, i)
        column = _clamped(pooling, source, 1, x, j)
        at = source.address(block.image, row, column, channel)
        value.load(0, GROUP_WORDS, T.reinterpret("uint32x4", data.load(at, GROUP)))
        with block.unrolled(GROUP_WORDS) as word:
            largest[word] = block.byte_max(largest[word], value[word])
    return largest.lanes(0, GROUP_WORDS)


def _clamped(pooling: Pooling, source: Layout, axis: int, out: Expr, tap: Expr) -> Expr:
    """Input position of a tap, moved into the map where some window leaves it."""
    node, size = pooling.node, source.shape[axis]
    stride, before = node.stride[axis], node.padding[axis]
    last = (pooling.out[axis] - 1) * stride + node.kernel[axis] - 1 - before
    position, _ = clamped(out * stride + tap - before, -before, last, size)
    return position


def pool(block: Block, pooling: Pooling, source: Layout, target: Layout) -> None:
    """Max pooling."""

    def body(pixel: Expr, channel: Expr) -> None:
        y, x = pixel // target.width, pixel % target.width
        value = pooled(block, pooling, source, block.inputs[0], y, x, channel)
        at = target.address(block.image, 0, pixel, channel)
        block.out.store(at, T.reinterpret("uint8x16", value), GROUP)

    each_group(block, target, body)


def add(block: Block, zero_point: int, target: Layout, inputs: Sequence[int]) -> None:
    """Bypass addition (R5).

    Args:
        block: ``constants[0]`` is int32 [operand][offset, shift][target.pixel].
        zero_point: of the output.
        target: layout of the output and of both operands.
        inputs: the operands among the block's inputs.
    """

    def body(pixel: Expr, channel: Expr) -> None:
        at = target.address(block.image, 0, pixel, channel)
        words = [block.registers(GROUP_WORDS, "uint32") for _ in inputs]
        for value, index in zip(words, inputs, strict=True):
            value.load(0, GROUP_WORDS, T.reinterpret("uint32x4", block.inputs[index].load(at, GROUP)))
        out = block.registers(GROUP_WORDS, "uint32")
        with block.unrolled(GROUP_WORDS) as word:
            out[word] = T.uint32(0)
            with block.unrolled(4) as byte:
                total: Expr = T.int32(zero_point)
                for operand, value in enumerate(words):
                    q = T.bitwise_and(T.shift_right(value[word], T.cast(byte * 8, "uint32")), T.uint32(255))
                    row = 2 * operand * target.pixel + channel + word * 4 + byte
                    offset, shift = (block.constants[0].load(row + i * target.pixel) for i in (0, 1))
                    total = total + T.shift_right(T.cast(q, "int32") + offset, shift)
                q = T.cast(T.max(T.min(total, rules.Q_MAX), 0), "uint32")
                out[word] = T.bitwise_or(out[word], T.shift_left(q, T.cast(byte * 8, "uint32")))
        packed = T.reinterpret("uint8x16", out.lanes(0, GROUP_WORDS))
        block.out.store(at, packed, GROUP)

    each_group(block, target, body)


def concatenate(block: Block, sources: Sequence[tuple[int, Layout]], target: Layout) -> None:
    """Channels of the sources one after the other, byte by byte; with one source, a copy into another layout.

    Args:
        block: where the code goes.
        sources: (index among the block's inputs, layout).
        target: layout of the output.
    """

    def body(pixel: Expr, channel: Expr) -> None:
        at = target.address(block.image, 0, pixel, channel)
        with block.unrolled(GROUP) as byte:
            first = 0
            for index, layout in sources:
                own = T.And(channel + byte >= first, channel + byte < first + layout.channels)
                with only(own):
                    q = block.inputs[index].load(layout.address(block.image, 0, pixel, channel + byte - first))
                    block.out.store(at + byte, q)
                first += layout.channels

    each_group(block, target, body)
