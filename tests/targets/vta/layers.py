"""Layers as programs, written by hand, and their meaning in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.extension import Epilogue, XGemm
from squeezeedge.targets.vta.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa import Finish, Load, Store
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from tests.targets.vta.image import Image, blocked, weight_elements


def row(memory: Memory, size: int, *, sram: int = 0, dram: int = 0, **tokens: bool) -> Load:
    return Load(memory=memory, sram_base=sram, dram_base=dram, y_size=1, x_size=size, x_stride=size, **tokens)


def requantize(acc: NDArray[np.int64], shift: NDArray[np.int64], zero_point: int) -> NDArray[np.int64]:
    """R3, in q."""
    return (((acc + ((1 << shift) >> 1)) >> shift) + zero_point).clip(0, 255)


def convolve(q: NDArray[np.int64], weight: NDArray[np.int8], stride: int, pad: int) -> NDArray[np.int64]:
    """Sum of w * (q - 0) with zero padding: [H, W, in] -> [H', W', out]."""
    padded = np.pad(q, ((pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[1:3], (0, 1))[::stride, ::stride]
    return np.einsum("yxihw,ohwi->yxo", windows, weight.astype(np.int64))


def tiled_convolution(geometry: Geometry, kernel: int, stride: int, zero_point: int) -> tuple[Image, NDArray[np.int64]]:
    """A convolution in two tiles of rows, double-buffered, and its result in q: int64 [rows, columns, channels]."""
    block = geometry.block
    random = np.random.default_rng(kernel)
    height, width, ci, co, pad = 9, 11, 2, 3, kernel // 2
    q = random.integers(0, 256, (height, width, ci * block))
    weight = random.integers(-127, 128, (co * block, kernel, kernel, ci * block), dtype=np.int8)
    bias, shift = random.integers(-(1 << 20), 1 << 20, co * block), random.integers(0, 16, co * block)
    fold = bias + 128 * weight.sum((1, 2, 3), dtype=np.int64) + ((1 << shift) >> 1)
    expected = requantize(convolve(q, weight, stride, pad) + bias, shift, zero_point)
    rows, cols = expected.shape[:2]

    pitch = width + 2 * pad
    tiles = np.array_split(np.arange(rows), 2)
    half_inp, half_out = geometry.depth(Memory.INP) // 2, geometry.depth(Memory.OUT) // 2
    tall = (len(tiles[0]) - 1) * stride + kernel  # rows of a tile's input on the chip, the same for both tiles
    micro_ops = [
        MicroOp(src=(block_in * tall + ky) * pitch + kx)
        for ky in range(kernel)
        for kx in range(kernel)
        for block_in in range(ci)
    ]
    taps = len(micro_ops)
    program: list[Instruction] = [
        row(Memory.UOP, taps),
        row(Memory.WGT, taps * co),
        row(Memory.PAR, co),
    ]
    for number, tile in enumerate(tiles):
        top = int(tile[0]) * stride - pad
        first, end = max(top, 0), min(top + tall, height)
        for block_in in range(ci):
            program.append(
                Load(
                    memory=Memory.INP,
                    sram_base=number * half_inp + block_in * tall * pitch,
                    dram_base=(block_in * height + first) * width,
                    y_size=end - first,
                    x_size=width,
                    x_stride=width,
                    y_pad_0=first - top,
                    y_pad_1=top + tall - end,
                    x_pad_0=pad,
                    x_pad_1=pad,
                    pad_low=True,
                    push_next=block_in == ci - 1,
                )
            )
        program.append(
            XGemm(
                uop_bgn=0,
                uops=taps,
                blocks=co,
                rows=len(tile),
                cols=cols,
                epilogue=Epilogue.OUT,
                low=zero_point == 0,
                src_base=number * half_inp,
                dst_base=number * half_out,
                wgt_base=0,
                src_row=stride * pitch,
                dst_block=len(tile) * cols,
                src_col=stride,
                pop_prev=True,
                push_next=True,
            )
        )
        program.append(
            Store(
                memory=Memory.OUT,
                sram_base=number * half_out,
                dram_base=int(tile[0]) * cols,
                y_size=co,
                x_size=len(tile) * cols,
                x_stride=rows * cols,
                pop_prev=True,
            )
        )
    image = Image(geometry)
    image.program([*program, Finish()], micro_ops, "extended")
    image.add("inp", blocked((q - 128).astype(np.int8), block))
    image.add("wgt", weight_elements(weight, block))
    image.parameters(fold, shift)
    image.add("out", np.zeros(rows * cols * co * block, np.int8))
    return image, expected
