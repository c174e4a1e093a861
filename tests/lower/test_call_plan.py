"""A plan executed in numpy: buffers in use never overlap, and the calls give the network's result."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.script import tirx as T

from squeezeedge.lower.call_plan import ALIGNMENT, CallPlan, Place, plan_calls

SIZE = 32


def _kernel(name: str):  # noqa: ANN202  (TVM's classes are untyped)
    @T.prim_func(s_tir=True)
    def function(
        x: T.Buffer((SIZE,), "uint8"),
        c: T.Buffer((SIZE,), "int32"),
        y: T.Buffer((SIZE,), "uint8"),
    ) -> None:
        for i in T.serial(SIZE):
            y[i] = x[i] + T.cast(c[i], "uint8")

    return function.with_attr("global_symbol", name)


def _chain(length: int) -> IRModule:
    """The sum x + c0 + c1 + ..., each addition by a kernel of its own."""
    builder = relax.BlockBuilder()
    value = image = relax.Var("image", relax.TensorType((SIZE,), "uint8"))
    with builder.function("main", [image]):
        with builder.dataflow():
            for i in range(length):
                constant = relax.const(np.full(SIZE, i + 1, np.int32))
                function = builder.add_func(_kernel(f"add{i}"), f"add{i}")
                value = builder.emit(relax.call_tir(function, [value, constant], relax.TensorType((SIZE,), "uint8")))
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    return builder.get()


def _execute(plan: CallPlan, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    memory = {
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
    plan = plan_calls(_chain(length))
    image = np.arange(SIZE, dtype=np.uint8)
    np.testing.assert_array_equal(_execute(plan, image), image + sum(range(1, length + 1)))
    assert [call.function for call in plan.calls] == [f"add{i}" for i in range(length)]
    assert {str(var.name_hint) for var in plan.kernels.functions} == {call.function for call in plan.calls}
    assert plan.workspace <= 2 * ALIGNMENT  # two buffers take turns, however long the chain
    for call in plan.calls:
        assert all(argument.offset % ALIGNMENT == 0 for argument in call.arguments)
        source, _, target = call.arguments
        assert (source.place, source.offset) != (target.place, target.offset)
