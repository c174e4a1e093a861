"""A graph through TVM's interface for external code generators, and the TVM module that runs it.

    network = lower_graph(graph, geometry, "extended")
    network.program                                  # what an artifact carries
    export_module(network, Path("model.so"))         # tvm.runtime.load_module, relax.VirtualMachine: "main"

TVM groups the operators by our patterns and merges the groups into regions. There must be one region, the whole
network, which becomes one program. Then TVM calls ``relax.ext.vta`` to make a module for the region. The module is one
function that calls the driver in hls/driver. It depends only on the region's types, so TVM passes no data of ours.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tvm
import tvm_ffi
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.support import cc
from tvm.target import Target

from squeezeedge.errors import UnavailableError, UnsupportedError, UsageError
from squeezeedge.graph import IntegerGraph, rules
from squeezeedge.lower.patterns import Pattern, partition
from squeezeedge.lower.relax_module import MAIN, to_relax
from squeezeedge.lower.stages import region_stages
from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header
from squeezeedge.targets.vta.isa.encoding import InstructionSet
from squeezeedge.targets.vta.isa.geometry import Geometry
from squeezeedge.targets.vta.isa.program import Packing, Region, VtaProgram
from squeezeedge.targets.vta.lower.compiler import FUSIONS, compile_program
from squeezeedge.targets.vta.sim.native import build_simulator, require_compiler

__all__ = ["Device", "LoweredNetwork", "driver_inputs", "export_module", "lower_graph", "merge"]

CODEGEN = "vta"
"""TVM's name of this target."""

DRIVER = HLS / "driver"

ENTRY = "squeezeedge_vta_class_sums"
"""The driver's function in tvm.c."""

Device = Literal["simulator", "linux"]
"""What the driver runs on: the simulator, or the accelerator of the Linux board that loads the module."""

SOURCES = ("network.c", "tvm.c")
"""What is compiled for each network."""

SIMULATOR_SOURCE, BOARD_SOURCE = "simulator.cpp", "linux.c"
"""What implements device.h."""

OPTIONS = ("-O3", "-fPIC", "-fvisibility=hidden", "-c")
C_OPTIONS = (*OPTIONS, "-x", "c", "-std=gnu11")
SIMULATOR_OPTIONS = (*OPTIONS, "-std=c++14", "-Wno-unknown-pragmas")

MODEL_HEADER = "model.h"
IMAGE_FILE = "image.bin"

LONGEST_TIMEOUT_S = 3600


@dataclass(frozen=True, eq=False)
class LoweredNetwork:
    """A network that TVM has handed over completely.

    Attributes:
        program: what the accelerator executes.
        module: ``main`` takes uint8 [1, height, width, 3] and returns class sums, int32 [1, classes]. They are no
            logits: each class has a scale of its own. ``main`` only calls the region's function, which is in the
            module's external modules.
    """

    program: VtaProgram
    module: IRModule


def lower_graph(graph: IntegerGraph, geometry: Geometry, instructions: InstructionSet) -> LoweredNetwork:
    """Compile a graph.

    Args:
        graph: the network.
        geometry: of the accelerator.
        instructions: which it has.

    Raises:
        UnsupportedError: the accelerator can't hold a layer; the text names it.
    """
    module, region = merge(to_relax(graph))
    program = compile_program(region_stages(region, graph), geometry, instructions)
    module = relax.transform.RunCodegen()(module)
    return LoweredNetwork(program, module.without_attr("const_name_to_constant"))  # they are in the program


def merge(module: IRModule) -> tuple[IRModule, relax.Function]:
    """Partition a module of the form that :func:`squeezeedge.lower.relax_module.to_relax` gives, and merge the parts.

    Returns:
        The module, whose ``main`` only calls the region, and the region.

    Raises:
        UnsupportedError: an operator that no pattern takes, or more regions than one.
    """
    merged = relax.transform.MergeCompositeFunctions()(partition(module, FUSIONS, CODEGEN))
    bindings = [binding for block in merged[MAIN].body.blocks for binding in block.bindings]
    calls = [binding.value for binding in bindings if isinstance(binding.value, relax.Call)]
    left = dict.fromkeys(_described(call) for call in calls if isinstance(call.op, Op))
    if left:
        raise UnsupportedError(
            f"the accelerator has no operation for {', '.join(left)} of this network; it has: {', '.join(Pattern)}"
        )
    if len(calls) != 1:
        raise UnsupportedError(f"the network has {len(calls)} parts for the accelerator; it must be one")
    return merged, merged[calls[0].op]


def _described(call: relax.Call) -> str:
    """A description of the operator, with the layer if it is known."""
    return f"{call.op.name} ({call.span.source_name.name})" if call.span else str(call.op.name)


def _generate(regions: Sequence[relax.Function], _options: object, _constants: object) -> list[Any]:
    """TVM's call for the regions of a module."""
    functions = {str(region.attrs["global_symbol"]): _entry(region) for region in regions}
    return [tvm.tirx.build(IRModule(functions), target=_target())]


tvm_ffi.register_global_func(f"relax.ext.{CODEGEN}", _generate, override=True)


def _entry(region: relax.Function) -> Any:  # noqa: ANN401  (TVM's classes are untyped)
    """The region as a function of its input and its output: a call of the driver, which sets TVM's error."""
    name = str(region.attrs["global_symbol"])
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"global_symbol": name})
        image, sums = (
            T.arg(argument, T.Buffer([int(size) for size in kind.shape], str(kind.dtype)))
            for argument, kind in (("image", region.params[0].ty), ("sums", region.ret_ty))
        )
        with T.If(T.call_extern("int32", ENTRY, image.data, sums.data) != 0), T.Then():
            T.evaluate(T.tvm_throw_last_error())
    return builder.get()


