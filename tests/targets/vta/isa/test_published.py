"""The published instructions: layout, what the hardware does not do, meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction, slots
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.state import State
from squeezeedge.targets.vta.isa.words import decode, encode

TRANSFER = {"memory": (0, 7, 3), "sram_base": (0, 10, 16), "dram_base": (0, 26, 32)}
TRANSFER |= {"y_size": (1, 0, 16), "x_size": (1, 16, 16), "x_stride": (1, 32, 16)}
LOOPS = {"reset": (0, 7, 1), "uop_bgn": (0, 8, 13), "uop_end": (0, 21, 14), "iter_out": (0, 35, 14)}
LOOPS |= {"iter_in": (0, 49, 14), "dst_out": (1, 0, 11), "dst_in": (1, 11, 11)}
LOOPS |= {"src_out": (1, 22, 11), "src_in": (1, 33, 11)}
PUBLISHED: dict[type[Instruction], dict[str, tuple[int, int, int]]] = {
    Load: {**TRANSFER, "y_pad_0": (1, 48, 4), "y_pad_1": (1, 52, 4), "x_pad_0": (1, 56, 4), "x_pad_1": (1, 60, 4)},
    Store: TRANSFER,
    Gemm: {**LOOPS, "wgt_out": (1, 44, 10), "wgt_in": (1, 54, 10)},
    Alu: {**LOOPS, "op": (1, 44, 3), "use_imm": (1, 47, 1), "imm": (1, 48, 16)},
    Finish: {},
}
"""(word, lowest bit, bits) in the default geometry, from the published hardware specification."""


@pytest.mark.parametrize("instruction", PUBLISHED)
def test_published_layout(instruction: type[Instruction]) -> None:
    tokens = {"pop_prev": (0, 3, 1), "pop_next": (0, 4, 1), "push_prev": (0, 5, 1), "push_next": (0, 6, 1)}
    layout = {
        slot.name: (slot.word, slot.low, slot.width) for slot in slots(instruction, Geometry()) if not slot.extended
    }
    assert layout == {**tokens, **PUBLISHED[instruction]}


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (Load(memory=Memory.OUT, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1), "cannot be loaded"),
        (Load(memory=Memory.UOP, sram_base=0, dram_base=0, y_size=2, x_size=1, x_stride=1), "one row"),
        (Load(memory=Memory.WGT, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, x_pad_0=1), "no padding"),
        (Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=2049, x_stride=1), "more elements"),
        (
            Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, pop_prev=True),
            "no previous",
        ),
        (Load(memory=Memory.INP, sram_base=0, dram_base=1 << 32, y_size=1, x_size=1, x_stride=1), "32 bits"),
        (Store(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1), "cannot be stored"),
        (Store(memory=Memory.OUT, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, push_next=True), "no next"),
        (Gemm(uop_bgn=0, uop_end=8192, iter_out=16383, iter_in=16383), "too many steps"),
        (Gemm(uop_bgn=8192, uop_end=8192, iter_out=1, iter_in=1), "13 bits"),
        (Alu(op=AluOp.ADD, uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, imm=1 << 15), "16 bits"),
        (Alu(op=AluOp.ADD, uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, imm=-(1 << 15) - 1), "16 bits"),
    ],
)
def test_what_the_hardware_lacks_is_refused(instruction: Instruction, text: str) -> None:
    with pytest.raises(UnsupportedError, match=f"instruction 1: .*{text}"):
        encode([Finish(), instruction], Geometry(), "published")


def test_multiplication_is_refused() -> None:
    words = encode([Alu(op=AluOp.SHR, uop_bgn=0, uop_end=1, iter_out=1, iter_in=1)], Geometry(), "published")
    words[0, 1] ^= np.uint64(7 << 44)  # 3 -> 4
    with pytest.raises(CorruptFileError, match="op = 4"):
        decode(words, Geometry(), "published")


@pytest.fixture
def state() -> State:
    made = State(Geometry(), np.arange(4096).astype(np.uint8))
    made.uop[:2] = [MicroOp(dst=1, src=2, wgt=3).encode(Geometry()), MicroOp(dst=2, src=0, wgt=1).encode(Geometry())]
    return made


@pytest.mark.parametrize(("pad_low", "fill"), [(False, 0), (True, -128)])
def test_a_load_pads_around_its_rows(state: State, pad_low: bool, fill: int) -> None:
    load = Load(
        memory=Memory.INP,
        sram_base=2046,
        dram_base=1,
        y_size=2,
        x_size=3,
        x_stride=10,
        y_pad_0=1,
        x_pad_0=1,
        x_pad_1=2,
        pad_low=pad_low,
    )
    load.execute(state)
    tile = state.inp[(2046 + np.arange(18)) % 2048].reshape(3, 6, 16)
    rows = np.arange(4096).astype(np.uint8).view(np.int8).reshape(256, 16)
    np.testing.assert_array_equal(tile[1:, 1:4], [rows[1:4], rows[11:14]])
    padding = np.ones((3, 6), bool)
    padding[1:, 1:4] = False
    assert (tile[padding] == fill).all()
    assert load.bytes_moved(Geometry()) == 6 * 16 and (load.height, load.width) == (3, 6)


def test_a_store_writes_what_load_reads(state: State) -> None:
    state.out[:6] = np.arange(96).reshape(6, 16)
    Store(memory=Memory.OUT, sram_base=0, dram_base=4, y_size=2, x_size=3, x_stride=5).execute(state)
    stored = state.dram.view(np.int8).reshape(256, 16)
    np.testing.assert_array_equal(stored[[4, 5, 6, 9, 10, 11]], state.out[:6])
    state.acc[7] = np.arange(16) - (1 << 30)
    Store(memory=Memory.ACC, sram_base=7, dram_base=2, y_size=1, x_size=1, x_stride=1).execute(state)
    Load(memory=Memory.ACC, sram_base=8, dram_base=2, y_size=1, x_size=1, x_stride=1).execute(state)
    np.testing.assert_array_equal(state.acc[8], state.acc[7])


def test_products_of_every_micro_op_in_two_loops(state: State) -> None:
    random = np.random.default_rng(0)
    state.inp[:] = random.integers(-128, 128, state.inp.shape)
    state.wgt[:] = random.integers(-128, 128, state.wgt.shape)
    state.acc[:] = random.integers(-1000, 1000, state.acc.shape)
    expected = state.acc.astype(np.int64)
    for y in range(3):
        for x in range(2):
            for dst, src, wgt in ((1, 2, 3), (2, 0, 1)):
                product = state.wgt[wgt + 5 * y + x].astype(int) @ state.inp[src + 7 * y + 2 * x].astype(int)
                expected[dst + 20 * y + 4 * x] += product
    gemm = Gemm(
        uop_bgn=0,
        uop_end=2,
        iter_out=3,
        iter_in=2,
        dst_out=20,
        dst_in=4,
        src_out=7,
        src_in=2,
        wgt_out=5,
        wgt_in=1,
    )
    gemm.execute(state)
    np.testing.assert_array_equal(state.acc, expected)
    np.testing.assert_array_equal(state.out[46], expected[46].astype(np.int8), "the low 8 bits")
    assert gemm.steps == 12 and gemm.unit == "gemm"
    replace(gemm, reset=True).execute(state)
    assert not state.acc[[1, 2, 5, 6, 21, 22, 25, 26, 41, 42, 45, 46]].any() and state.acc[3].any()


@pytest.mark.parametrize(
    ("op", "imm", "result"),
    [
        (AluOp.MIN, -3, [-9, -3, -3]),
        (AluOp.MAX, 4, [4, 4, 5]),
        (AluOp.ADD, 2**15 - 1, [2**15 - 10, 2**15 - 1, 2**15 + 4]),
        (AluOp.SHR, 1, [-5, 0, 2]),
        (AluOp.SHR, -16, [-9 << 16, 0, 5 << 16]),
    ],
)
def test_vector_operations(state: State, op: AluOp, imm: int, result: list[int]) -> None:
    """With an immediate, and with an accumulator that holds the same."""
    first = np.resize([-9, 0, 5], 16)
    for use_imm in (True, False):
        state.acc[1], state.acc[2] = first, imm
        Alu(op=op, uop_bgn=0, uop_end=1, iter_out=1, iter_in=1, use_imm=use_imm, imm=imm if use_imm else 0).execute(
            state
        )
        np.testing.assert_array_equal(state.acc[1], np.resize(result, 16))
        np.testing.assert_array_equal(state.out[1], np.resize(result, 16).astype(np.int8))
