"""A plan executed in numpy: buffers in use never overlap, and the calls give the network's result."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from squeezeedge.graph import IMAGE
from squeezeedge.lower.call_plan import ALIGNMENT, CallPlan, KernelCall, Place, plan_calls

SIZE = 32


def _kernel(name: str, sizes: Sequence[tuple[int, str]]) -> Any:  # noqa: ANN401  (TVM's classes are untyped)
    """X plus one element each of constants of these sizes and types."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"global_symbol": name})
        x = T.arg("x", T.Buffer((SIZE,), "uint8"))
        constants = [T.arg(f"c{i}", T.Buffer((size,), dtype)) for i, (size, dtype) in enumerate(sizes)]
        y = T.arg("y", T.Buffer((SIZE,), "uint8"))
        with T.serial(0, SIZE) as i:
            total: Any = x[i]
            for constant, (size, _) in zip(constants, sizes, strict=True):
                total = total + T.cast(constant[i % size], "uint8")
            T.buffer_store(y, total, [i])
    return builder.get()


def _chain(length: int) -> list[KernelCall]:
    """The sum x + c0 + c1 + ..., each addition by a kernel of its own."""
    names = [IMAGE, *(f"sum{i}" for i in range(length))]
    return [
        KernelCall(
            _kernel(f"add{i}", [(SIZE, "int32")]),
            (names[i],),
            (np.full(SIZE, i + 1, np.int32),),
            names[i + 1],
            SIZE,
            "uint8",
        )
        for i in range(length)
    ]


def _execute(plan: CallPlan, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    memory: dict[Place, NDArray[np.uint8]] = {
        Place.INPUT: image.copy(),
        Place.OUTPUT: np.zeros(SIZE, np.uint8),
        Place.WORKSPACE: np.full(plan.workspace, 77, np.uint8),
        Place.CONSTANTS: plan.constants,
    }
    for call in plan.calls:
        x, c, y = (
            memory[a.place][a.offset : a.offset + a.size * np.dtype(a.dtype).itemsize].view(a.dtype)
            for a in call.arguments
        )
        y[:] = x + c.astype(np.uint8)
    return memory[Place.OUTPUT]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_plan(length: int) -> None:
    plan = plan_calls(_chain(length), SIZE)
    image = np.arange(SIZE, dtype=np.uint8)
    np.testing.assert_array_equal(_execute(plan, image), image + sum(range(1, length + 1)))
    assert [call.function for call in plan.calls] == [f"add{i}" for i in range(length)]
    assert {str(var.name_hint) for var in plan.kernels.functions} == {call.function for call in plan.calls}
    assert plan.workspace <= 2 * ALIGNMENT  # two buffers take turns, however long the chain
    for call in plan.calls:
        assert all(argument.offset % ALIGNMENT == 0 for argument in call.arguments)
        source, _, target = call.arguments
        assert (source.place, source.offset) != (target.place, target.offset)


def test_constants_lie_in_the_order_of_their_use() -> None:
    """Each begins on a cache line, is filled up with zeros, and is there as often as it is used."""
    array, other = np.arange(1, 6, dtype=np.int32), np.arange(70, dtype=np.int8)

    calls = [
        KernelCall(_kernel(f"k{i}", [(5, "int32"), (70, "int8")]), (source,), (array, other), out, SIZE, "uint8")
        for i, (source, out) in enumerate([(IMAGE, "first"), ("first", "second")])
    ]
    plan = plan_calls(calls, SIZE)
    one = np.concatenate([array.view(np.uint8), np.zeros(44, np.uint8), other.view(np.uint8), np.zeros(58, np.uint8)])
    np.testing.assert_array_equal(plan.constants, np.concatenate([one, one]))
    places = [[(a.offset, a.size, a.dtype) for a in call.arguments[1:3]] for call in plan.calls]
    assert places == [[(0, 5, "int32"), (64, 70, "int8")], [(192, 5, "int32"), (256, 70, "int8")]]
