"""An integer graph -> machine code for NVIDIA GPUs and the plan of its launches."""

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
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.cuda.device import CONSTANTS, PLAN
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.module import Launch, kernel_launches, plan_launches
from squeezeedge.targets.cuda.options import ARCHITECTURES, PTX, CudaOptions, choose_architectures
from squeezeedge.targets.cuda.source import cuda_source, most_images, parameters
from squeezeedge.targets.cuda.toolchain import find_compiler

__all__ = ["CudaLowered", "graph_launches", "lower"]

FUSIONS = (Pattern.CONCAT_CONVOLUTIONS,)


@dataclass(frozen=True, eq=False)
class CudaLowered:
    """A network as machine code.

    Attributes:
        plan: memory and constants of one image.
        compiler: name and version.
        cubins: architecture -> machine code.
        ptx: of the newest architecture.
        launches: what the device's side reads (plan.json).
    """

    plan: CallPlan
    compiler: str
    cubins: Mapping[str, bytes]
    ptx: bytes
    launches: Mapping[str, Any]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write machine code for each architecture, PTX, the constants and the plan.

        Returns:
            What the manifest says of them.
        """
        for arch, cubin in self.cubins.items():
            (folder / _cubin(arch)).write_bytes(cubin)
        (folder / PTX).write_bytes(self.ptx)
        self.plan.constants.tofile(folder / CONSTANTS)
        (folder / PLAN).write_text(json.dumps(self.launches, indent=1) + "\n")
        return {
            "architectures": list(self.cubins),
            "compiler": self.compiler,
            "kernels": len(self.plan.calls),
            "workspace_bytes": self.plan.workspace,
            "constant_bytes": len(self.plan.constants),
        }


def lower(graph: IntegerGraph, options: CudaOptions) -> CudaLowered:
    """Compile a graph's kernels; all of it, as nothing else can fail then.

    Args:
        graph: the network, of what the target supports.
        options: which architectures.

    Raises:
        UsageError: the architecture is not known.
        UnavailableError: there is no compiler, or it can't be started.
        UnsupportedError: the kernels cannot compute a layer exactly; the text has its name.
        SqueezeEdgeError: the compiler fails.
    """
    architectures = choose_architectures(options)
    compiler = find_compiler()
    launches = graph_launches(graph)
    height, width, channels = graph.input_shape
    newest = architectures[-1]
    plan = plan_launches(launches, INSTRUCTION_SETS[ARCHITECTURES[newest]], height * width * channels)
    kernels = [launch.kernel for launch in launches]
    sources: dict[str, str] = {}
    for arch in architectures:
        isa = ARCHITECTURES[arch]
        if isa not in sources:
            sources[isa] = cuda_source(kernels, INSTRUCTION_SETS[isa], arch)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ptx = pool.submit(compiler.ptx, sources[ARCHITECTURES[newest]], newest)
        cubins = {arch: pool.submit(compiler.cubin, sources[ARCHITECTURES[arch]], arch) for arch in architectures}
    listed = {
        "input": list(graph.input_shape),
        "classes": graph.classes,
        "workspace_bytes": plan.workspace,
        "constant_bytes": len(plan.constants),
        "most_images": most_images(kernels),
        "cubins": {arch: _cubin(arch) for arch in architectures},
        "ptx": {"arch": newest, "file": PTX},
        "launches": _listed(launches, plan, parameters(sources[ARCHITECTURES[newest]])),
    }
    made = {arch: cubin.result() for arch, cubin in cubins.items()}
    return CudaLowered(plan, compiler.version, made, ptx.result(), listed)


def graph_launches(graph: IntegerGraph) -> list[Launch]:
    """Write a graph's kernels; no compiler is needed.

    Raises:
        UnsupportedError: they cannot compute a layer exactly; the text has its name.
    """
    return kernel_launches(stages(partition(to_relax(graph), FUSIONS), graph), graph.input_shape)


def _cubin(arch: str) -> str:
    return f"kernels.{arch}.cubin"


def _listed(launches: Sequence[Launch], plan: CallPlan, order: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """The launches as JSON values.

    Args:
        launches: the network.
        plan: its memory.
        order: names of each kernel's parameters in its signature.
    """
    listed = []
    for launch, call in zip(launches, plan.calls, strict=True):
        kernel = launch.kernel
        assert call.function == kernel.name
        names = [f"x{i}" for i in range(len(kernel.inputs))] + [f"c{i}" for i in range(len(kernel.constants))] + ["y"]
        arguments = dict(zip(names, call.arguments, strict=True))
        symbol = f"{kernel.name}_kernel"
        places = [[arguments[name].place.value, arguments[name].offset] for name in order[symbol]]
        listed.append({"kernel": symbol, "blocks": kernel.blocks, "threads": kernel.threads, "arguments": places})
    return listed
