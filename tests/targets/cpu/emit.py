"""Small functions around the kernels' pieces, compiled for this processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.options import CpuOptions
from squeezeedge.targets.cpu.processor import llvm_target

__all__ = ["run_body", "run_function"]


def run_body(
    body: Callable[[list[Any], Any], None],
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    isa: InstructionSet | None = None,
) -> NDArray[Any]:
    """What a body writes.

    Args:
        body: takes the inputs' buffers and the output's.
        inputs: 1-D.
        out: 1-D: what the output holds before.
        isa: whose code it is; none in particular if not given.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("body")
        T.func_attr({"global_symbol": "body", "tirx.noalias": True})
        buffers = [T.arg(f"x{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(inputs)]
        body(buffers, T.arg("y", T.Buffer(out.shape, str(out.dtype))))
    return run_function(builder.get(), "body", inputs, out, isa)


def run_function(
    function: Any,  # noqa: ANN401  (TVM's classes are untyped)
    name: str,
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    isa: InstructionSet | None = None,
) -> NDArray[Any]:
    """What a PrimFunc makes of inputs; ``out`` is what its output holds before."""
    target = {"kind": "llvm"} if isa is None else llvm_target(isa, CpuOptions())
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        library = tvm.tirx.build(tvm.IRModule({name: function}), target=tvm.target.Target(target))
    result = tvm.runtime.tensor(out)
    library[name](*map(tvm.runtime.tensor, inputs), result)
    made: NDArray[Any] = result.numpy()
    return made
