"""The variants of a network, one for each instruction set -> the tables that the driver includes, and the constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.lower.call_plan import Argument, CallPlan, Place
from squeezeedge.targets.cpu.interface import Interface
from squeezeedge.targets.cpu.options import FEATURES
from squeezeedge.targets.device.run import TRACE
from squeezeedge.targets.kernel_times import KernelLayer
from squeezeedge.targets.trace import Trace

__all__ = ["CONSTANTS", "Variant", "plan_header", "share_constants", "write_traces"]

CONSTANTS = "constants.bin"

_DTYPES = {"uint8": "{kDLUInt, 8, 1}", "int8": "{kDLInt, 8, 1}", "int32": "{kDLInt, 32, 1}"}


@dataclass(frozen=True, eq=False)
class Variant:
    """A network's kernels for one instruction set, compiled.

    Attributes:
        isa: name of the instruction set.
        llvm_target: TVM's target.
        plan: the kernels' calls, their memory and constants.
        work: of each call, roughly the microseconds that one thread takes.
        machine_code: object file of the kernels.
        trace: where the kernels leave the graph's tensors.
        layers: what each kernel of the plan makes, and what that takes.
    """

    isa: str
    llvm_target: dict[str, Any]
    plan: CallPlan
    work: Sequence[int]
    machine_code: bytes
    trace: Trace
    layers: Sequence[KernelLayer]

    def entry(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "isa": self.isa,
            "llvm_target": self.llvm_target,
            "workspace_bytes": self.plan.workspace,
            "constant_bytes": len(self.plan.constants),
            "layers": [vars(layer) for layer in self.layers],
        }


def share_constants(variants: Sequence[Variant]) -> tuple[list[Variant], NDArray[np.uint8]]:
    """Move the constants of all variants into one array, where equal ones lie once.

    Args:
        variants: each with constants of its own.

    Returns:
        The variants, whose plans have other offsets; uint8, the array.
    """
    places: dict[bytes, int] = {}
    parts: list[NDArray[np.uint8]] = []
    moved = []
    for variant in variants:
        starts = sorted({a.offset for call in variant.plan.calls for a in call.arguments if a.place is Place.CONSTANTS})
        offsets = {}
        for start, end in zip(starts, [*starts[1:], len(variant.plan.constants)], strict=True):
            data = variant.plan.constants[start:end]
            key = data.tobytes()
            if key not in places:
                places[key] = sum(map(len, parts))
                parts.append(data)
            offsets[start] = places[key]

        def moved_argument(argument: Argument, offsets: dict[int, int] = offsets) -> Argument:
            constant = argument.place is Place.CONSTANTS
            return replace(argument, offset=offsets[argument.offset]) if constant else argument

        calls = tuple(
            replace(call, arguments=tuple(map(moved_argument, call.arguments))) for call in variant.plan.calls
        )
        moved.append(replace(variant, plan=replace(variant.plan, calls=calls)))
    return moved, np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def plan_header(variants: Sequence[Variant], interface: Interface) -> str:
    """The tables as C; variants stand in the order in which the driver looks for one that the processor has.

    Args:
        variants: with :func:`share_constants`' offsets.
        interface: what a program sees of the network.
    """
    shape = interface.shape
    arguments = [[argument for call in variant.plan.calls for argument in call.arguments] for variant in variants]
    defines = {
        "VARIANTS": len(variants),
        "ISAS": _quoted(", ".join(variant.isa for variant in variants)),
        "MOST_BUFFERS": max(map(len, arguments)),
        "CALLS": len(variants[0].plan.calls),
        "CLASSES": interface.classes,
        "CONSTANTS_FILE": _quoted(CONSTANTS),
        "INPUT_BYTES": shape.height * shape.width * shape.channels,
        "INPUT_HEIGHT": shape.height,
        "INPUT_WIDTH": shape.width,
        "INPUT_CHANNELS": shape.channels,
        "OUTPUT_SIZE": max(a.size for own in arguments for a in own if a.place is Place.OUTPUT),
    }
    lines = [f"#define {name} {value}" for name, value in defines.items()]
    for number, (variant, own) in enumerate(zip(variants, arguments, strict=True)):
        lines += _tables(number, variant, own)
    lines.append("static const Variant variants[VARIANTS] = {")
    for number, (variant, own) in enumerate(zip(variants, arguments, strict=True)):
        tables = f"needs{number}, buffers{number}, calls{number}"
        sizes = f"{len(own)}, {sum(variant.work)}, {variant.plan.workspace}"
        lines.append(f"    {{{_quoted(variant.isa)}, {tables}, {sizes}}},")
    return "\n".join([*lines, "};", *interface.tables(), ""])


def write_traces(variants: Sequence[Variant], folder: Path) -> list[str]:
    """Write where each variant's tensors lie; that of the first one is trace.json, and equal ones are one file.

    Returns:
        Each variant's file.
    """
    names: list[str] = []
    for number, variant in enumerate(variants):
        same = [name for name, other in zip(names, variants, strict=False) if other.trace == variant.trace]
        names.append(same[0] if same else f"trace-{variant.isa}.json" if number else TRACE)
        variant.trace.write(folder, names[-1])
    return names


def _tables(number: int, variant: Variant, arguments: Sequence[Argument]) -> list[str]:
    """A variant's own tables."""
    needs = "".join(f"missing_{feature}, " for feature in FEATURES[variant.isa][1])
    lines = [f"static const Missing needs{number}[] = {{{needs}NULL}};"]
    for name in dict.fromkeys(call.function for call in variant.plan.calls):
        lines.append(f"int __tvm_ffi_{name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);")
    lines += [f"static const Buffer buffers{number}[] = {{", *map(_buffer, arguments), "};"]
    lines.append(f"static const Call calls{number}[CALLS] = {{")
    first = 0
    for call, work in zip(variant.plan.calls, variant.work, strict=True):
        lines.append(f"    {{__tvm_ffi_{call.function}, {first}, {len(call.arguments)}, {work}}},")
        first += len(call.arguments)
    return [*lines, "};"]


def _buffer(argument: Argument) -> str:
    return f"    {{{argument.place.name}, {argument.offset}, {argument.size}, {_DTYPES[argument.dtype]}}},"


def _quoted(text: str) -> str:
    return f'"{text}"'
