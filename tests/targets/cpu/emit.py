"""Small functions around the kernels' pieces, compiled for this processor."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.options import CpuOptions
from squeezeedge.targets.cpu.processor import llvm_target
from squeezeedge.targets.cpu.x86 import MatrixSet

__all__ = ["Compiled", "compiled_body", "run_body", "run_function"]

Compiled = Callable[[Sequence[NDArray[Any]], NDArray[Any]], NDArray[Any]]
"""Takes the inputs and what the output holds before; returns what it holds then."""


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
    return compiled_body(body, inputs, out, isa)(inputs, out)


def compiled_body(
    body: Callable[[list[Any], Any], None],
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    isa: InstructionSet | None = None,
) -> Compiled:
    """A body for inputs and an output like these."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("body")
        T.func_attr({"global_symbol": "body", "tirx.noalias": True})
        buffers = [T.arg(f"x{i}", T.Buffer(array.shape, str(array.dtype))) for i, array in enumerate(inputs)]
        body(buffers, T.arg("y", T.Buffer(out.shape, str(out.dtype))))
    return _compiled(builder.get(), "body", isa)


def run_function(
    function: Any,  # noqa: ANN401  (TVM's classes are untyped)
    name: str,
    inputs: Sequence[NDArray[Any]],
    out: NDArray[Any],
    isa: InstructionSet | None = None,
) -> NDArray[Any]:
    """What a PrimFunc makes of inputs; ``out`` is what its output holds before."""
    return _compiled(function, name, isa)(inputs, out)


@cache
def _permit_tiles() -> None:
    """Ask Linux for AMX's tile registers, as driver.c does: x86's arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)."""
    assert ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


def _compiled(function: Any, name: str, isa: InstructionSet | None) -> Compiled:  # noqa: ANN401
    if isinstance(isa, MatrixSet):
        _permit_tiles()
    target = {"kind": "llvm"} if isa is None else llvm_target(isa, CpuOptions())
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
        library = tvm.tirx.build(tvm.IRModule({name: function}), target=tvm.target.Target(target))

    def run(inputs: Sequence[NDArray[Any]], out: NDArray[Any]) -> NDArray[Any]:
        result = tvm.runtime.tensor(out)
        library[name](*map(tvm.runtime.tensor, inputs), result)
        made: NDArray[Any] = result.numpy()
        return made

    return run
