"""Compile an integer graph into machine code for NVIDIA GPUs and the plan of its launches."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezeedge.graph import IntegerGraph
from squeezeedge.lower.call_plan import CallPlan
from squeezeedge.lower.patterns import Pattern, partition, stages
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.targets.cuda.grid import Kernel
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.module import plan_kernels
from squeezeedge.targets.cuda.options import ARCHITECTURES, PTX
from squeezeedge.targets.cuda.run import CONSTANTS, PLAN
from squeezeedge.targets.cuda.source import cuda_source, most_images, parameters
from squeezeedge.targets.cuda.stage import KernelCall, kernel_calls
from squeezeedge.targets.cuda.toolchain import Compiler

__all__ = ["Lowered", "compile_graph", "launches", "lower"]

FUSIONS = (Pattern.CONCAT_CONVOLUTIONS,)


@dataclass(frozen=True, eq=False)
class Lowered:
    """A network as kernels.

    Attributes:
        calls: in execution order.
        plan: their memory.
    """

    calls: tuple[KernelCall, ...]
    plan: CallPlan

    @property
    def kernels(self) -> list[Kernel]:
        """In execution order."""
        return [call.kernel for call in self.calls]


def lower(graph: IntegerGraph, isa: str) -> Lowered:
    """Write a graph's kernels.

    Args:
        graph: the network.
        isa: name of an instruction set; plan and constants do not depend on it.
    """
    found = stages(partition(to_relax(graph), FUSIONS))
    calls = tuple(kernel_calls(found, graph.input_shape, INSTRUCTION_SETS[isa]))
    height, width, channels = graph.input_shape
    return Lowered(calls, plan_kernels(calls, height * width * channels))


def compile_graph(graph: IntegerGraph, architectures: Sequence[str], compiler: Compiler, out: Path) -> dict[str, Any]:
    """Write machine code for each architecture, PTX of the newest one, the constants and the plan.

    Args:
        graph: the network.
        architectures: of :data:`squeezeedge.targets.cuda.options.ARCHITECTURES`, oldest first.
        compiler: nvcc or NVRTC.
        out: the folder.

    Returns:
        What the manifest says of them.

    Raises:
        UnavailableError: the compiler can't be started.
        SqueezeEdgeError: it fails.
    """
    sources: dict[str, str] = {}
    for arch in architectures:
        isa = ARCHITECTURES[arch]
        if isa not in sources:
            lowered = lower(graph, isa)
            sources[isa] = cuda_source(lowered.kernels, arch)
    newest = architectures[-1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ptx = pool.submit(compiler.ptx, sources[ARCHITECTURES[newest]], newest)
        cubins = {arch: pool.submit(compiler.cubin, sources[ARCHITECTURES[arch]], arch) for arch in architectures}
        for arch, cubin in cubins.items():
            (out / f"kernels.{arch}.cubin").write_bytes(cubin.result())
        (out / PTX).write_bytes(ptx.result())
    lowered.plan.constants.tofile(out / CONSTANTS)
    plan = {
        "input": list(graph.input_shape),
        "classes": graph.classes,
        "workspace_bytes": lowered.plan.workspace,
        "constant_bytes": len(lowered.plan.constants),
        "most_images": most_images(lowered.kernels),
        "cubins": {arch: f"kernels.{arch}.cubin" for arch in architectures},
        "ptx": {"arch": newest, "file": PTX},
        "launches": launches(lowered, parameters(sources[ARCHITECTURES[newest]])),
    }
    (out / PLAN).write_text(json.dumps(plan, indent=1) + "\n")
    return {
        "architectures": list(architectures),
        "compiler": compiler.version,
        "kernels": len(lowered.calls),
        "workspace_bytes": lowered.plan.workspace,
        "constant_bytes": len(lowered.plan.constants),
    }


def launches(lowered: Lowered, order: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """The launches as JSON values.

    Args:
        lowered: the network.
        order: names of each kernel's parameters in its signature.
    """
    listed = []
    for kernel, call in zip(lowered.kernels, lowered.plan.calls, strict=True):
        assert call.function == kernel.name
        names = [f"x{i}" for i in range(len(kernel.inputs))] + [f"c{i}" for i in range(len(kernel.constants))] + ["y"]
        arguments = dict(zip(names, call.arguments, strict=True))
        symbol = f"{kernel.name}_kernel"
        places = [[arguments[name].place.value, arguments[name].offset] for name in order[symbol]]
        listed.append({"kernel": symbol, "blocks": kernel.blocks, "threads": kernel.threads, "arguments": places})
    return listed
