"""How a block of a convolution loads a chunk of its pixels' windows and of the weights into shared memory.

All threads of the block load, 16 bytes at a time. The window is gathered while it is loaded (there is no im2col in
memory), and a max pooling before the convolution is computed on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Head
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.elementwise import Pooling, pooled
from squeezeedge.targets.cuda.grid import Block, Expr, Memory, Registers
from squeezeedge.targets.cuda.layout import Layout, clamped, masked
from squeezeedge.targets.cuda.packing import reduction_bytes
from squeezeedge.targets.cuda.tiling import GROUP_WORDS, STEP_WORDS, Plan

__all__ = ["Loader"]

GROUP = 16


@dataclass(frozen=True, eq=False)
class Loader:
    """Where a convolution's operands come from.

    Attributes:
        conv: its node.
        out: shape of its output as its kernel goes through it: the node's, or all pixels as one row.
        input: what it reads, among its kernel's inputs.
        source: layout of that; with ``pooling``, of what is pooled first.
        pooling: in front of it, or ``None``.
        plan: its tiles.
    """

    conv: Conv | Head
    out: Shape
    input: int
    source: Layout
    pooling: Pooling | None
    plan: Plan

    def load(self, block: Block, weights: Memory, column_block: Expr, first: Expr, chunk: Expr) -> None:
        """Fill shared memory with a chunk; all loads come before the first store, so they wait for memory together."""
        plan = self.plan
        words = plan.tile.columns * plan.steps * STEP_WORDS
        source = (column_block * plan.chunks + chunk) * words

        def weight(item: Expr, held: Registers, at: Expr) -> None:
            held.load(at, GROUP_WORDS, weights.load(source + item * GROUP_WORDS, GROUP_WORDS))

        packed = self.source.packed
        size, pixel = (1, self._image_word) if packed else (GROUP_WORDS, self._pixel_group)
        each = plan.steps * STEP_WORDS // size

        def window(item: Expr, held: Registers, at: Expr) -> Expr | None:
            y, x = self._position(first + item // each)
            return pixel(block, y, x, chunk * each + item % each, held, at)

        with block.threads() as thread:
            store_weights = _fetch(block, thread, plan.spare, words // GROUP_WORDS, GROUP_WORDS, weight)
            store_pixels = _fetch(block, thread, plan.spare, plan.tile.rows * each, size, window)
            store_weights(lambda item: plan.pixel_words + item * GROUP_WORDS, 0)
            store_pixels(lambda item: item // each * plan.pitch + item % each * size, int(self.conv.pad_value[0]))

    def _pixel_group(self, block: Block, y: Expr, x: Expr, which: Expr, held: Registers, to: Expr) -> Expr | None:
        """16 bytes of the window of output pixel (y, x), and their mask as ``_tap``'s.

        Past the window's end, anything: the weights are zero there.
        """
        conv, source = self.conv, self.source
        data = block.inputs[self.input]
        which = T.min(which, reduction_bytes(conv, source) // GROUP - 1)
        tap, channel = which // (source.pixel // GROUP), which % (source.pixel // GROUP) * GROUP
        if self.pooling is not None:
            held.load(to, GROUP_WORDS, pooled(block, self.pooling, source, data, y, x, channel))
            return None
        pixel_y, pixel_x, mask = self._tap(y, x, tap // conv.weight.shape[2], tap % conv.weight.shape[2])
        at = source.address(block.image, pixel_y, pixel_x, channel)
        held.load(to, GROUP_WORDS, T.reinterpret("uint32x4", data.load(at, GROUP)))
        return mask

    def _image_word(self, block: Block, y: Expr, x: Expr, which: Expr, held: Registers, to: Expr) -> None:
        """4 bytes of a window of the image, byte by byte: three channels do not fill a load."""
        conv, source = self.conv, self.source
        _, _, kernel_w, channels = conv.weight.shape
        held[to] = T.uint32(0)
        for byte in range(4):
            position = T.min(which * 4 + byte, reduction_bytes(conv, source) - 1)
            tap, channel = position // channels, position % channels
            pixel_y, pixel_x, mask = self._tap(y, x, tap // kernel_w, tap % kernel_w)
            at = source.address(block.image, pixel_y, pixel_x, channel)
            q = T.cast(block.inputs[self.input].load(at), "uint32")
            if mask is not None:
                pad: Expr = T.uint32(int(conv.pad_value[0]))
                for c in range(1, channels):
                    pad = T.Select(channel == c, T.uint32(int(conv.pad_value[c])), pad)
                q = masked(q, pad, mask)
            held[to] = T.bitwise_or(held[to], T.shift_left(q, T.uint32(8 * byte)))

    def _position(self, pixel: Expr) -> tuple[Expr, Expr]:
        """(y, x) of an output pixel; those past the last one are copies of it."""
        pixels = self.out.height * self.out.width
        if pixels % self.plan.tile.rows:
            pixel = T.min(pixel, pixels - 1)
        return pixel // self.out.width, pixel % self.out.width

    def _tap(self, y: Expr, x: Expr, kernel_y: Expr, kernel_x: Expr) -> tuple[Expr, Expr, Expr | None]:
        """Input pixel of a tap of output pixel (y, x), moved into the map, and a mask (see :func:`.layout.clamped`)."""
        conv, shape = self.conv, self.source.shape
        mask: Expr | None = None
        position = []
        for axis, (out, kernel) in enumerate(((y, kernel_y), (x, kernel_x))):
            before, stride = conv.padding[axis], conv.stride[axis]
            last = (self.out[axis] - 1) * stride + conv.weight.shape[1 + axis] - 1 - before
            at, inside = clamped(out * stride + kernel - before, -before, last, shape[axis])
            position.append(at)
            if inside is not None:
                mask = inside if mask is None else T.bitwise_and(mask, inside)
        return position[0], position[1], mask


def _fetch(
    block: Block,
    thread: Expr,
    spare: int,
    count: int,
    words: int,
    fetch: Callable[[Expr, Registers, Expr], Expr | None],
) -> Callable[[Callable[[Expr], Expr], int], None]:
    """Divide items among the threads and load them into registers.

    Args:
        block: where the code goes.
        thread: number of the thread.
        spare: word of shared memory where each thread may store what is no item. This avoids branches, so that the
            compiler keeps all loads before the first store.
        count: number of items.
        words: 32-bit words of an item.
        fetch: loads an item into registers, from one on; may return a mask.

    Returns:
        A function that stores the items in shared memory. It takes the word of each item, and the byte for masked bits.
    """
    steps = -(-count // block.threads_count)
    uneven = count % block.threads_count != 0
    held, masks = block.registers(steps * words, "uint32"), block.registers(steps, "uint32")
    with block.unrolled(steps) as step:
        item = step * block.threads_count + thread
        mask = fetch(T.min(item, count - 1) if uneven else item, held, step * words)
        if mask is not None:
            masks[step] = mask

    def store(to: Callable[[Expr], Expr], pad: int) -> None:
        with block.unrolled(steps) as step:
            if mask is not None:
                with block.unrolled(words) as word:
                    at = step * words + word
                    held[at] = masked(held[at], T.uint32(pad * 0x01010101), masks[step])
            item = step * block.threads_count + thread
            at = T.Select(item < count, to(item), spare + thread * GROUP_WORDS) if uneven else to(item)
            block.shared.store(at, held.lanes(step * words, words), words)

    return store
