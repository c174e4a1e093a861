"""Kernel calls -> TVM's memory plan as data: what a driver without a runtime executes.

The calls become one Relax function whose parameters are the image and all constants. TVM lowers ``call_tir`` to calls
into planned storage (``StaticPlanBlockMemory``); the plan is what is read back, the constants stay the caller's arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax, tirx, transform

from squeezeedge.graph import IMAGE
from squeezeedge.lower.relax_module import MAIN

__all__ = ["ALIGNMENT", "Argument", "Call", "CallPlan", "KernelCall", "Place", "plan_calls"]

ALIGNMENT = 64
"""Bytes; TVM's kernels assume it of every buffer."""


class Place(StrEnum):
    """Where a buffer lies."""

    INPUT = "input"
    OUTPUT = "output"
    WORKSPACE = "workspace"
    CONSTANTS = "constants"


@dataclass(frozen=True, eq=False)
class KernelCall:
    """A kernel and the tensors, by name, that it reads and makes.

    Attributes:
        function: takes the inputs (uint8), the constants and the output, all 1-D; its ``global_symbol`` is unique.
        inputs: names of tensors; ``IMAGE`` is the network's input.
        constants: 1-D arrays.
        out: name of what it makes.
        size: elements of that.
        dtype: numpy's name of the elements' type.
    """

    function: tirx.PrimFunc
    inputs: tuple[str, ...]
    constants: tuple[NDArray[Any], ...]
    out: str
    size: int
    dtype: str


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

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Call:
    """A kernel and its buffers, the last of which it writes."""

    function: str
    arguments: tuple[Argument, ...]

    @property
    def bytes(self) -> int:
        """Of all its buffers."""
        return sum(argument.bytes for argument in self.arguments)


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


def plan_calls(calls: Sequence[KernelCall], image_bytes: int) -> CallPlan:
    """Plan the memory of one inference.

    Args:
        calls: in execution order; the last one makes the result.
        image_bytes: of the input.

    Returns:
        The plan; its constants are the calls', in order of use, each from a multiple of ``ALIGNMENT`` on.
    """
    passes = relax.transform
    builder = relax.BlockBuilder()
    image = relax.Var(IMAGE, relax.TensorType((image_bytes,), "uint8"))
    parameters = [
        [
            relax.Var(f"c{number}_{i}", relax.TensorType(array.shape, str(array.dtype)))
            for i, array in enumerate(call.constants)
        ]
        for number, call in enumerate(calls)
    ]
    values = {IMAGE: image}
    with builder.function(MAIN, [image, *(var for own in parameters for var in own)]):
        with builder.dataflow():
            for call, own in zip(calls, parameters, strict=True):
                function = builder.add_func(call.function, str(call.function.attrs["global_symbol"]))
                arguments = [*(values[name] for name in call.inputs), *own]
                out = relax.TensorType((call.size,), call.dtype)
                values[call.out] = builder.emit(relax.call_tir(function, arguments, out))
            result = builder.emit_output(values[calls[-1].out])
        builder.emit_func_output(result)
    lowered = transform.Sequential(
        [
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
        ]
    )(builder.get())
    main = lowered[MAIN]
    places, constants = _place_constants([array for call in calls for array in call.constants])
    places.insert(0, Argument(Place.INPUT, 0, image_bytes, "uint8"))
    reader = _Reader(main, dict(zip(main.params, places, strict=True)))
    kernels = {var: function for var, function in lowered.functions.items() if var.name_hint != MAIN}
    return CallPlan(IRModule(kernels), tuple(reader.calls), reader.workspace, constants)


def _place_constants(arrays: Sequence[NDArray[Any]]) -> tuple[list[Argument], NDArray[np.uint8]]:
    """Where each array lies, and the bytes of all."""
    places: list[Argument] = []
    parts = [np.zeros(0, np.uint8)]
    size = 0
    for array in arrays:
        places.append(Argument(Place.CONSTANTS, size, array.size, str(array.dtype)))
        data = np.ascontiguousarray(array).view(np.uint8).ravel()
        parts.append(np.pad(data, (0, -data.size % ALIGNMENT)))
        size += len(parts[-1])
    return places, np.concatenate(parts)


class _Reader:
    """Follows the bindings of a planned function.

    Args:
        main: the function.
        parameters: where each of its parameters lies.
    """

    def __init__(self, main: relax.Function, parameters: Mapping[Any, Argument]) -> None:
        self.workspace = 0
        self.calls: list[Call] = []
        self._storages: dict[Any, int] = {}
        self._buffers = dict(parameters)
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
            self.calls.append(Call(value.op.name_hint, tuple(self._buffers[argument] for argument in value.args)))


def _argument(place: Place, offset: int, var: Any) -> Argument:  # noqa: ANN401
    (size,) = var.ty.shape
    return Argument(place, offset, int(size), str(var.ty.dtype))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
