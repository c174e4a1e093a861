"""Programs as words and back, and their listing."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS, decode, disassemble, encode
from tests.targets.vta.strategies import with_tokens

GEOMETRIES = [load_config().geometry, load_config("zcu104-block32").geometry]

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


def test_published_opcodes() -> None:
    assert {code: kind.__name__ for code, kind in INSTRUCTIONS.items() if not kind.extended} == {
        0: "Load",
        1: "Store",
        2: "Gemm",
        3: "Finish",
        4: "Alu",
    }


@pytest.mark.parametrize("geometry", [GEOMETRIES[0], pytest.param(GEOMETRIES[1], marks=pytest.mark.slow)])
@settings(max_examples=40)
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


@pytest.mark.parametrize(
    "instruction",
    [
        Load(memory=Memory.PAR, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1),
        Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1, pad_low=True),
        Store(memory=Memory.ACC, sram_base=0, dram_base=0, y_size=1, x_size=1, x_stride=1),
        XAdd(blocks=1, count=1, par=0, a_base=0, b_base=0, dst_base=0),
    ],
)
def test_published_instructions_are_not_extended(instruction: Instruction) -> None:
    words = encode([instruction], Geometry(), "extended")
    with pytest.raises(UnsupportedError, match=r"instruction 0: .* extended"):
        encode([instruction], Geometry(), "published")
    with pytest.raises(CorruptFileError, match=r"instruction 0: .* extended"):
        decode(words, Geometry(), "published")


def test_listing(golden: Callable[[str, str], None]) -> None:
    golden("listing.txt", disassemble(encode(EXAMPLES, Geometry(), "extended"), Geometry(), "extended"))
