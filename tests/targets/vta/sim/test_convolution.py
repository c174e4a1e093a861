"""Small layers by hand, in both instruction sets, against R3, R5 and R6 in plain numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Store
from squeezeedge.targets.vta.sim.simulator import Simulator
from tests.targets.vta.image import Image, blocked, unblocked, weight_elements
from tests.targets.vta.layers import convolve, requantize, row, tiled_convolution


@pytest.fixture(scope="module", params=["pynq-z2", "zcu104-block32"])
def simulator(request: pytest.FixtureRequest) -> Simulator:
    return Simulator(load_config(request.param).geometry)


def test_pointwise_convolution_in_published_instructions() -> None:
    """The epilogue takes four ALU passes; bias, rounding, zero points are folded into one vector."""
    geometry = Geometry()
    random = np.random.default_rng(0)
    pixels, ci, co = 40, 4, 2
    q = random.integers(0, 256, (1, pixels, ci * 16))
    weight = random.integers(-127, 128, (co * 16, 1, 1, ci * 16), dtype=np.int8)
    bias, shift = random.integers(-20000, 20000, co * 16), random.integers(0, 16, co * 16)
    fold = bias + 128 * weight.sum((1, 2, 3), dtype=np.int64) + ((1 << shift) >> 1) - (128 << shift)
    vectors = np.stack([fold.reshape(co, 16), shift.reshape(co, 16)], 1).astype("<i4")  # block, (bias, shift)

    first = co * pixels  # of the vectors in the accumulator memory
    micro_ops = [MicroOp(), MicroOp(src=first), MicroOp(src=first + 1)]
    micro_ops += [MicroOp(src=i * pixels, wgt=i) for i in range(ci)]
    loop = Gemm(uop_bgn=0, uop_end=1, iter_out=co, iter_in=pixels, dst_out=pixels, dst_in=1)
    vector = Alu(op=AluOp.ADD, uop_bgn=1, uop_end=2, iter_out=co, iter_in=pixels, dst_out=pixels, dst_in=1, src_out=2)
    program: list[Instruction] = [
        row(Memory.UOP, len(micro_ops)),
        row(Memory.ACC, 2 * co, sram=first),
        row(Memory.INP, ci * pixels),
        row(Memory.WGT, ci * co, push_next=True),
        replace(loop, reset=True, pop_prev=True),
    ]
    for i in range(ci):  # the reduction is outside, so that no accumulator comes again within the pipeline's depth
        program.append(replace(loop, uop_bgn=3 + i, uop_end=4 + i, src_in=1, wgt_out=ci))
    scalar = replace(vector, uop_bgn=0, uop_end=1, src_out=0, use_imm=True)
    program += [
        vector,
        replace(vector, op=AluOp.SHR, uop_bgn=2, uop_end=3),
        replace(scalar, op=AluOp.MAX, imm=-128),
        replace(scalar, op=AluOp.MIN, imm=127, push_next=True),
        Store(memory=Memory.OUT, sram_base=0, dram_base=0, y_size=1, x_size=first, x_stride=first, pop_prev=True),
        Finish(),
    ]
    image = Image(geometry)
    image.program(program, micro_ops, "published")
    image.add("inp", blocked((q - 128).astype(np.int8), 16))
    image.add("wgt", weight_elements(weight, 16))
    image.add("acc", vectors)
    image.add("out", np.zeros(first * 16, np.int8))
    dram, registers = image.build()
    Simulator(geometry).run(dram, registers)
    stored = unblocked(image.region(dram, "out", "i1", first * 16).reshape(co, 1, pixels, 16))
    expected = requantize(convolve(q, weight, 1, 0) + bias, shift, 0)
    assert np.array_equal(stored.astype(int) + 128, expected)


@pytest.mark.parametrize(("kernel", "stride", "zero_point"), [(1, 1, 0), (3, 1, 128), (3, 2, 0), (5, 3, 0)])
def test_convolution_in_one_pass(simulator: Simulator, kernel: int, stride: int, zero_point: int) -> None:
    """XGEMM: two tiles of rows, double-buffered; padding by the load; zero point 0 or 128 of the output."""
    image, expected = tiled_convolution(simulator.geometry, kernel, stride, zero_point)
    dram, registers = image.build()
    report = simulator.run(dram, registers)
    block = simulator.geometry.block
    rows, cols, channels = expected.shape
    stored = unblocked(image.region(dram, "out", "i1", expected.size).reshape(channels // block, rows, cols, block))
    assert np.array_equal(stored.astype(int) + 128, expected)
    assert report.gemm_steps == rows * cols * channels // block * 2 * kernel**2  # two blocks of input channels


def test_pooled_convolution_and_class_sums(simulator: Simulator) -> None:
    """A 1x1 convolution stored through a ceil-mode 3x3/2 window (R5), and the head's sums as int32 (R6)."""
    geometry = simulator.geometry
    block = geometry.block
    random = np.random.default_rng(1)
    height, width, ci, co = 8, 10, 2, 2
    q = random.integers(0, 256, (height, width, ci * block))
    weight = random.integers(-127, 128, (co * block, 1, 1, ci * block), dtype=np.int8)
    bias, shift = random.integers(-9000, 9000, co * block), np.full(co * block, 9)
    acc = convolve(q, weight, 1, 0) + bias
    value = requantize(acc, shift, 0)
    pooled = np.array(
        [[value[y : y + 3, x : x + 3].max((0, 1)) for x in range(0, width - 1, 2)] for y in range(0, height - 1, 2)]
    )
    rows, cols = pooled.shape[:2]
    fold = bias + 128 * weight.sum((1, 2, 3), dtype=np.int64)

    gemm = XGemm(
        uop_bgn=0,
        uops=ci,
        blocks=co,
        rows=height,
        cols=width,
        epilogue=Epilogue.OUT,
        low=True,
        src_base=0,
        dst_base=0,
        wgt_base=0,
        src_row=width,
        dst_block=height * width,
        src_col=1,
        pop_prev=True,
        push_next=True,
    )
    pools = [
        XPool(
            sram_base=b * height * width,
            dram_base=b * rows * cols,
            kernel_h=3,
            kernel_w=3,
            stride_h=2,
            stride_w=2,
            y_size=rows,
            x_size=cols,
            x_stride=cols,
            rows=height,
            cols=width,
            pop_prev=b == 0,
        )
        for b in range(co)
    ]
    sums = replace(
        gemm, epilogue=Epilogue.SUM, relu=True, low=False, dst_block=1, par=co, pop_prev=False, push_next=False
    )
    halves = [replace(sums, rows=3), replace(sums, rows=5, src_base=3 * width, accumulate=True)]
    program: list[Instruction] = [
        row(Memory.UOP, ci),
        row(Memory.WGT, ci * co),
        row(Memory.PAR, 2 * co),
        row(Memory.INP, ci * height * width, push_next=True),
        gemm,
        *pools,
        *halves,
        Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=co, x_stride=co),
        Finish(),
    ]
    image = Image(geometry)
    image.program(program, [MicroOp(src=i * height * width) for i in range(ci)], "extended")
    image.add("inp", blocked((q - 128).astype(np.int8), block))
    image.add("wgt", weight_elements(weight, block))
    image.parameters(np.concatenate([fold + 256, fold]), np.concatenate([shift, 0 * shift]))  # 256: rounding of k = 9
    image.add("out", np.zeros(pooled.size, np.int8))
    image.add("acc", np.zeros(co * block, np.int32))
    dram, registers = image.build()
    simulator.run(dram, registers)
    stored = unblocked(image.region(dram, "out", "i1", pooled.size).reshape(co, rows, cols, block))
    assert np.array_equal(stored.astype(int) + 128, pooled)
    assert np.array_equal(image.region(dram, "acc", "<i4", co * block), np.maximum(acc, 0).sum((0, 1)))


