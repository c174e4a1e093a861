"""Pairs of 16-bit products: exact at both ends of weights and inputs, and one instruction where there is one."""

from functools import cache

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.target import Target

from squeezeedge.graph.rules import WEIGHT_LIMIT
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.loops import Expr, lanes
from squeezeedge.targets.cpu.options import CpuOptions
from squeezeedge.targets.cpu.processor import llvm_target
from squeezeedge.targets.cpu.tiling import Operands, Tile
from tests.targets.cpu.emit import Compiled, compiled_body

GENERIC = INSTRUCTION_SETS["generic"]
ROWS, STEPS, ROW, PIXELS, BLOCKS = 2, 5, 29, 3, 2
SHAPE = (1, BLOCKS, GENERIC.lanes, ROWS, STEPS, GENERIC.group)
DATA = ROWS * ROW + PIXELS * (ROW - 1)
BIAS = np.tile([[1000], [7]], (BLOCKS, 1, GENERIC.lanes)).astype(np.int32).ravel()
OUT = np.zeros(PIXELS * BLOCKS * GENERIC.lanes, np.int32)
STORED = int(np.prod(SHAPE)) * GENERIC.weight_size


def _body(inputs: list[Expr], out: Expr) -> None:
    data, weights, parameters = inputs
    operands = Operands(data, 0, 0, ROW - 1, ROW, ROWS, STEPS, GENERIC.group, weights, 0, parameters, 0, 0, 0)
    sums = GENERIC.accumulate(Tile(1, PIXELS, BLOCKS), operands)
    for pixel in range(PIXELS):
        for block in range(BLOCKS):
            at = lanes((pixel * BLOCKS + block) * GENERIC.lanes, GENERIC.lanes)
            T.buffer_store(out, sums(0, pixel, block), [at])


@cache
def _kernel() -> Compiled:
    return compiled_body(_body, [np.zeros(DATA, np.uint8), np.zeros(STORED, np.int8), BIAS], OUT, GENERIC)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    weights=st.one_of(
        st.sampled_from([-WEIGHT_LIMIT, WEIGHT_LIMIT]).map(lambda value: np.full(SHAPE, value, np.int8)),
        hnp.arrays(np.int8, SHAPE, elements=st.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT)),
    ),
    lowest=st.sampled_from([0, 255]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums(weights: NDArray[np.int8], lowest: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(lowest, 256, DATA).astype(np.uint8)
    stored = GENERIC.arrange(weights).ravel()
    assert stored.size == STORED
    got = _kernel()([data, stored, BIAS], OUT).reshape(PIXELS, BLOCKS, GENERIC.lanes)
    first = np.add.outer(np.arange(PIXELS) * (ROW - 1), np.arange(ROWS) * ROW)
    windows = data[first[..., None] + np.arange(STEPS * GENERIC.group)].reshape(PIXELS, ROWS, STEPS, GENERIC.group)
    expected = 1000 + np.einsum("blrsg,prsg->pbl", weights[0].astype(int), windows.astype(int))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("target", "instruction", "others"),
    [
        (llvm_target(GENERIC, CpuOptions(isa="generic", mtriple="x86_64-linux-gnu")), "pmaddwd", "pmul"),
        ({"kind": "llvm", "mtriple": "riscv64-linux-gnu", "mattr": ["+v"]}, "vwmul", "mulw"),
    ],
    ids=["sse2", "riscv-v"],
)
def test_the_instruction_that_llvm_finds(target: dict[str, object], instruction: str, others: str) -> None:
    """All products are made by it, and none by others."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("body")
        T.func_attr({"global_symbol": "body", "tirx.noalias": True})
        sizes = ((DATA, "uint8"), (STORED, "int8"), (BIAS.size, "int32"))
        buffers = [T.arg(f"x{i}", T.Buffer((size,), dtype)) for i, (size, dtype) in enumerate(sizes)]
        _body(buffers, T.arg("y", T.Buffer((OUT.size,), "int32")))
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        module = tvm.tirx.build(tvm.IRModule({"body": builder.get()}), target=Target(target))
    code = module.inspect_source("s")
    assert code.count(instruction) >= PIXELS * BLOCKS and others not in code
