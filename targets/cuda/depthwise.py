"""Depthwise convolution: a thread computes four neighbouring channels of a few neighbouring pixels, in registers.

A 32-bit load takes four channels of a pixel. Four such words, of pixels side by side, are transposed by eight byte
permutations into four neighbouring pixels of each channel; a dot product (``dp4a``) then multiplies four taps of a
kernel's row at a time. A tile of 2 x 2 pixels takes 80 of both instructions for the 144 products of a 3x3 kernel with
stride 1; multiplying byte by byte would take 144, and 64 more to take the words apart. There is no im2col, and shared
memory is used only where a kernel's rows are divided among threads: for large kernels on small maps, such as an average
over the whole map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Head, Tensor, rules
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.grid import Block, Expr, Memory, Registers, only
from squeezeedge.targets.cuda.layout import Layout, clamped, masked
from squeezeedge.targets.cuda.packing import Packed, pack_depthwise
from squeezeedge.targets.cuda.tiling import THREADS, WORD, ChannelPlan, choose_channel_tile

__all__ = ["DepthwiseKernel", "depthwise_kernel"]


@dataclass(frozen=True, eq=False)
class _Place:
    """What a thread computes.

    Attributes:
        part: which of the kernel's rows.
        y: first row of its pixels.
        x: first column of its pixels.
        word: which four channels.
        limits: conditions under which there is such a tile.
    """

    part: Expr
    y: Expr
    x: Expr
    word: Expr
    limits: Sequence[Expr]


@dataclass(frozen=True, eq=False)
class DepthwiseKernel:
    """One depthwise convolution of a kernel.

    Attributes:
        conv: its node.
        out: shape of its output.
        plan: its tiles.
        packed: its constants.
        source: layout of its input.
        input: which of its kernel's inputs that is.
    """

    conv: Conv | Head
    out: Shape
    plan: ChannelPlan
    packed: Packed
    source: Layout
    input: int

    @property
    def blocks(self) -> int:
        """Thread blocks of an image."""
        return self.plan.blocks(self.out)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of an image; those of taps that fill up are not counted."""
        tile, (kernel_h, kernel_w) = self.plan.tile, self.plan.kernel
        each = WORD * tile.rows * tile.columns * kernel_h * kernel_w
        return self.blocks * THREADS // tile.parts * each

    @property
    def shared(self) -> int:
        """Words of shared memory for :meth:`store`."""
        return self.plan.shared

    @property
    def shared_of_sum(self) -> int:
        """Words of shared memory for :meth:`sum`."""
        return self.plan.shared

    def store(
        self,
        block: Block,
        arrays: tuple[Memory, Memory],
        index: Expr,
        target: Layout,
        channel: int,
        zero_point: int,
    ) -> None:
        """R3 of one block's tiles; the arguments are those of :meth:`.convolution.ConvolutionKernel.store`."""
        shifts, word = block.registers(WORD, "int32"), block.registers(1, "uint32")
        acc = self._accumulate(block, arrays, index)
        last = channel + self.out.channels
        whole = channel % WORD == 0 and (last % WORD == 0 or last == target.channels)  # what fills up pixels is free
        with self._finished(block, index) as place:
            own = place.word * WORD
            shifts.load(0, WORD, arrays[1].load(self.plan.filled_channels + own, WORD))
            with self._pixels(block, place) as (y, x, first):
                at = target.address(block.image, y, x, channel + own)

                def byte(c: Expr) -> Expr:
                    moved = T.shift_right(acc[first + c], shifts[c]) + zero_point
                    return T.max(T.min(moved, rules.Q_MAX), 0)

                if whole:
                    word[0] = T.uint32(0)
                    for c in range(WORD):
                        word[0] = T.bitwise_or(word[0], T.shift_left(T.cast(byte(c), "uint32"), T.uint32(8 * c)))
                    block.out.store(at, T.reinterpret("uint8x4", word[0]), WORD)
                else:  # words would overlap the neighbours of a concatenation
                    with block.unrolled(WORD) as c, only(own + c < self.out.channels):
                        block.out.store(at + c, T.cast(byte(c), "uint8"))

    def sum(self, block: Block, arrays: tuple[Memory, Memory], index: Expr, relu: bool) -> None:
        """R6 of one block's tiles: clip at 0 where the network has that ReLU, add its pixels to ``out``."""
        sums = block.registers(WORD, "int32")
        acc = self._accumulate(block, arrays, index)
        with self._finished(block, index) as place:
            with block.unrolled(WORD) as c:
                sums[c] = T.int32(0)
            with self._pixels(block, place) as (_, _, first), block.unrolled(WORD) as c:
                sums[c] = sums[c] + (T.max(acc[first + c], 0) if relu else acc[first + c])
            classes = self.out.channels
            with block.unrolled(WORD) as c:
                channel = place.word * WORD + c
                with only(channel < classes if classes % WORD else None):
                    block.atomic_add(block.image * classes + channel, sums[c])

    def _place(self, index: Expr, thread: Expr) -> _Place:
        plan, tile = self.plan, self.plan.tile
        tile_blocks = plan.tile_blocks(self.out)
        across, tiles = plan.across(self.out), plan.tiles(self.out)
        word = index // tile_blocks * plan.lanes + thread % plan.lanes
        number = index % tile_blocks * plan.block_tiles + thread // plan.lanes % plan.block_tiles
        limits = [word < plan.words] if plan.words % plan.lanes else []
        limits += [number < tiles] if tiles % plan.block_tiles else []
        part = thread // (plan.lanes * plan.block_tiles)
        return _Place(part, number // across * tile.rows, number % across * tile.columns, word, limits)

    @contextmanager
    def _finished(self, block: Block, index: Expr) -> Iterator[_Place]:
        """Code of the threads that hold whole sums."""
        with block.region(barrier=False), block.threads() as thread:
            place = self._place(index, thread)
            with only(*place.limits, place.part == 0 if self.plan.tile.parts > 1 else None):
                yield place

    @contextmanager
    def _pixels(self, block: Block, place: _Place) -> Iterator[tuple[Expr, Expr, Expr]]:
        """Code for each pixel of a tile that the map has: (y, x, first of its accumulators)."""
        tile, (height, width, _) = self.plan.tile, self.out
        with block.unrolled(tile.rows) as i, only(place.y + i < height if height % tile.rows else None):
            with block.unrolled(tile.columns) as j, only(place.x + j < width if width % tile.columns else None):
                yield place.y + i, place.x + j, (i * tile.columns + j) * WORD

    def _accumulate(self, block: Block, arrays: tuple[Memory, Memory], index: Expr) -> Registers:
        """Accumulators of a thread's tile, [row][column][channel], in the threads of the first part."""
        plan, tile = self.plan, self.plan.tile
        acc = block.registers(plan.accumulators, "int32")
        weights = block.registers(plan.held or WORD, "uint32")
        channels = block.registers(WORD, "uint32")
        with block.region(barrier=tile.parts > 1), block.threads() as thread:
            place = self._place(index, thread)
            with only(*place.limits):
                self._start(block, arrays, place, acc, weights)
                with block.unrolled(plan.steps) if plan.unrolled else T.serial(0, plan.steps) as step:
                    with block.unrolled(plan.quads) if plan.unrolled else T.serial(0, plan.quads) as quad:
                        row = step * tile.parts + place.part if tile.parts > 1 else step
                        self._transpose(block, place, row, quad, channels)
                        self._multiply(block, arrays[0], place, row, quad, channels, weights, acc)
                if tile.parts > 1:
                    with only(place.part > 0), block.unrolled(plan.accumulators) as i:
                        block.shared.store(i * THREADS + thread, T.reinterpret("uint32", acc[i]))
        if tile.parts > 1:
            self._reduce(block, index, acc)
        return acc

    def _start(
        self, block: Block, arrays: tuple[Memory, Memory], place: _Place, acc: Registers, weights: Registers
    ) -> None:
        """Accumulators begin with the bias, in the first part; weights that are used several times are loaded."""
        plan, tile = self.plan, self.plan.tile
        bias = block.registers(WORD, "int32")
        bias.load(0, WORD, arrays[1].load(place.word * WORD, WORD))
        with block.unrolled(tile.rows * tile.columns) as i, block.unrolled(WORD) as c:
            acc[i * WORD + c] = bias[c] if tile.parts == 1 else T.Select(place.part == 0, bias[c], T.int32(0))
        if plan.held:
            with block.unrolled(plan.held // WORD) as i:
                weights.load(i * WORD, WORD, self._weights(arrays[0], place, i))

    def _weights(self, weights: Memory, place: _Place, which: Expr) -> Expr:
        """Four taps of each of a thread's channels."""
        return weights.load((which * (self.plan.filled_channels // WORD) + place.word) * WORD, WORD)

    def _transpose(self, block: Block, place: _Place, row: Expr, quad: Expr, channels: Registers) -> None:
        """Four neighbouring columns of a row of a tile's window, by channel; past the window's end, 0."""
        plan = self.plan
        pixels, halves = block.registers(4, "uint32"), block.registers(4, "uint32")
        with block.unrolled(4) as i:
            if plan.window_columns % 4:
                pixels[i] = T.uint32(0)
            with only(quad * 4 + i < plan.window_columns if plan.window_columns % 4 else None):
                pixels[i] = self._pixel(block, place, row, quad * 4 + i)
        for half, selector in enumerate((0x5140, 0x7362)):  # a, b -> a0 b0 a1 b1, a2 b2 a3 b3
            for pair in range(2):
                value = block.permute_bytes(pixels[2 * pair], pixels[2 * pair + 1], selector)
                halves[2 * half + pair] = value
        for c in range(WORD):
            first = c // 2 * 2
            channels[c] = block.permute_bytes(halves[first], halves[first + 1], (0x5410, 0x7632)[c % 2])

    def _pixel(self, block: Block, place: _Place, row: Expr, column: Expr) -> Expr:
        """Four channels of a pixel of a tile's window."""
        conv, plan, source = self.conv, self.plan, self.source
        position, mask = [], None
        for axis, (first, tap) in enumerate(((place.y, row), (place.x, column))):
            before, stride = conv.padding[axis], conv.stride[axis]
            last = plan.last(self.out, axis) - before
            at, inside = clamped(first * stride + tap - before, -before, last, source.shape[axis])
            position.append(at)
            if inside is not None:
                mask = inside if mask is None else T.bitwise_and(mask, inside)
        value = self._word(block, position[0], position[1], place.word)
        return value if mask is None else masked(value, T.uint32(self._pad), mask)

    def _word(self, block: Block, y: Expr, x: Expr, word: Expr) -> Expr:
        """Four channels of a pixel; the image's three byte by byte."""
        data, source = block.inputs[self.input], self.source
        at = source.address(block.image, y, x, word * WORD)
        if not source.packed:
            return T.reinterpret("uint32", data.load(at, WORD))
        value: Expr = T.uint32(0)
        for byte in range(source.channels):
            value = T.bitwise_or(value, T.shift_left(T.cast(data.load(at + byte), "uint32"), T.uint32(8 * byte)))
        return value

    @property
    def _pad(self) -> int:
        """A padded pixel's four channels: only the image's differ (R2)."""
        pads = np.resize(self.conv.pad_value, WORD)
        return int.from_bytes(pads.tobytes(), "little")

    def _multiply(
        self,
        block: Block,
        memory: Memory,
        place: _Place,
        row: Expr,
        quad: Expr,
        channels: Registers,
        weights: Registers,
        acc: Registers,
    ) -> None:
        """Add the products of four columns of a row of the window to every pixel whose own window has some of them."""
        plan, tile = self.plan, self.plan.tile
        (kernel_h, kernel_w), (down, right) = plan.kernel, plan.stride
        with block.unrolled(tile.rows) as i, block.unrolled(tile.columns) as j:
            tap = row - i * down
            first = quad * 4 - j * right
            limits = [tap >= 0, tap < kernel_h] if tile.rows > 1 else []
            limits += [first > -4, first < kernel_w] if tile.columns > 1 else []
            with only(*limits):
                which = (tap * plan.quads + quad) * tile.columns + j
                if not plan.held:
                    weights.load(0, WORD, self._weights(memory, place, which))
                base = which * WORD if plan.held else 0
                with block.unrolled(WORD) as c:
                    at = (i * tile.columns + j) * WORD + c
                    acc[at] = block.dot(channels[c], weights[base + c], acc[at])

    def _reduce(self, block: Block, index: Expr, acc: Registers) -> None:
        """Add the sums of the other parts, modulo 2**32."""
        plan = self.plan
        apart = plan.lanes * plan.block_tiles
        with block.region(barrier=False), block.threads() as thread:
            place = self._place(index, thread)
            with only(*place.limits, place.part == 0):
                with block.unrolled(plan.accumulators) as i, block.unrolled(plan.tile.parts - 1) as part:
                    held = block.shared.load(i * THREADS + thread + (part + 1) * apart)
                    total = T.cast(acc[i], "int64") + T.cast(T.reinterpret("int32", held), "int64")
                    acc[i] = T.cast(total, "int32")


def depthwise_kernel(conv: Conv | Head, tensor: Tensor, out: Shape, index: int, source: Layout) -> DepthwiseKernel:
    """Choose the tiles of a depthwise convolution and pack its constants.

    Args:
        conv: its node.
        tensor: its input.
        out: shape of its output.
        index: of what it reads among its kernel's inputs.
        source: layout of that.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    kernel_h, kernel_w = conv.weight.shape[1:3]
    plan = choose_channel_tile(out, (kernel_h, kernel_w), conv.stride)
    return DepthwiseKernel(conv, out, plan, pack_depthwise(conv, tensor, plan), source, index)