@pytest.mark.parametrize("zero_points", [(0, 0, 0), (0, 128, 128), (128, 128, 0)])
def test_addition(simulator: Simulator, zero_points: tuple[int, int, int]) -> None:
    """R5 with shifts per channel and operand; the result goes from the input memory to the outputs."""
    geometry = simulator.geometry
    block = geometry.block
    random = np.random.default_rng(2)
    blocks, count = 3, 20
    a, b = random.integers(0, 256, (2, 1, count, blocks * block))
    shift = random.integers(0, 4, (2, blocks * block))
    za, zb, z = zero_points
    rounded = [(q - zero + ((1 << k) >> 1)) >> k for q, zero, k in ((a, za, shift[0]), (b, zb, shift[1]))]
    expected = (rounded[0] + rounded[1] + z).clip(0, 255)

    bias = np.stack([128 - zero + ((1 << k) >> 1) for zero, k in ((za, shift[0]), (zb, shift[1]))])
    interleaved = [v.reshape(2, blocks, block).transpose(1, 0, 2).reshape(-1) for v in (bias, shift)]
    size = blocks * count
    program: list[Instruction] = [
        row(Memory.PAR, 2 * blocks),
        row(Memory.INP, 2 * size, push_next=True),
        XAdd(
            blocks=blocks,
            count=count,
            par=0,
            low=z == 0,
            a_base=0,
            b_base=size,
            dst_base=7,
            pop_prev=True,
            push_next=True,
        ),
        Store(memory=Memory.OUT, sram_base=7, dram_base=0, y_size=1, x_size=size, x_stride=size, pop_prev=True),
        Finish(),
    ]
    image = Image(geometry)
    image.program(program, [MicroOp()], "extended")
    image.add("inp", np.stack([blocked((q - 128).astype(np.int8), block) for q in (a, b)]))
    image.parameters(*interleaved)
    image.add("out", np.zeros(size * block, np.int8))
    dram, registers = image.build()
    simulator.run(dram, registers)
    stored = unblocked(image.region(dram, "out", "i1", size * block).reshape(blocks, 1, count, block))
    assert np.array_equal(stored.astype(int) + 128, expected)
