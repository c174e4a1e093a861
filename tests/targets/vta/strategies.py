"""Random instructions; loops are short, addresses may lie anywhere and wrap."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from squeezeedge.targets.vta.isa.encoding import Instruction, Module
from squeezeedge.targets.vta.extension import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa import Alu, AluOp, Finish, Gemm, Load, Store


def _below(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


@st.composite
def loads(draw: st.DrawFn, geometry: Geometry) -> Load:
    memory = draw(st.sampled_from([Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC, Memory.PAR]))
    padded = memory in (Memory.INP, Memory.ACC)
    pads = [draw(st.integers(0, 4)) if padded else 0 for _ in range(4)]
    return Load(
        memory=memory,
        sram_base=draw(st.integers(0, geometry.depth(memory) - 1)),
        dram_base=draw(st.integers(0, 200)),
        y_size=1 if memory == Memory.UOP else draw(st.integers(0, 6)),
        x_size=draw(st.integers(0, 12)),
        x_stride=draw(st.integers(0, 20)),
        y_pad_0=pads[0],
        y_pad_1=pads[1],
        x_pad_0=pads[2],
        x_pad_1=pads[3],
        pad_low=memory == Memory.INP and draw(st.booleans()),
    )


@st.composite
def stores(draw: st.DrawFn, geometry: Geometry) -> Store:
    memory = draw(st.sampled_from([Memory.OUT, Memory.ACC]))
    return Store(
        memory=memory,
        sram_base=draw(_below(geometry.acc_bits)),
        dram_base=draw(st.integers(0, 2000)),
        y_size=draw(st.integers(0, 6)),
        x_size=draw(st.integers(0, 12)),
        x_stride=draw(st.integers(0, 20)),
    )


@st.composite
def gemms(draw: st.DrawFn, geometry: Geometry) -> Gemm:
    begin = draw(_below(geometry.uop_bits))
    return Gemm(
        reset=draw(st.booleans()),
        uop_bgn=begin,
        uop_end=draw(st.integers(max(begin - 1, 0), begin + 5)),
        iter_out=draw(st.integers(0, 4)),
        iter_in=draw(st.integers(0, 4)),
        dst_out=draw(_below(geometry.acc_bits)),
        dst_in=draw(_below(geometry.acc_bits)),
        src_out=draw(_below(geometry.inp_bits)),
        src_in=draw(_below(geometry.inp_bits)),
        wgt_out=draw(_below(geometry.wgt_bits)),
        wgt_in=draw(_below(geometry.wgt_bits)),
    )


@st.composite
def alus(draw: st.DrawFn, geometry: Geometry) -> Alu:
    begin = draw(_below(geometry.uop_bits))
    return Alu(
        uop_bgn=begin,
        uop_end=draw(st.integers(max(begin - 1, 0), begin + 5)),
        iter_out=draw(st.integers(0, 4)),
        iter_in=draw(st.integers(0, 4)),
        dst_out=draw(_below(geometry.acc_bits)),
        dst_in=draw(_below(geometry.acc_bits)),
        src_out=draw(_below(geometry.acc_bits)),
        src_in=draw(_below(geometry.acc_bits)),
        op=draw(st.sampled_from(AluOp)),
        use_imm=draw(st.booleans()),
        imm=draw(st.integers(-(1 << 15), (1 << 15) - 1)),
    )


@st.composite
def xgemms(draw: st.DrawFn, geometry: Geometry) -> XGemm:
    return XGemm(
        uop_bgn=draw(_below(geometry.uop_bits)),
        uops=draw(st.integers(1, 6)),
        blocks=draw(st.integers(0, 3)),
        rows=draw(st.integers(0, 4)),
        cols=draw(st.integers(0, 5)),
        epilogue=draw(st.sampled_from(Epilogue)),
        accumulate=draw(st.booleans()),
        low=draw(st.booleans()),
        relu=draw(st.booleans()),
        src_base=draw(_below(geometry.inp_bits)),
        dst_base=draw(_below(geometry.acc_bits)),
        wgt_base=draw(_below(geometry.wgt_bits)),
        src_row=draw(_below(geometry.inp_bits)),
        dst_block=draw(st.integers(0 if geometry.acc_bits < 5 else 20, (1 << geometry.acc_bits) - 1)),
        src_col=draw(_below(3)),
        par=draw(_below(7)),
    )


@st.composite
def xpools(draw: st.DrawFn, geometry: Geometry) -> XPool:
    return XPool(
        sram_base=draw(_below(geometry.acc_bits)),
        dram_base=draw(st.integers(0, 2000)),
        kernel_h=draw(st.integers(1, 7)),
        kernel_w=draw(st.integers(1, 7)),
        stride_h=draw(st.integers(1, 7)),
        stride_w=draw(st.integers(1, 7)),
        y_size=draw(st.integers(0, 5)),
        x_size=draw(st.integers(0, 6)),
        x_stride=draw(st.integers(6, 20)),
        rows=draw(st.integers(0, 9)),
        cols=draw(st.integers(0, 9)),
        pad_top=draw(_below(3)),
        pad_left=draw(_below(3)),
    )


@st.composite
def xadds(draw: st.DrawFn, geometry: Geometry) -> XAdd:
    return XAdd(
        blocks=draw(st.integers(0, 3)),
        count=draw(st.integers(0, 9)),
        par=draw(_below(7)),
        low=draw(st.booleans()),
        a_base=draw(_below(geometry.inp_bits)),
        b_base=draw(_below(geometry.inp_bits)),
        dst_base=draw(_below(geometry.acc_bits)),
    )


def instructions(geometry: Geometry) -> st.SearchStrategy[Instruction]:
    """Any legal instruction, without tokens."""
    kinds = [loads, stores, gemms, alus, xgemms, xpools, xadds]
    return st.one_of(st.just(Finish()), *(kind(geometry) for kind in kinds))


@st.composite
def with_tokens(draw: st.DrawFn, geometry: Geometry) -> Instruction:
    """Any legal instruction with any legal dependency bits."""
    instruction = draw(instructions(geometry))
    flags = {name: draw(st.booleans()) for name in ("pop_prev", "pop_next", "push_prev", "push_next")}
    missing = {Module.LOAD: ("pop_prev", "push_prev"), Module.STORE: ("pop_next", "push_next")}
    flags.update(dict.fromkeys(missing.get(instruction.module, ()), False))
    return replace(instruction, **flags)
