"""Compile an integer graph into one shared library for a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from squeezeedge.graph import IntegerGraph
from squeezeedge.lower.call_plan import plan_calls
from squeezeedge.lower.patterns import Pattern, partition, stages
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.targets.cpu.isa import InstructionSet
from squeezeedge.targets.cpu.library import build_library
from squeezeedge.targets.cpu.module import kernel_module
from squeezeedge.targets.cpu.options import FEATURES, CpuOptions

__all__ = ["compile_graph"]

FUSIONS = (Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS)


def compile_graph(
    graph: IntegerGraph, isa: InstructionSet, options: CpuOptions, compiler: str, out: Path
) -> dict[str, Any]:
    """Write the library and its header into a folder.

    Args:
        graph: the network.
        isa: the instruction set of its kernels.
        options: what the processor is; fits the instruction set.
        compiler: the C compiler.
        out: the folder.

    Returns:
        What the manifest says of the library.

    Raises:
        UnavailableError: the C compiler can't be started.
        SqueezeEdgeError: it fails.
    """
    target = _llvm_target(isa, options)
    module = kernel_module(stages(partition(to_relax(graph), FUSIONS)), graph.input_shape, isa)
    plan = plan_calls(module)
    build_library(plan, FEATURES[isa.name][1], target, compiler, graph.input_shape, graph.classes, out)
    return {
        "isa": isa.name,
        "llvm_target": target,
        "kernels": len(plan.calls),
        "workspace_bytes": plan.workspace,
        "constant_bytes": len(plan.constants),
    }


def _llvm_target(isa: InstructionSet, options: CpuOptions) -> dict[str, Any]:
    """TVM's target; it takes no command-line form."""
    target: dict[str, Any] = {"kind": "llvm"}
    if options.mtriple is not None:
        target["mtriple"] = options.mtriple
        if options.mtriple.startswith("arm"):
            target["mattr"] = ["+neon", "+vfp3"]
            if options.mtriple.endswith("hf"):
                target["mfloat-abi"] = "hard"
    target |= {key: list(value) if isinstance(value, tuple) else value for key, value in isa.llvm}
    if options.mcpu is not None:
        target["mcpu"] = options.mcpu
    return target
