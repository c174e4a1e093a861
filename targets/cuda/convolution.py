"""Convolution as a matrix product: pixels of a block x window bytes, times window bytes x channels.

A block loads a chunk of both operands into shared memory (:mod:`.loading`), then its warps multiply from there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import Conv, Head, Tensor, rules
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cuda.elementwise import Pooling
from squeezeedge.targets.cuda.grid import WARP, Block, Expr, Memory, Registers, only
from squeezeedge.targets.cuda.isa import Operands
from squeezeedge.targets.cuda.layout import Layout
from squeezeedge.targets.cuda.loading import Loader
from squeezeedge.targets.cuda.packing import Packed, pack, reduction_bytes
from squeezeedge.targets.cuda.tiling import STEP_BYTES, Plan, choose_tile

__all__ = ["ConvolutionKernel", "convolution_kernel"]


@dataclass(frozen=True, eq=False)
class ConvolutionKernel:
    """One convolution of a kernel.

    Attributes:
        out: shape of its output as the kernel goes through it: the node's, or all pixels as one row.
        plan: its tiles.
        packed: its constants.
        loader: what it reads.
    """

    out: Shape
    plan: Plan
    packed: Packed
    loader: Loader

    @property
    def pixels(self) -> int:
        """Of the output map."""
        return self.out.height * self.out.width

    @property
    def row_blocks(self) -> int:
        """Tiles over the pixels."""
        return -(-self.pixels // self.plan.tile.rows)

    @property
    def column_blocks(self) -> int:
        """Tiles over the output channels."""
        return -(-self.out.channels // self.plan.tile.columns)

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
        """Words of shared memory for :meth:`store`."""
        return self.plan.shared

    @property
    def shared_of_sum(self) -> int:
        """Words of shared memory for :meth:`sum`."""
        return max(self.plan.shared, self.plan.tile.warp_rows * 8 * self.plan.tile.columns)

    def store(
        self,
        block: Block,
        arrays: tuple[Memory, Memory],
        index: Expr,
        target: Layout,
        channel: int,
        zero_point: int,
    ) -> None:
        """R3 of one block's tile.

        Args:
            block: where the code goes.
            arrays: weights and parameters.
            index: number of the block among the convolution's.
            target: layout of the output.
            channel: of the output, at which the convolution's begin.
            zero_point: of the output.
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
            self._requantize(block, shifts, column_block, first, acc, target, channel, zero_point)

    def sum(self, block: Block, arrays: tuple[Memory, Memory], index: Expr, relu: bool) -> None:
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
                        sums[j * 2 + e] = sums[j * 2 + e] + (T.max(value, 0) if relu else value)
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
                classes = self.out.channels
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
                self.loader.load(block, weights, column_block, first, chunk)
            with block.region(barrier=again or plan.chunks > 1 or tile.warp_steps > 1):
                with T.serial(0, plan.steps // tile.warp_steps) as round_:
                    block.isa.step(block, tile, acc, operands, round_)
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

    def _requantize(
        self,
        block: Block,
        shifts: Registers,
        column_block: Expr,
        first: Expr,
        acc: Registers,
        target: Layout,
        channel: int,
        zero_point: int,
    ) -> None:
        """Shift, clip, and store a lane's neighbouring channels of each of its pixels at once."""
        tile, channels = self.plan.tile, self.out.channels
        count = tile.lane_channels
        whole = channel % count == 0 and channels % count == 0
        words = block.registers(count // 4, "uint32")
        with block.threads() as thread, self._owners(thread):
            own = column_block * tile.columns + self._lane_channel(thread)
            with block.unrolled(tile.row_tiles) as i, block.unrolled(2) as r:
                pixel = self._pixel(thread, first, i, r)

                def byte(c: int) -> Expr:
                    value = acc[(i * tile.column_tiles + c // 2) * 4 + r * 2 + c % 2]
                    moved = T.shift_right(value, shifts[c]) + zero_point
                    return T.max(T.min(moved, rules.Q_MAX), 0)

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


def convolution_kernel(
    conv: Conv | Head, tensor: Tensor, out: Shape, index: int, source: Layout, pooling: Pooling | None
) -> ConvolutionKernel:
    """Choose the tiles of a convolution and pack its constants.

    Args:
        conv: its node.
        tensor: its input.
        out: shape of its output.
        index: of what it reads among its kernel's inputs.
        source: layout of that; with ``pooling``, of what is pooled first.
        pooling: in front of it, for 1x1 convolutions without stride and padding.

    Raises:
        UnsupportedError: a shift that the kernels do not have.
    """
    assert conv.groups == 1, f"{conv.name} has not been legalized"
    pixelwise = conv.weight.shape[1:3] == conv.stride == (1, 1) and not any(conv.padding)
    if pixelwise and pooling is None:  # rows do not matter
        pixels = source.height * source.width
        source = replace(source, height=1, width=pixels)
        out = Shape(1, pixels, out.channels)
    steps = -(-reduction_bytes(conv, source) // STEP_BYTES)
    plan = choose_tile(out.height * out.width, out.channels, steps)
    packed = pack(conv, tensor, source, plan)
    return ConvolutionKernel(out, plan, packed, Loader(conv, out, index, source, pooling, plan))
