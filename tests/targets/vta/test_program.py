"""Layout, round trip and listing of programs."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction, slots
from squeezeedge.targets.vta.extension import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.micro_op import MicroOp
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS, decode, disassemble, encode, encode_micro_ops
from tests.targets.vta.strategies import with_tokens

GEOMETRIES = [load_config().geometry, load_config("zcu104-block32").geometry]

TRANSFER = {"memory": (0, 7, 3), "sram_base": (0, 10, 16), "dram_base": (0, 26, 32)}
TRANSFER |= {"y_size": (1, 0, 16), "x_size": (1, 16, 16), "x_stride": (1, 32, 16)}
LOOPS = {"reset": (0, 7, 1), "uop_bgn": (0, 8, 13), "uop_end": (0, 21, 14), "iter_out": (0, 35, 14)}
LOOPS |= {"iter_in": (0, 49, 14), "dst_out": (1, 0, 11), "dst_in": (1, 11, 11)}
LOOPS |= {"src_out": (1, 22, 11), "src_in": (1, 33, 11)}
PUBLISHED = {
    Load: {**TRANSFER, "y_pad_0": (1, 48, 4), "y_pad_1": (1, 52, 4), "x_pad_0": (1, 56, 4), "x_pad_1": (1, 60, 4)},
    Store: TRANSFER,
    Gemm: {**LOOPS, "wgt_out": (1, 44, 10), "wgt_in": (1, 54, 10)},
    Alu: {**LOOPS, "op": (1, 44, 3), "use_imm": (1, 47, 1), "imm": (1, 48, 16)},
    Finish: {},
}
"""(word, lowest bit, bits) in the default geometry, from the published hardware specification."""

EXAMPLES: list[Instruction] = [
    Load(memory=Memory.UOP, sram_base=0, dram_base=64, y_size=1, x_size=9, x_stride=9),
    Load(memory=Memory.PAR, sram_base=2, dram_base=3, y_size=1, x_size=4, x_stride=4),
    Load(
        memory=Memory.INP,
        sram_base=5,
        dram_base=70000,
        y_size=3,
        x_size=55,
        x_stride=57,
        y_pad_0=1,
        x_pad_0=1,
        x_pad_1=1,
        pad_low=True,
        pop_next=True,
    ),
    Load(memory=Memory.WGT, sram_base=0, dram_base=12, y_size=1, x_size=36, x_stride=36, push_next=True),
    Gemm(reset=True, uop_bgn=0, uop_end=1, iter_out=2, iter_in=40, dst_out=40, dst_in=1, pop_prev=True),
    Gemm(uop_bgn=3, uop_end=4, iter_out=2, iter_in=40, dst_out=40, dst_in=1, src_in=1, wgt_out=4, push_prev=True),
    Alu(op=AluOp.SHR, uop_bgn=1, uop_end=2, iter_out=2, iter_in=40, dst_out=40, dst_in=1, src_out=2),
    Alu(op=AluOp.MAX, uop_bgn=0, uop_end=1, iter_out=2, iter_in=40, dst_out=40, dst_in=1, use_imm=True, imm=-128),
    XGemm(
        uop_bgn=0,
        uops=9,
        blocks=4,
        rows=8,
        cols=55,
        epilogue=Epilogue.OUT,
        low=True,
        src_base=0,
        dst_base=440,
        wgt_base=36,
        src_row=57,
        dst_block=440,
        src_col=1,
        par=4,
        push_next=True,
    ),
    XGemm(
        uop_bgn=9,
        uops=32,
        blocks=63,
        rows=2,
        cols=13,
        epilogue=Epilogue.SUM,
        accumulate=True,
        relu=True,
        src_base=0,
        dst_base=0,
        wgt_base=0,
        dst_block=1,
        src_row=13,
        src_col=1,
    ),
    XAdd(blocks=2, count=100, par=8, low=True, a_base=0, b_base=200, dst_base=1000),
    Store(memory=Memory.OUT, sram_base=440, dram_base=99, y_size=4, x_size=440, x_stride=3025, pop_prev=True),
    XPool(
        sram_base=0,
        dram_base=1 << 31,
        kernel_h=3,
        kernel_w=3,
        stride_h=2,
        stride_w=2,
        y_size=4,
        x_size=27,
        x_stride=27,
        rows=9,
        cols=55,
        pad_left=1,
        push_prev=True,
    ),
    Store(memory=Memory.ACC, sram_base=0, dram_base=7, y_size=1, x_size=63, x_stride=63),
    Finish(pop_next=True),
]


@pytest.mark.parametrize("instruction", PUBLISHED)
def test_published_layout(instruction: type[Instruction]) -> None:
    tokens = {"pop_prev": (0, 3, 1), "pop_next": (0, 4, 1), "push_prev": (0, 5, 1), "push_next": (0, 6, 1)}
    layout = {
        slot.name: (slot.word, slot.low, slot.width) for slot in slots(instruction, Geometry()) if not slot.extended
    }
    assert layout == {**tokens, **PUBLISHED[instruction]}


def test_published_opcodes() -> None:
    assert {code: kind.__name__ for code, kind in INSTRUCTIONS.items() if not kind.extended} == {
        0: "Load",
        1: "Store",
        2: "Gemm",
        3: "Finish",
        4: "Alu",
    }


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("instruction", INSTRUCTIONS.values())
def test_fields_are_disjoint(instruction: type[Instruction], geometry: Geometry) -> None:
    taken = {(0, bit) for bit in range(3)}
    for slot in slots(instruction, geometry):
        bits = {(slot.word, bit) for bit in range(slot.low, slot.low + slot.width)}
        assert not bits & taken
        assert slot.low + slot.width <= 64
        taken |= bits


@pytest.mark.parametrize("geometry", GEOMETRIES)
@given(data=st.data())
def test_decoding_inverts_encoding(geometry: Geometry, data: st.DataObject) -> None:
    program = data.draw(st.lists(with_tokens(geometry), max_size=4))
    words = encode(program, geometry, "extended")
    assert words.shape == (len(program), 2)
    assert decode(words, geometry, "extended") == program


@given(words=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=4))
def test_any_words_decode_or_are_refused(words: list[tuple[int, int]]) -> None:
    array = np.array(words, np.uint64)
    try:
        program = decode(array, Geometry(), "extended")
    except CorruptFileError as error:
        assert "instruction" in str(error)
    else:
        assert np.array_equal(encode(program, Geometry(), "extended"), array)


@pytest.mark.parametrize("word", [0, 1])
def test_every_unused_bit_is_refused(word: int) -> None:
    used = {(slot.word, bit) for slot in slots(Finish, Geometry()) for bit in range(slot.low, slot.low + slot.width)}
    for bit in range(3 if word == 0 else 0, 64):
        if (word, bit) in used:
            continue
        words = np.zeros((1, 2), np.uint64)
        words[0, 0] = Finish.opcode
        words[0, word] |= np.uint64(1) << np.uint64(bit)
        with pytest.raises(CorruptFileError, match="unused bits"):
            decode(words, Geometry(), "published")


@pytest.mark.parametrize(
    "instruction",
    [
        Load(memory=Memory.PAR, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1),
        Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, pad_low=True),
        Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1),
        XAdd(blocks=1, count=1, par=0, a_base=0, b_base=0, dst_base=0),
    ],
)
def test_the_stock_profile_has_no_extension(instruction: Instruction) -> None:
    words = encode([instruction], Geometry(), "extended")
    with pytest.raises(UnsupportedError, match=r"instruction 0: .* vta-x"):
        encode([instruction], Geometry(), "published")
    with pytest.raises(CorruptFileError, match=r"instruction 0: .* vta-x"):
        decode(words, Geometry(), "published")


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


@given(st.integers(0, 2047), st.integers(0, 2047), st.integers(0, 1023))
def test_micro_ops(dst: int, src: int, wgt: int) -> None:
    (word,) = encode_micro_ops([MicroOp(dst, src, wgt)], Geometry())
    assert word == dst | src << 11 | wgt << 22
    assert MicroOp.decode(int(word), Geometry()) == MicroOp(dst, src, wgt)


def test_a_micro_op_outside_of_the_memory_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="wgt = 1024"):
        MicroOp(wgt=1024).encode(Geometry())


def test_listing(golden: Callable[[str, str], None]) -> None:
    golden("listing.txt", disassemble(encode(EXAMPLES, Geometry(), "extended"), Geometry(), "extended"))
