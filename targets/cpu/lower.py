"""An integer graph -> the kernels of one shared library for a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph, rules
from squeezeedge.lower.call_plan import plan_calls
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.cpu.channel_order import reordered
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.interface import Interface
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.library import compiler_version, kernel_object, link_library
from squeezeedge.targets.cpu.module import kernel_calls, tensor_places
from squeezeedge.targets.cpu.options import CpuOptions, c_compiler, choose_isas
from squeezeedge.targets.cpu.processor import llvm_target
from squeezeedge.targets.cpu.tables import Variant, write_traces
from squeezeedge.targets.kernel_times import KernelLayer

__all__ = ["STACK_BYTES", "CpuLowered", "lower"]

STACK_BYTES = 32 << 10
"""What a call of the library needs of its thread's stack, at most; the header says so."""

STEPS_A_MICROSECOND, LARGEST_STEP, BYTES_A_MICROSECOND = 4000, 256, 10_000
"""What a core does: vectors of products, the multiplications of the largest of them, bytes from the caches."""

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)


@dataclass(frozen=True, eq=False)
class CpuLowered:
    """A network as kernels, compiled; the C compiler is still to link them.

    Attributes:
        variants: the kernels for each instruction set, the best first.
        compiler: path of the C compiler.
        interface: what a program sees of the network.
    """

    variants: Sequence[Variant]
    compiler: str
    interface: Interface

    def write(self, folder: Path) -> dict[str, Any]:
        """Link the library and write it, shared and static, with its header, and where its tensors lie.

        Returns:
            What the manifest says of the library.

        Raises:
            UnavailableError: the C compiler, or a tool that belongs to it, can't be started.
            SqueezeEdgeError: it fails.
        """
        glibc = link_library(self.variants, self.compiler, self.interface, folder)
        needs = {} if glibc is None else {"glibc": glibc, "note": f"the library needs glibc {glibc} or newer"}
        entries = [variant.entry() for variant in self.variants]
        for entry, name in zip(entries, write_traces(self.variants, folder), strict=True):
            entry["trace"] = name
        several = {"isa": ",".join(variant.isa for variant in self.variants), "variants": entries}
        return {
            "prefix": self.interface.prefix,
            "compiler": compiler_version(self.compiler),
            "kernels": len(self.variants[0].plan.calls),
            "stack_bytes": STACK_BYTES,
            **(entries[0] if len(entries) == 1 else several),
            **needs,
        }


def lower(graph: IntegerGraph, options: CpuOptions) -> CpuLowered:
    """Compile a graph's kernels.

    Args:
        graph: the network, of what the target supports.
        options: what the processor is.

    Raises:
        UsageError: the instruction set is not one of the processor's.
        UnavailableError: there is no C compiler.
        UnsupportedError: the kernels cannot compute a layer exactly, or a class name can't be a string of C; the text
            has its name.
    """
    compiler = c_compiler(options)
    _check_zero_points(graph)
    interface = Interface.of(graph, options.prefix)
    return CpuLowered([_variant(graph, name, options) for name in choose_isas(options)], compiler, interface)


def _variant(graph: IntegerGraph, name: str, options: CpuOptions) -> Variant:
    """The graph's kernels for one instruction set; raises as :func:`lower`."""
    isa = INSTRUCTION_SETS[name]
    target = llvm_target(isa, options)
    orders: Mapping[str, NDArray[np.intp]] = {}
    if isa.paired:
        graph, orders = reordered(graph, isa.lanes)
    shape = graph.input_shape
    parts = stages(partition(to_relax(graph), FUSIONS), graph)
    plan = plan_calls(kernel_calls(parts, shape, isa), shape.height * shape.width * shape.channels)
    named = [(IMAGE, 0), *((stage.name, stage.macs) for stage in parts)]  # the first kernel copies the image
    layers = [KernelLayer(*made, call.bytes) for made, call in zip(named, plan.calls, strict=True)]
    work = [_microseconds(layer, isa) for layer in layers]
    machine_code = kernel_object(plan.kernels, target)
    return Variant(name, target, plan, work, machine_code, tensor_places(parts, orders), layers)


def _microseconds(layer: KernelLayer, isa: InstructionSet) -> int:
    """Roughly what a kernel takes on one thread, to judge whether more of them pay."""
    step = min(isa.products, LARGEST_STEP)
    return round(layer.macs / (step * STEPS_A_MICROSECOND) + layer.bytes / BYTES_A_MICROSECOND)


def _check_zero_points(graph: IntegerGraph) -> None:
    """What :meth:`squeezeedge.targets.cpu.instruction_set.InstructionSet.narrow` has instructions for."""
    for name, tensor in graph.tensors.items():
        if tensor.zero_point not in (0, rules.SIGN):
            raise UnsupportedError(
                f"{name}: zero point {tensor.zero_point}, the CPU's kernels narrow to 0 and {rules.SIGN} only; "
                "quantize again"
            )