def _target() -> Target:
    return Target("llvm")


def export_module(
    network: LoweredNetwork, path: Path, *, device: Device = "simulator", timeout_s: float = 10.0
) -> None:
    """Write a TVM module: a shared library with program, memory image and driver.

    Where TVM is, ``relax.VirtualMachine(tvm.runtime.load_module(path), tvm.cpu())["main"]`` takes the image, uint8
    [1, height, width, 3], and returns the class sums, int32 [1, classes]. Each class has a scale of its own, so they
    must not be compared between classes: sums * the manifest's logit_scale (float32) are logits. A program that fails
    or does not finish is a ``RuntimeError`` of that call.

    Args:
        network: what to run.
        path: the library's name; written under another name first.
        device: what the driver runs on.
        timeout_s: seconds after which an unfinished program is an error; the simulator counts 100 MHz cycles.

    Raises:
        UnavailableError: there is no C++ compiler, or it fails.
        UsageError: the time-out is not between a microsecond and an hour.
    """
    if not 1e-6 <= timeout_s <= LONGEST_TIMEOUT_S:
        raise UsageError(f"time-out of {timeout_s} s: must lie between 1e-6 and {LONGEST_TIMEOUT_S}")
    command = require_compiler("a TVM module")
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name).resolve()
        objects = _build_driver(command, network.program, device, round(timeout_s * 1e6), folder)
        executable = relax.build(network.module, _target())
        built = folder / "built.so"
        try:
            link = cc.cross_compiler(command, ["-pthread", "-s"])
            executable.export_library(str(built), fcompile=link, addons=objects, workspace_dir=str(folder))
        except (RuntimeError, OSError) as error:
            raise UnavailableError(f"{command} failed to link {path.name}: {str(error)[:2000]}") from error
        built.replace(path)


def driver_inputs(program: VtaProgram, timeout_us: int, folder: Path) -> None:
    """Write the files that the driver's sources include: two headers, and the memory image, read by the assembler.

    Args:
        program: what the driver runs.
        timeout_us: microseconds after which an unfinished program is an error.
        folder: where to.
    """
    (folder / CONFIG_HEADER).write_text(config_header(program.geometry), encoding="utf-8")
    (folder / MODEL_HEADER).write_text(_model_header(program, timeout_us), encoding="utf-8")
    (folder / IMAGE_FILE).write_bytes(program.image)


def _build_driver(command: str, program: VtaProgram, device: Device, timeout_us: int, folder: Path) -> list[str]:
    """Compile the driver's sources in a folder; names of the object files."""
    driver_inputs(program, timeout_us, folder)
    includes = [f"-I{path}" for path in (folder, DRIVER, tvm_ffi.libinfo.find_include_path())]
    includes += [f"-I{tvm_ffi.libinfo.find_dlpack_include_path()}"]
    objects = []
    if device == "simulator":  # it takes longest, and is the same for every network
        built = build_simulator(DRIVER / SIMULATOR_SOURCE, program.geometry, SIMULATOR_OPTIONS, ".o")
        objects.append(str(shutil.copy(built, folder)))
    for name in SOURCES if device == "simulator" else (*SOURCES, BOARD_SOURCE):
        objects.append(str(folder / f"{name}.o"))
        done = subprocess.run(
            [command, *C_OPTIONS, *includes, str(DRIVER / name), "-o", objects[-1]],
            cwd=folder,  # where the assembler looks for the image
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"{command} failed to build the VTA driver:\n{done.stderr[-2000:]}")
    return objects


def _model_header(program: VtaProgram, timeout_us: int) -> str:
    """What network.c has to know of a program; types are in network.h."""
    height, width = program.packings[0].image
    sums = program.sums
    class_stride, byte_stride = (4, 1) if sums.planes == 1 else (1, sums.padded)
    defines = {
        "HEIGHT": height,
        "WIDTH": width,
        "CLASSES": sums.classes,
        "SUMS": program.region(sums.region).offset,
        "CLASS_STRIDE": class_stride,
        "BYTE_STRIDE": byte_stride,
        "SIGN": rules.SIGN,
        "IMAGE_FILE": f'"{IMAGE_FILE}"',
        "IMAGE_BYTES": len(program.image),
        "DRAM_BYTES": program.dram_bytes,
        "PACKED_BYTES": max(packing.size for packing in program.packings),
        "TIMEOUT_US": timeout_us,
    }
    registers = [f"{{VTA_{name.upper()}, {value}}}" for name, value in program.registers().items()]
    written = [region for region in program.regions if region.writer != "compiler"]
    fills = [f"{{{region.offset}, {region.size}, {region.fill}}}" for region in written]
    packings = [_packing(packing, program.region(packing.region)) for packing in program.packings]
    return "\n".join(
        [
            "/* Generated from the program. */",
            *(f"#define MODEL_{name} {value}" for name, value in defines.items()),
            *_table("VtaRegister model_registers", registers),
            *_table("VtaFill model_fills", fills),
            *_table("VtaPacking model_packings", packings),
            "",
        ]
    )


def _table(declaration: str, rows: Sequence[str]) -> list[str]:
    return [f"static const {declaration}[] = {{", *(f"    {row}," for row in rows), "};"]


def _packing(packing: Packing, region: Region) -> str:
    numbers = [
        *(region.offset, *packing.kernel, *packing.stride, *packing.padding[:2]),
        *(packing.blocks, packing.height, packing.width, packing.block),
    ]
    return f"{{{', '.join(map(str, numbers))}, {{{', '.join(map(str, packing.pad_value))}}}}}"
