"""The compiler's view of the cycle model, against the simulator's."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError
from squeezeedge.targets.vta.isa.encoding import Instruction
from squeezeedge.targets.vta.isa.extended import Epilogue, XAdd, XGemm, XPool
from squeezeedge.targets.vta.isa.geometry import Geometry, Memory, load_config
from squeezeedge.targets.vta.isa.published import Alu, AluOp, Finish, Gemm, Load, Store
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.lower.cost import compute_cycles, load_cycles, row_cycles, transfer_cycles
from tests.targets.vta.compiled import DEFAULT, simulator
from tests.targets.vta.reference import DRAM_BYTES, registers

XGEMM = XGemm(uop_bgn=0, uops=9, blocks=2, rows=3, cols=7, epilogue=Epilogue.OUT, src_base=0, dst_base=0, wgt_base=0)
POOL = XPool(
    sram_base=0,
    dram_base=0,
    kernel_h=3,
    kernel_w=3,
    stride_h=2,
    stride_w=2,
    y_size=9,
    x_size=20,
    x_stride=20,
    rows=19,
    cols=41,
    push_prev=True,
)
COMPUTE: dict[str, Instruction] = {
    "xgemm": XGEMM,
    "gemm": Gemm(uop_bgn=0, uop_end=3, iter_out=5, iter_in=20),
    "alu": Alu(op=AluOp.ADD, uop_bgn=0, uop_end=3, iter_out=5, iter_in=2),
    "xadd": XAdd(blocks=2, count=50, par=0, a_base=0, b_base=0, dst_base=0),
    "finish": Finish(),
    "no micro-ops": Load(memory=Memory.UOP, sram_base=0, dram_base=0, y_size=1, x_size=0, x_stride=0),
}


def simulated(instruction: Instruction, geometry: Geometry = DEFAULT) -> int:
    """Cycles from its decoding to its end; a token makes a store wait until it is confirmed."""
    program = [instruction, Finish(pop_next=True)] if instruction.push_prev else [instruction]
    dram = np.zeros(DRAM_BYTES, np.uint8)
    words = encode(program, geometry, "extended").view(np.uint8).ravel()
    dram[: len(words)] = words
    _, start, end = simulator(geometry).run(dram, registers(len(program))).events[0]
    return int(end - start)


@pytest.mark.parametrize("name", COMPUTE)
def test_computations_are_exact(name: str) -> None:
    assert compute_cycles(COMPUTE[name]) == simulated(COMPUTE[name])


@pytest.mark.parametrize("config", ["pynq-z2", "zcu104-block32"])
@pytest.mark.parametrize(("rows", "size"), [(1, 300), (10, 40), (3, 7)])
def test_transfers_are_close(rows: int, size: int, config: str) -> None:
    geometry = load_config(config).geometry
    load = Load(memory=Memory.INP, sram_base=0, dram_base=100, y_size=rows, x_size=size, x_stride=size + 3)
    assert load_cycles(load, geometry) == pytest.approx(simulated(load, geometry), rel=0.1)
    store = Store(
        memory=Memory.OUT,
        sram_base=0,
        dram_base=100,
        y_size=rows,
        x_size=size,
        x_stride=size + 3,
        push_prev=True,
    )
    assert transfer_cycles(store, geometry) == pytest.approx(simulated(store, geometry), rel=0.2)


def test_poolings_are_close() -> None:
    assert transfer_cycles(POOL, DEFAULT) == pytest.approx(simulated(POOL), rel=0.1)


def test_padding_takes_a_cycle_an_element() -> None:
    plain = Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=4, x_size=8, x_stride=8)
    padded = Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=4, x_size=8, x_stride=8, x_pad_0=2, x_pad_1=3)
    assert load_cycles(padded, DEFAULT) - load_cycles(plain, DEFAULT) == 4 * 5
    assert row_cycles(8, 32) - row_cycles(8, 16) == 8 * 16 // 8


def test_each_module_has_its_own_instructions() -> None:
    with pytest.raises(UnsupportedError, match="the store module executes it"):
        compute_cycles(POOL)
    with pytest.raises(UnsupportedError, match="another module executes it"):
        transfer_cycles(XGEMM, DEFAULT)
