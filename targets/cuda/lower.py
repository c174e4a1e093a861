"""An integer graph -> machine code for NVIDIA GPUs and the plan of its launches."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.lower.call_plan import CallPlan
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import to_relax
from squeezeedge.lower.stages import stages
from squeezeedge.targets.cuda.device import CONSTANTS, PLAN
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.module import Launch, kernel_launches, plan_launches, tensor_places
from squeezeedge.targets.cuda.options import ARCHITECTURES, CudaOptions, asked_architectures
from squeezeedge.targets.cuda.source import cuda_source, most_images, parameters
from squeezeedge.targets.cuda.toolchain import find_compiler, known_architectures
from squeezeedge.targets.kernel_times import KernelLayer
from squeezeedge.targets.trace import Trace

__all__ = ["CudaLowered", "graph_launches", "lower"]

FUSIONS = (Pattern.CONCAT_CONVOLUTIONS,)
CUBIN, PTX = "cubin", "ptx"


@dataclass(frozen=True, eq=False)
class CudaLowered:
    """A network as machine code.

    Attributes:
        plan: memory and constants of one image.
        compiler: name and version.
        cubins: architecture -> machine code.
        ptx: architecture -> PTX, for the oldest architecture of each way to multiply. Every newer GPU can run one of
            them, and GPUs with tensor cores use these.
        left_out: architectures that were asked for and that the compiler does not know.
        launches: what the device's side reads (plan.json).
        trace: where the kernels leave the graph's tensors.
        layers: what each kernel of the plan makes, and what that takes.
    """

    plan: CallPlan
    compiler: str
    cubins: Mapping[str, bytes]
    ptx: Mapping[str, bytes]
    left_out: tuple[str, ...]
    launches: Mapping[str, Any]
    trace: Trace
    layers: Sequence[KernelLayer]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write machine code for each architecture, PTX, the constants, the plan, and where the tensors lie.

        Returns:
            What the manifest says of them.
        """
        for made, ending in ((self.cubins, CUBIN), (self.ptx, PTX)):
            for arch, code in made.items():
                (folder / _file(arch, ending)).write_bytes(code)
        self.plan.constants.tofile(folder / CONSTANTS)
        (folder / PLAN).write_text(json.dumps(self.launches, indent=1) + "\n")
        self.trace.write(folder)
        return {
            "architectures": list(self.cubins),
            "ptx": list(self.ptx),
            "left_out": list(self.left_out),
            "compiler": self.compiler,
            "kernels": len(self.plan.calls),
            "workspace_bytes": self.plan.workspace,
            "constant_bytes": len(self.plan.constants),
            "layers": [vars(layer) for layer in self.layers],
        }


def lower(graph: IntegerGraph, options: CudaOptions) -> CudaLowered:
    """Compile a graph's kernels completely, so that no compilation can fail later.

    Args:
        graph: the network, of what the target supports.
        options: which architectures.

    Raises:
        UsageError: the architecture is not known.
        UnavailableError: there is no compiler, it can't be started, or it does not know the architecture.
        UnsupportedError: the kernels cannot compute a layer exactly; the text has its name.
        SqueezeEdgeError: the compiler fails.
    """
    asked = asked_architectures(options)
    compiler = find_compiler()
    architectures = known_architectures(compiler, asked)
    launches = graph_launches(graph)
    height, width, channels = graph.input_shape
    oldest: dict[str, str] = {}
    for arch in architectures:
        oldest.setdefault(ARCHITECTURES[arch], arch)
    plan = plan_launches(launches, INSTRUCTION_SETS[ARCHITECTURES[architectures[0]]], height * width * channels)
    kernels = [launch.kernel for launch in launches]
    sources = {isa: cuda_source(kernels, INSTRUCTION_SETS[isa], arch) for isa, arch in oldest.items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ptx = {arch: pool.submit(compiler.ptx, sources[isa], arch) for isa, arch in oldest.items()}
        cubins = {arch: pool.submit(compiler.cubin, sources[ARCHITECTURES[arch]], arch) for arch in architectures}
    listed = {
        "input": list(graph.input_shape),
        "classes": graph.classes,
        "workspace_bytes": plan.workspace,
        "constant_bytes": len(plan.constants),
        "most_images": most_images(kernels),
        "cubins": {arch: _file(arch, CUBIN) for arch in architectures},
        "ptx": {arch: _file(arch, PTX) for arch in oldest.values()},
        "launches": _listed(launches, plan, parameters(sources[ARCHITECTURES[architectures[0]]])),
    }
    return CudaLowered(
        plan=plan,
        compiler=compiler.version,
        cubins={arch: cubin.result() for arch, cubin in cubins.items()},
        ptx={arch: code.result() for arch, code in ptx.items()},
        left_out=tuple(arch for arch in asked if arch not in architectures),
        launches=listed,
        trace=tensor_places(launches, plan),
        layers=[_layer(launch, call.bytes) for launch, call in zip(launches, plan.calls, strict=True)],
    )


def graph_launches(graph: IntegerGraph) -> list[Launch]:
    """Write a graph's kernels; no compiler is needed.

    Raises:
        UnsupportedError: they cannot compute a layer exactly; the text has its name.
    """
    return kernel_launches(stages(partition(to_relax(graph), FUSIONS), graph), graph.input_shape)


def _layer(launch: Launch, moved: int) -> KernelLayer:
    if launch.stage is None:
        return KernelLayer(IMAGE, 0, moved)
    return KernelLayer(launch.stage.name, launch.stage.macs, moved)


def _file(arch: str, ending: str) -> str:
    return f"kernels.{arch}.{ending}"


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
