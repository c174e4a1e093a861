"""The reduction's loops."""

import numpy as np
import pytest
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cpu.loops import Expr
from squeezeedge.targets.cpu.tiling import UNROLL, Operands
from tests.targets.cpu.emit import run_body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("steps", [1, 3, UNROLL, UNROLL + 1, 2 * UNROLL, 4 * UNROLL + 3])
def test_every_step_is_done_once_and_in_order(rows: int, steps: int, chunked: bool) -> None:
    def body(inputs: list[Expr], out: Expr) -> None:
        operands = Operands(None, 0, 0, 0, 0, rows, steps, 4, None, 0, None, 0, 0, 0)
        number = inputs[0]

        def step(row: Expr, k: Expr) -> None:
            T.buffer_store(out, number[0] + out[row * steps + k] * 1000, [row * steps + k])
            T.buffer_store(number, number[0] + 1, [0])

        def chunk(row: Expr, first: Expr, count: int) -> None:
            for k in range(count):
                step(row, first + k)

        operands.reduce_chunks(3, chunk) if chunked else operands.reduce(step)

    got = run_body(body, [np.ones(1, np.int32)], np.zeros(rows * steps, np.int32))
    np.testing.assert_array_equal(got, np.arange(1, rows * steps + 1))
