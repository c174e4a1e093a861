"""Convolution as a matrix product: pixels of a block x window bytes, times window bytes x channels.

A block loads a chunk of both operands into shared memory, all its threads 16 bytes at a time, then its warps multiply
from there. The window is gathered on the way (there is no im2col in memory), and so is a max pooling in front.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T

from squeezeedge.lower.patterns import Convolution, Pooling
from squeezeedge.targets.cuda.elementwise import pooled
from squeezeedge.targets.cuda.grid import WARP, Block, Expr, Memory, Registers, only
from squeezeedge.targets.cuda.isa import InstructionSet, Operands
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.packing import Packed, pack, reduction_bytes
from squeezeedge.targets.cuda.tiling import GROUP_WORDS, STEP_BYTES, STEP_WORDS, Plan, choose_tile

__all__ = ["ConvolutionKernel", "convolution_kernel"]

GROUP = 16


@dataclass(frozen=True, eq=False)
class ConvolutionKernel:
    """One convolution of a kernel.

    Attributes:
        conv: its parameters.
        source: layout of what it reads; with ``pooling``, of what is pooled first.
        pooling: in front of it, or ``None``.
        isa: how it multiplies.
        plan: its tiles.
        packed: its constants.
    """

    conv: Convolution
    source: Layout
    pooling: Pooling | None
    isa: InstructionSet
    plan: Plan
    packed: Packed

    @property
    def pixels(self) -> int:
        """Of the output map."""
        return self.conv.out[0] * self.conv.out[1]

    @property
    def row_blocks(self) -> int:
        """Tiles over the pixels."""
        return -(-self.pixels // self.plan.tile.rows)

    @property
    def column_blocks(self) -> int:
        """Tiles over the output channels."""
        return -(-self.conv.out[2] // self.plan.tile.columns)

    @property
    def blocks(self) -> int:
        """Thread blocks of an image."""
        return self.row_blocks * self.column_blocks

    @property
    def macs(self) -> int:
        """Multiply-accumulates of an image, padding included."""
        plan = self.plan
        return self.blocks * plan.tile.rows * plan.tile.columns * plan.chunks * plan.steps * STEP_BYTES

    @property
    def shared(self) -> int:
        """Words of shared memory."""
        tile = self.plan.tile
        sums = tile.warp_rows * 8 * tile.columns if self.conv.shift is None else 0  # of the head
        return max(self.plan.shared, sums)

    def store(self, block: Block, arrays: tuple[Memory, Memory], index: Expr, target: Layout, channel: int) -> None:
        """R3 of one block's tile.

        Args:
            block: where the code goes.
            arrays: weights and parameters.
            index: number of the block among the convolution's.
            target: layout of the output.
            channel: of the output, at which the convolution's begin.
        """
        column_block, row_block = index // self.row_blocks, index % self.row_blocks
        tile = self.plan.tile
        first = row_block * tile.rows
        shifts = block.registers(tile.lane_channels, "int32")
        with block.region(barrier=False), block.threads() as thread:  # early: later, everything would wait for them
            own = (self.column_blocks + column_block) * tile.columns + self._lane_channel(thread)
            with block.unrolled(tile.lane_channels) as i:
                shifts[i] = arrays[1].load(own + i)
        acc = self._accumulate(block, arrays, column_block, first, again=False)
        with block.region(barrier=False):
            self._requantize(block, shifts, column_block, first, acc, target, channel)

    def sum(self, block: Block, arrays: tuple[Memory, Memory], index: Expr) -> None:
        """R6 of one block's tile: clip at 0 where the network has that ReLU, add its pixels to ``out``.

        The order in which blocks add does not matter: nothing overflows (R6), and integers are exact.
        """
        column_block, row_block = index // self.row_blocks, index % self.row_blocks
        tile = self.plan.tile
        first = row_block * tile.rows
        acc = self._accumulate(block, arrays, column_block, first, again=True)
        sums = block.registers(tile.lane_channels, "int32")
        with block.region(), block.threads() as thread, self._owners(thread):
            with block.unrolled(tile.lane_channels) as i:
                sums[i] = T.int32(0)
            with block.unrolled(tile.row_tiles) as i, block.unrolled(2) as r:
                with only(self._exists(self._pixel(thread, first, i, r))):
                    with block.unrolled(tile.column_tiles) as j, block.unrolled(2) as e:
                        value = acc[(i * tile.column_tiles + j) * 4 + r * 2 + e]
                        sums[j * 2 + e] = sums[j * 2 + e] + (T.max(value, 0) if self.conv.relu else value)
            row, _, _ = tile.warp(thread // WARP)
            at = (row * 8 + thread % WARP // 4) * tile.columns + self._lane_channel(thread)
            with block.unrolled(tile.lane_channels) as i:
                block.shared.store(at + i, T.reinterpret("uint32", sums[i]))
        with block.region(barrier=False):
            total = block.registers(1, "int32")
            with block.threads() as thread, block.strided(tile.columns, thread) as column:
                total[0] = T.int32(0)
                with block.unrolled(tile.warp_rows * 8) as row:
                    total[0] = total[0] + T.reinterpret("int32", block.shared.load(row * tile.columns + column))
                channel = column_block * tile.columns + column
                classes = self.conv.out[2]
                with only(channel < classes if classes % tile.columns else None):
                    block.atomic_add(block.image * classes + channel, total[0])

    def _accumulate(
        self, block: Block, arrays: tuple[Memory, Memory], column_block: Expr, first: Expr, *, again: bool
    ) -> Registers:
        """Accumulators of a tile whose first pixel is ``first``, in the warps that own them.

        ``again``: shared memory is written again afterwards.
        """
        plan, tile = self.plan, self.plan.tile
        weights, parameters = arrays
        acc = block.registers(tile.accumulators, "int32")
        self._start(block, parameters, column_block, acc)
        operands = Operands(0, plan.pitch, plan.pixel_words)
        with T.serial(0, plan.chunks) as chunk:
            with block.region():
                self._load(block, weights, column_block, first, chunk)
            with block.region(barrier=again or plan.chunks > 1 or tile.warp_steps > 1):
                with T.serial(0, plan.steps // tile.warp_steps) as round_:
                    self.isa.step(block, tile, acc, operands, round_)
        if tile.warp_steps > 1:
            self._reduce(block, acc, again)
        return acc

    def _lane_channel(self, thread: Expr) -> Expr:
        """First channel of a lane, within the block."""
        tile = self.plan.tile
        _, column, _ = tile.warp(thread // WARP)
        return column * (8 * tile.column_tiles) + thread % 4 * tile.lane_channels

    def _pixel(self, thread: Expr, first: Expr, i: Expr, r: Expr) -> Expr:
        """Pixel of a lane's accumulators (i, r)."""
        tile = self.plan.tile
        row, _, _ = tile.warp(thread // WARP)
        return first + (row * tile.row_tiles + i) * 16 + r * 8 + thread % WARP // 4

    def _exists(self, pixel: Expr) -> Expr | None:
        """Whether the map has a pixel; ``None``: it has all of every tile."""
        return pixel < self.pixels if self.pixels % self.plan.tile.rows else None

    def _owners(self, thread: Expr) -> AbstractContextManager[None]:
        """Code of the warps that hold whole sums."""
        inner = self.plan.tile.warp_rows * self.plan.tile.warp_columns * WARP
        return only(thread < inner if self.plan.tile.warp_steps > 1 else None)

    def _start(self, block: Block, parameters: Memory, column_block: Expr, acc: Registers) -> None:
        """Accumulators begin with the bias; in one warp of those along the reduction."""
        tile = self.plan.tile
        with block.region(barrier=False), block.threads() as thread:
            first = column_block * tile.columns + self._lane_channel(thread)
            _, _, step = tile.warp(thread // WARP)
            with block.unrolled(tile.column_tiles) as j, block.unrolled(2) as e:
                bias = parameters.load(first + j * 2 + e)
                value = bias if tile.warp_steps == 1 else T.Select(step == 0, bias, T.int32(0))
                with block.unrolled(tile.row_tiles) as i, block.unrolled(2) as r:
                    acc[(i * tile.column_tiles + j) * 4 + r * 2 + e] = value

    def _reduce(self, block: Block, acc: Registers, again: bool) -> None:
        """Add the sums of the warps along the reduction, modulo 2**32."""
        tile = self.plan.tile
        inner = tile.warp_rows * tile.warp_columns * WARP

        def at(step: Expr, register: Expr, thread: Expr) -> Expr:
            return ((step - 1) * tile.accumulators + register) * inner + thread % inner

        with block.region(), block.threads() as thread, only(thread >= inner):
            with block.unrolled(tile.accumulators) as i:
                block.shared.store(at(thread // inner, i, thread), T.reinterpret("uint32", acc[i]))
        with block.region(barrier=again), block.threads() as thread, self._owners(thread):
            with block.unrolled(tile.accumulators) as i:
                total = T.cast(acc[i], "int64")
                for step in range(1, tile.warp_steps):
                    total = total + T.cast(T.reinterpret("int32", block.shared.load(at(step, i, thread))), "int64")
                acc[i] = T.cast(total, "int32")

    def _load(self, block: Block, weights: Memory, column_block: Expr, first: Expr, chunk: Expr) -> None:
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
        data = block.inputs[conv.input]
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
            q = T.cast(block.inputs[conv.input].load(at), "uint32")
            if mask is not None:
                pad: Expr = T.uint32(int(conv.pad_value[0]))
                for c in range(1, channels):
                    pad = T.Select(channel == c, T.uint32(int(conv.pad_value[c])), pad)
                q = _masked(q, pad, mask)
            held[to] = T.bitwise_or(held[to], T.shift_left(q, T.uint32(8 * byte)))

    def _position(self, pixel: Expr) -> tuple[Expr, Expr]:
        """(y, x) of an output pixel; those past the last one are copies of it."""
        if self.pixels % self.plan.tile.rows:
            pixel = T.min(pixel, self.pixels - 1)
        return pixel // self.conv.out[1], pixel % self.conv.out[1]

    def _tap(self, y: Expr, x: Expr, kernel_y: Expr, kernel_x: Expr) -> tuple[Expr, Expr, Expr | None]:
        """Input pixel of a tap of output pixel (y, x), moved into the map, and a mask: all ones if it was there.

        ``None``: it always is. Loads of what is then masked out wait for memory together, behind branches they would
        not.
        """
        conv = self.conv
        inside: Expr | None = None
        position = []
        for axis, (out, kernel) in enumerate(((y, kernel_y), (x, kernel_x))):
            at = out * conv.stride[axis] + kernel - conv.padding[axis]
            last = (conv.out[axis] - 1) * conv.stride[axis] + conv.weight.shape[1 + axis] - 1 - conv.padding[axis]
            limits, moved = [], at
            if conv.padding[axis]:
                limits.append(at >= 0)
                moved = T.max(moved, 0)
            if last >= conv.source[axis]:
                limits.append(at < conv.source[axis])
                moved = T.min(moved, conv.source[axis] - 1)
            for limit in limits:
                one = T.cast(limit, "int32")
                inside = one if inside is None else T.bitwise_and(inside, one)
            position.append(moved)
        return position[0], position[1], None if inside is None else T.reinterpret("uint32", 0 - inside)

    def _requantize(
        self,
        block: Block,
        shifts: Registers,
        column_block: Expr,
        first: Expr,
        acc: Registers,
        target: Layout,
        channel: int,
    ) -> None:
        """Shift, clip, and store a lane's neighbouring channels of each of its pixels at once."""
        tile, conv = self.plan.tile, self.conv
        count, channels = tile.lane_channels, conv.out[2]
        whole = channel % count == 0 and channels % count == 0
        words = block.registers(count // 4, "uint32")
        with block.threads() as thread, self._owners(thread):
            own = column_block * tile.columns + self._lane_channel(thread)
            with block.unrolled(tile.row_tiles) as i, block.unrolled(2) as r:
                pixel = self._pixel(thread, first, i, r)

                def byte(c: int) -> Expr:
                    value = acc[(i * tile.column_tiles + c // 2) * 4 + r * 2 + c % 2]
                    moved = T.shift_right(value, shifts[c]) + conv.zero_point
                    return T.max(T.min(moved, 255), 0)

                at = target.address(block.image, 0, pixel, channel + own)
                with only(self._exists(pixel)):
                    if whole:
                        with only(own < channels if channels % tile.columns else None):
                            for word in range(count // 4):
                                value: Expr = T.uint32(0)
                                for c in range(4):
                                    q = T.cast(byte(word * 4 + c), "uint32")
                                    value = T.bitwise_or(value, T.shift_left(q, T.uint32(8 * c)))
                                words[word] = value
                            packed = T.reinterpret(f"uint8x{count}", words.lanes(0, count // 4))
                            block.out.store(at, packed, count)
                    else:  # words would overlap the neighbours of a concatenation
                        for c in range(count):
                            with only(own + c < channels):
                                block.out.store(at + c, T.cast(byte(c), "uint8"))


def _masked(value: Expr, pad: Expr, mask: Expr) -> Expr:
    """Bits of a value where the mask has ones, else of the pad value."""
    return T.bitwise_or(T.bitwise_and(value, mask), T.bitwise_and(pad, T.bitwise_not(mask)))


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
        spare: word of shared memory where each thread may store what is no item: without branches, the compiler keeps
            all loads in front of the first store.
        count: number of items.
        words: 32-bit words of an item.
        fetch: loads an item into registers, from one on; may return a mask.

    Returns:
        What stores the items in shared memory; it takes the word of an item there, and the byte for where masks are 0.
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
                    held[at] = _masked(held[at], T.uint32(pad * 0x01010101), masks[step])
            item = step * block.threads_count + thread
            at = T.Select(item < count, to(item), spare + thread * GROUP_WORDS) if uneven else to(item)
            block.shared.store(at, held.lanes(step * words, words), words)

    return store


def convolution_kernel(
    conv: Convolution, source: Layout, pooling: Pooling | None, isa: InstructionSet
) -> ConvolutionKernel:
    """Choose the tiles of a convolution and pack its constants.

    Args:
        conv: its parameters.
        source: layout of what it reads; with ``pooling``, of what is pooled first.
        pooling: in front of it, for 1x1 convolutions without stride and padding.
        isa: how it multiplies.
    """
    pixelwise = conv.weight.shape[1:3] == conv.stride == (1, 1) and not any(conv.padding)
    if pixelwise and pooling is None:  # rows do not matter
        pixels = source.height * source.width
        source = replace(source, height=1, width=pixels)
        conv = replace(conv, source=source.shape, out=(1, pixels, conv.out[2]))
    steps = -(-reduction_bytes(conv, source) // STEP_BYTES)
    plan = choose_tile(conv.out[0] * conv.out[1], conv.out[2], steps)
    return ConvolutionKernel(conv, source, pooling, isa, plan, pack(conv, source, plan))
