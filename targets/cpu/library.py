"""A call plan -> one shared library: TVM compiles the kernels; the C compiler links them, driver.c and the weights."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm.target import Target

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.files import scratch_folder
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.call_plan import Argument, CallPlan, Place
from squeezeedge.targets.cpu.device import LIBRARY

__all__ = ["HEADER", "kernel_object", "link_library"]

HEADER = "squeezeedge.h"
OBJECT = "kernels.o"
_HERE = Path(__file__).parent
_DTYPES = {"uint8": "{kDLUInt, 8, 1}", "int8": "{kDLInt, 8, 1}", "int32": "{kDLInt, 32, 1}"}


def kernel_object(kernels: tvm.IRModule, target: dict[str, Any]) -> bytes:
    """The object file of a plan's kernels.

    Args:
        kernels: of the plan.
        target: TVM's target.
    """
    with scratch_folder() as folder:
        path = folder / OBJECT
        with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):  # it drops loops.scratch's mark
            tvm.tirx.build(kernels, target=Target(target)).write_to_file(str(path), "o")
        return path.read_bytes()


def link_library(
    plan: CallPlan,
    machine_code: bytes,
    features: Sequence[str],
    compiler: str,
    shape: Shape,
    classes: int,
    out: Path,
) -> None:
    """Write LIBRARY and HEADER into a folder.

    Args:
        plan: the network.
        machine_code: its kernels' object file.
        features: what the processor must have (:data:`squeezeedge.targets.cpu.options.FEATURES`).
        compiler: the C compiler.
        shape: of the image.
        classes: number of class sums.
        out: the folder.

    Raises:
        UnavailableError: the C compiler is missing.
        SqueezeEdgeError: it fails; the text has its first error.
    """
    with scratch_folder() as scratch:
        (scratch / OBJECT).write_bytes(machine_code)
        plan.constants.tofile(scratch / "constants.bin")
        (scratch / "plan.h").write_text(_plan_header(plan, features, shape, classes))
        (scratch / "exports.map").write_text("{ global: squeezeedge_*; local: *; };\n")
        command = [
            compiler,
            *("-O2", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-s"),
            *(
                f"-I{path}"
                for path in (
                    scratch,
                    _HERE,
                    tvm_ffi.libinfo.find_include_path(),
                    tvm_ffi.libinfo.find_dlpack_include_path(),
                )
            ),
            f'-DCONSTANTS_FILE="{scratch / "constants.bin"}"',
            *(str(_HERE / "driver.c"), str(scratch / OBJECT)),
            *("-o", str(out / LIBRARY), f"-Wl,--version-script={scratch / 'exports.map'}", "-Wl,-z,noexecstack"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UnavailableError(f"the C compiler {compiler} can't be started: {error.strerror}") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if not line.startswith("collect2:")]
            reasons = [line for line in said if "error" in line or "failed" in line] or said
            raise SqueezeEdgeError(f"{compiler} failed: {reasons[0] if reasons else done.returncode}")
    shutil.copy(_HERE / HEADER, out / HEADER)


def _plan_header(plan: CallPlan, features: Sequence[str], shape: Shape, classes: int) -> str:
    """The tables that driver.c includes."""
    arguments = [argument for call in plan.calls for argument in call.arguments]
    outputs = [argument.size for argument in arguments if argument.place is Place.OUTPUT]
    defines = {
        "BUFFERS": len(arguments),
        "CALLS": len(plan.calls),
        "CLASSES": classes,
        "INPUT_BYTES": shape.height * shape.width * shape.channels,
        "INPUT_HEIGHT": shape.height,
        "INPUT_WIDTH": shape.width,
        "INPUT_CHANNELS": shape.channels,
        "OUTPUT_SIZE": max(outputs),
        "WORKSPACE_BYTES": plan.workspace,
    }
    needs = {f"NEEDS_{feature.upper()}": 1 for feature in features}
    lines = [f"#define {name} {value}" for name, value in {**defines, **needs}.items()]
    for name in dict.fromkeys(call.function for call in plan.calls):
        lines.append(f"int __tvm_ffi_{name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);")
    lines += ["static const Buffer buffers[BUFFERS] = {", *map(_buffer, arguments), "};"]
    lines.append("static const Call calls[CALLS] = {")
    first = 0
    for call in plan.calls:
        lines.append(f"    {{__tvm_ffi_{call.function}, {first}, {len(call.arguments)}}},")
        first += len(call.arguments)
    return "\n".join([*lines, "};", ""])


def _buffer(argument: Argument) -> str:
    return f"    {{{argument.place.name}, {argument.offset}, {argument.size}, {_DTYPES[argument.dtype]}}},"
