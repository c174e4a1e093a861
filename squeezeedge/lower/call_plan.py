"""A Relax function of kernel calls -> TVM's memory plan as data: what a driver without a runtime executes.

TVM lowers ``call_tir`` to calls into planned storage (``StaticPlanBlockMemory``); this module reads the result back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax, tirx, transform

from squeezeedge.lower.relax_module import MAIN

__all__ = ["ALIGNMENT", "Argument", "Call", "CallPlan", "Place", "emit_call", "plan_calls"]

ALIGNMENT = 64
"""Bytes; TVM's kernels assume it of every buffer."""


class Place(StrEnum):
    """Where a buffer lies."""

    INPUT = "input"
    OUTPUT = "output"
    WORKSPACE = "workspace"
    CONSTANTS = "constants"


@dataclass(frozen=True)
class Argument:
    """A 1-D buffer handed to a kernel.

    Attributes:
        place: where it lies.
        offset: from the beginning of its place, in bytes.
        size: elements.
        dtype: numpy's name of the elements' type.
    """

    place: Place
    offset: int
    size: int
    dtype: str


@dataclass(frozen=True)
class Call:
    """A kernel and its buffers, the last of which it writes."""

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, eq=False)
class CallPlan:
    """One inference as a list of calls.

    Attributes:
        kernels: the functions that are called.
        calls: in execution order.
        workspace: bytes of activations.
        constants: uint8, what CONSTANTS arguments lie in.
    """

    kernels: IRModule
    calls: tuple[Call, ...]
    workspace: int
    constants: NDArray[np.uint8]


def emit_call(
    builder: relax.BlockBuilder,
    kernel: tirx.PrimFunc,
    inputs: Sequence[relax.Expr],
    constants: Sequence[NDArray[Any]],
    out: tuple[int, str],
) -> relax.Var:
    """Add a kernel to the module under construction and call it.

    Args:
        builder: of the module.
        kernel: takes the inputs, the constants and the output, all 1-D; its ``global_symbol`` is unique.
        inputs: what it reads.
        constants: which TVM keeps in the module.
        out: elements and dtype of the output.
    """
    function = builder.add_func(kernel, str(kernel.attrs["global_symbol"]))
    size, dtype = out
    arguments = [*inputs, *(relax.const(array) for array in constants)]
    return builder.emit(relax.call_tir(function, arguments, relax.TensorType((size,), dtype)))


def plan_calls(module: IRModule) -> CallPlan:
    """Plan the memory of a module whose ``main`` only calls PrimFuncs on 1-D buffers.

    Args:
        module: ``main`` takes one tensor and returns one; constants are ``relax.const``.
    """
    passes = relax.transform
    lowered = transform.Sequential(
        [
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
        ]
    )(module)
    main = lowered[MAIN]
    reader = _Reader(main)
    calls = tuple(reader.calls)
    kernels = {var: function for var, function in lowered.functions.items() if var.name_hint != MAIN}
    constants = np.concatenate([np.zeros(0, np.uint8), *reader.constants])
    return CallPlan(IRModule(kernels), calls, reader.workspace, constants)


class _Reader:
    """Follows the bindings of a planned function."""

    def __init__(self, main: relax.Function) -> None:
        self.workspace = 0
        self.constants: list[NDArray[np.uint8]] = []
        self.calls: list[Call] = []
        self._constant_bytes = 0
        self._storages: dict[Any, int] = {}
        self._buffers: dict[Any, Argument] = {main.params[0]: _argument(Place.INPUT, 0, main.params[0])}
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        names = {binding.var: binding.value for binding in bindings if isinstance(binding.value, relax.Var)}
        result = main.body.body
        while result in names:
            result = names[result]
        for binding in bindings:
            self._read(binding.var, binding.value, result)

    def _read(self, var: Any, value: Any, result: Any) -> None:  # noqa: ANN401  (TVM's classes are untyped)
        if isinstance(value, relax.Var):
            self._buffers[var] = self._buffers[value]
            return
        name = getattr(value.op, "name", None)
        if name == "relax.memory.alloc_storage":
            self._storages[var] = self.workspace
            self.workspace += _aligned(int(value.args[0].values[0]))
        elif name == "relax.memory.alloc_tensor":
            offset = self._storages[value.args[0]] + int(value.args[1])
            self._buffers[var] = _argument(Place.WORKSPACE, offset, var)
        elif name == "relax.builtin.alloc_tensor":
            assert var == result, "only the result may lie outside the planned storage"
            self._buffers[var] = _argument(Place.OUTPUT, 0, var)
        else:
            self.calls.append(Call(value.op.name_hint, tuple(self._argument(a) for a in value.args)))

    def _argument(self, value: Any) -> Argument:  # noqa: ANN401
        if isinstance(value, relax.Var):
            return self._buffers[value]
        array = np.ascontiguousarray(value.value.numpy())
        argument = Argument(Place.CONSTANTS, self._constant_bytes, array.size, str(array.dtype))
        data = array.view(np.uint8).ravel()
        self.constants.append(np.pad(data, (0, -data.size % ALIGNMENT)))
        self._constant_bytes += len(self.constants[-1])
        return argument


def _argument(place: Place, offset: int, var: Any) -> Argument:  # noqa: ANN401
    (size,) = var.ty.shape
    return Argument(place, offset, int(size), str(var.ty.dtype))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
