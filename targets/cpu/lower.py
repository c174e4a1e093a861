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
from squeezeedge.lower.call_plan import CallPlan, plan_calls
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.cpu.channel_order import reordered
from squeezeedge.targets.cpu.instruction_set import InstructionSet
from squeezeedge.targets.cpu.interface import Interface
from squeezeedge.targets.cpu.isa import INSTRUCTION_SETS
from squeezeedge.targets.cpu.library import compiler_version, kernel_object, link_library
from squeezeedge.targets.cpu.module import kernel_calls, tensor_places
from squeezeedge.targets.cpu.options import FEATURES, CpuOptions, c_compiler, choose_isa
from squeezeedge.targets.cpu.processor import llvm_target
from squeezeedge.targets.kernel_times import KernelLayer
from squeezeedge.targets.trace import Trace

__all__ = ["STACK_BYTES", "CpuLowered", "lower"]

STACK_BYTES = 32 << 10
"""What a call of the library needs of its thread's stack, at most; the header says so."""

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)


@dataclass(frozen=True, eq=False)
class CpuLowered:
    """A network as kernels, compiled; the C compiler is still to link them.

    Attributes:
        isa: the instruction set of the kernels.
        llvm_target: TVM's target.
        compiler: path of the C compiler.
        plan: the kernels' calls, their memory and constants.
        machine_code: object file of the kernels.
        interface: what a program sees of the network.
        trace: where the kernels leave the graph's tensors.
        layers: what each kernel of the plan makes, and what that takes.
    """

    isa: InstructionSet
    llvm_target: dict[str, Any]
    compiler: str
    plan: CallPlan
    machine_code: bytes
    interface: Interface
    trace: Trace
    layers: Sequence[KernelLayer]

    def write(self, folder: Path) -> dict[str, Any]:
        """Link the library and write it, shared and static, with its header, and where its tensors lie.

        Returns:
            What the manifest says of the library.

        Raises:
            UnavailableError: the C compiler, or a tool that belongs to it, can't be started.
            SqueezeEdgeError: it fails.
        """
        features = FEATURES[self.isa.name][1]
        glibc = link_library(self.plan, self.machine_code, features, self.compiler, self.interface, folder)
        self.trace.write(folder)
        needs = {} if glibc is None else {"glibc": glibc, "note": f"the library needs glibc {glibc} or newer"}
        return {
            "prefix": self.interface.prefix,
            "isa": self.isa.name,
            "llvm_target": self.llvm_target,
            "compiler": compiler_version(self.compiler),
            "kernels": len(self.plan.calls),
            "workspace_bytes": self.plan.workspace,
            "constant_bytes": len(self.plan.constants),
            "stack_bytes": STACK_BYTES,
            "layers": [vars(layer) for layer in self.layers],
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
    isa = INSTRUCTION_SETS[choose_isa(options)]
    compiler = c_compiler(options)
    target = llvm_target(isa, options)
    _check_zero_points(graph)
    interface = Interface.of(graph, options.prefix)
    orders: Mapping[str, NDArray[np.intp]] = {}
    if isa.chained:
        graph, orders = reordered(graph, isa.lanes)
    shape = graph.input_shape
    parts = stages(partition(to_relax(graph), FUSIONS), graph)
    plan = plan_calls(kernel_calls(parts, shape, isa), shape.height * shape.width * shape.channels)
    named = [(IMAGE, 0), *((stage.name, stage.macs) for stage in parts)]  # the first kernel copies the image
    layers = [KernelLayer(*made, call.bytes) for made, call in zip(named, plan.calls, strict=True)]
    machine_code = kernel_object(plan.kernels, target)
    places = tensor_places(parts, orders)
    return CpuLowered(isa, target, compiler, plan, machine_code, interface, places, layers)


def _check_zero_points(graph: IntegerGraph) -> None:
    """What :meth:`squeezeedge.targets.cpu.instruction_set.InstructionSet.narrow` has instructions for."""
    for name, tensor in graph.tensors.items():
        if tensor.zero_point not in (0, rules.SIGN):
            raise UnsupportedError(
                f"{name}: zero point {tensor.zero_point}, the CPU's kernels narrow to 0 and {rules.SIGN} only; "
                "quantize again"
            )
