"""The extended instructions: what they refuse, and their meaning output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.state import State

GEOMETRY = Geometry()
OFFSETS = (0, 9, 4)
"""Of the micro-ops."""

POOL = XPool(
    sram_base=2040,
    dram_base=5,
    kernel_h=3,
    kernel_w=2,
    stride_h=2,
    stride_w=3,
    y_size=3,
    x_size=4,
    x_stride=7,
    rows=5,
    cols=10,
    pad_top=1,
    pad_left=1,
)


@pytest.fixture
def state() -> State:
    """Random numbers everywhere that no sum of a few of them overflows."""
    random = np.random.default_rng(0)
    made = State(GEOMETRY, np.zeros(1 << 16, np.uint8))
    made.uop[: len(OFFSETS)] = [MicroOp(src=offset).encode(GEOMETRY) for offset in OFFSETS]
    for array in (made.wgt, made.inp, made.out):
        array[:] = random.integers(-128, 128, array.shape)
    for wide in (made.acc, made.bias):
        wide[:] = random.integers(-50000, 50000, wide.shape)
    made.shift[:] = random.integers(0, 16, made.shift.shape)
    return made


def gemm(epilogue: Epilogue, **flags: bool) -> XGemm:
    return XGemm(
        uop_bgn=0,
        uops=len(OFFSETS),
        blocks=2,
        rows=3,
        cols=4,
        epilogue=epilogue,
        src_base=2040,
        dst_base=2046,
        wgt_base=1020,
        src_row=20,
        dst_block=14,
        src_col=2,
        par=127,
        **flags,
    )


def outputs(state: State) -> NDArray[np.int64]:
    """The sums of :func:`gemm` without bias: [blocks, outputs, block]; every index wraps."""
    sums = np.zeros((2, 12, 16), np.int64)
    for block in range(2):
        for y in range(3):
            for x in range(4):
                for tap, offset in enumerate(OFFSETS):
                    weight = state.wgt[(1020 + block * len(OFFSETS) + tap) % 1024].astype(int)
                    sums[block, y * 4 + x] += weight @ state.inp[(2040 + y * 20 + x * 2 + offset) % 2048].astype(int)
    return sums


def bias(state: State) -> NDArray[np.int64]:
    return state.bias[[127, 0]].astype(np.int64)[:, None]


def places(each: int) -> NDArray[np.int64]:
    return (2046 + np.arange(2)[:, None] * 14 + np.arange(each)) % 2048


@pytest.mark.parametrize("low", [False, True])
def test_outputs_are_requantized(state: State, low: bool) -> None:
    expected = (outputs(state) + bias(state) >> state.shift[[127, 0]][:, None]) - (128 if low else 0)
    gemm(Epilogue.OUT, low=low).execute(state)
    np.testing.assert_array_equal(state.out[places(12)], expected.clip(-128, 127))


@pytest.mark.parametrize("accumulate", [False, True])
def test_accumulators_continue_or_begin_at_the_bias(state: State, accumulate: bool) -> None:
    expected = outputs(state) + (state.acc[places(12)] if accumulate else bias(state))
    gemm(Epilogue.ACC, accumulate=accumulate).execute(state)
    np.testing.assert_array_equal(state.acc[places(12)], expected)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_totals(state: State, relu: bool, accumulate: bool) -> None:
    sums = outputs(state) + bias(state)
    expected = (np.maximum(sums, 0) if relu else sums).sum(1, keepdims=True)
    expected += state.acc[places(1)] if accumulate else 0
    gemm(Epilogue.SUM, relu=relu, accumulate=accumulate).execute(state)
    np.testing.assert_array_equal(state.acc[places(1)], expected)


def test_steps_and_units() -> None:
    instruction = gemm(Epilogue.OUT)
    assert (instruction.steps, instruction.unit, instruction.is_extended) == (2 * 3 * 4 * 3, "gemm", True)
    add = XAdd(blocks=2, count=5, par=0, a_base=0, b_base=0, dst_base=0)
    assert (add.steps, add.unit) == (10, "alu")
    assert POOL.unit == "pool" and POOL.bytes_moved(GEOMETRY) == 3 * 4 * 16


def test_windows_count_only_what_is_inside(state: State) -> None:
    tile = state.out[(2040 + np.arange(50)) % 2048].reshape(5, 10, 16)
    POOL.execute(state)
    stored = state.dram.view(np.int8).reshape(-1, 16)
    for y in range(3):
        for x in range(4):
            top, left = 2 * y - 1, 3 * x - 1
            window = tile[max(top, 0) : top + 3, max(left, 0) : left + 2]
            np.testing.assert_array_equal(stored[5 + 7 * y + x], window.max((0, 1)))
    replace(POOL, rows=0, cols=0, dram_base=100).execute(state)
    assert (stored[100:104] == -128).all(), "a window without a pixel"


@pytest.mark.parametrize("low", [False, True])
def test_sums_of_two_tensors(state: State, low: bool) -> None:
    XAdd(blocks=2, count=5, par=3, low=low, a_base=2045, b_base=100, dst_base=2044).execute(state)
    for block in range(2):
        for i in range(5):
            j = block * 5 + i
            first = state.inp[(2045 + j) % 2048].astype(int) + state.bias[3 + 2 * block] >> state.shift[3 + 2 * block]
            second = state.inp[100 + j].astype(int) + state.bias[4 + 2 * block] >> state.shift[4 + 2 * block]
            expected = (first + second - (128 if low else 0)).clip(-128, 127)
            np.testing.assert_array_equal(state.out[(2044 + j) % 2048], expected)


REFUSED: Mapping[str, Instruction] = {
    "no micro-ops": XGemm(
        uop_bgn=0, uops=0, blocks=1, rows=1, cols=1, epilogue=Epilogue.OUT, src_base=0, dst_base=0, wgt_base=0
    ),
    "more outputs than the memory has": XGemm(
        uop_bgn=0, uops=1, blocks=1, rows=255, cols=9, epilogue=Epilogue.OUT, src_base=0, dst_base=0, wgt_base=0
    ),
    "kernel and stride must be positive": replace(POOL, stride_w=0),
    "more elements than the out memory has": replace(POOL, rows=255, cols=9),
    "more elements than the inp memory has": XAdd(blocks=3, count=700, par=0, a_base=0, b_base=0, dst_base=0),
    "the store module has no next module": replace(POOL, push_next=True),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_hardware_lacks_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match=text):
        REFUSED[text].encode(GEOMETRY)
