"""A call plan -> a library, shared and static: TVM compiles the kernels, the C compiler driver.c and the weights.

Both are made of one relocatable object. Only the interface's names are global in it, so libraries of several networks
can be linked into one program.
"""

from __future__ import annotations

import re
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
from squeezeedge.lower.call_plan import Argument, CallPlan, Place
from squeezeedge.targets.cpu.device import library_name
from squeezeedge.targets.cpu.interface import HEADER, Interface

__all__ = ["compile_options", "compiler_version", "kernel_object", "link_library", "write_sources"]

OBJECT = "kernels.o"
SOURCES = ("driver.c", "glibc.c")
HEADERS = ("processor.h",)

VERSIONED = ("exp", "pthread_create", "pthread_join", "pthread_mutex_trylock", "pthread_sigmask")
"""Functions that glibc.c has, as newer glibcs have newer versions of them."""

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


def write_sources(
    plan: CallPlan, machine_code: bytes, features: Sequence[str], interface: Interface, folder: Path
) -> None:
    """Write the C compiler's inputs into a folder: driver.c, everything that it includes, and the kernels' object file.

    Args:
        plan: the network.
        machine_code: its kernels' object file.
        features: what the processor must have (:data:`squeezeedge.targets.cpu.options.FEATURES`).
        interface: what a program sees of the network.
        folder: where to.
    """
    (folder / OBJECT).write_bytes(machine_code)
    plan.constants.tofile(folder / "constants.bin")
    (folder / "plan.h").write_text(_plan_header(plan, features, interface))
    (folder / HEADER).write_text(interface.header(), encoding="utf-8")
    for name in (*SOURCES, *HEADERS):
        shutil.copy(_HERE / name, folder)  # away from the header that the network's is made of


def compile_options() -> list[str]:
    """The C compiler's, for what :func:`write_sources` wrote."""
    includes = (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
    return ["-std=gnu11", "-fPIC", "-fvisibility=hidden", "-pthread", "-I.", *(f"-I{path}" for path in includes)]


def link_library(
    plan: CallPlan, machine_code: bytes, features: Sequence[str], compiler: str, interface: Interface, out: Path
) -> str | None:
    """Write the shared library, the archive and the header into a folder.

    Args:
        plan: the network.
        machine_code: its kernels' object file.
        features: what the processor must have.
        compiler: the C compiler; the archiver, objcopy and objdump are those that belong to it.
        interface: what a program sees of the network.
        out: the folder.

    Returns:
        The oldest glibc that the shared library runs with, as "2.17"; ``None`` if it is for another C library.

    Raises:
        UnavailableError: a tool is missing.
        SqueezeEdgeError: it fails; the text has its first error.
    """
    library = library_name(interface.prefix)
    archive = f"lib{interface.prefix}.a"
    with scratch_folder() as scratch:

        def tool(name: str, *arguments: str) -> str:
            return _tool([_tool([compiler, f"-print-prog-name={name}"], scratch).strip(), *arguments], scratch)

        write_sources(plan, machine_code, features, interface, scratch)
        merged = f"{interface.prefix}.o"
        _tool([compiler, "-O2", *compile_options(), "-c", *SOURCES], scratch)
        _tool([compiler, "-r", "-nostdlib", "driver.o", OBJECT, "-o", merged], scratch)
        tool("objcopy", "--strip-debug", "--wildcard", f"--keep-global-symbol={interface.prefix}_*", merged)
        tool("ar", "rcsD", archive, merged)
        wrapped = [f"-Wl,--wrap={name}" for name in VERSIONED]
        parts = [*wrapped, merged, "glibc.o"]
        if "-gnu" in _tool([compiler, "-dumpmachine"], scratch):  # threads were a library of their own
            parts += ["-Wl,--no-as-needed", _empty_library(compiler, "libpthread.so.0", scratch), "-Wl,--as-needed"]
        linking = ["-shared", "-pthread", "-s", "-Wl,-z,noexecstack", "-Wl,-z,defs", f"-Wl,-soname,{library}"]
        _tool([compiler, *linking, *parts, "-lm", "-o", library], scratch)
        found = re.findall(r" GLIBC_(\d+(?:\.\d+)+)$", tool("objdump", "-p", library), re.MULTILINE)
        for name in (library, archive, HEADER):
            shutil.copy(scratch / name, out / name)
    return max(found, key=lambda version: [int(part) for part in version.split(".")], default=None)


def compiler_version(compiler: str) -> str:
    """Name and version of a C compiler, as it says them.

    Raises:
        UnavailableError, SqueezeEdgeError: as :func:`link_library`.
    """
    with scratch_folder() as scratch:
        return _tool([compiler, "--version"], scratch).partition("\n")[0]


def _empty_library(compiler: str, name: str, folder: Path) -> str:
    """Make an empty shared library to link with; a library of that name is required where the result is loaded."""
    command = [compiler, "-shared", "-nostdlib", f"-Wl,-soname,{name}", "-x", "c", "/dev/null", "-o", name]
    _tool(command, folder)
    return name


def _tool(command: Sequence[str], folder: Path) -> str:
    """What a compiler's tool prints, run in a folder."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{command[0]} can't be started: {error.strerror}; install gcc and binutils") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if not line.startswith("collect2:")]
        reasons = [line for line in said if "error" in line or "failed" in line] or said
        raise SqueezeEdgeError(f"{command[0]} failed: {reasons[0] if reasons else done.returncode}")
    return done.stdout


def _plan_header(plan: CallPlan, features: Sequence[str], interface: Interface) -> str:
    """The tables that driver.c includes."""
    arguments = [argument for call in plan.calls for argument in call.arguments]
    outputs = [argument.size for argument in arguments if argument.place is Place.OUTPUT]
    shape = interface.shape
    defines = {
        "BUFFERS": len(arguments),
        "CALLS": len(plan.calls),
        "CLASSES": interface.classes,
        "CONSTANTS_FILE": '"constants.bin"',
        "INPUT_BYTES": shape.height * shape.width * shape.channels,
        "INPUT_HEIGHT": shape.height,
        "INPUT_WIDTH": shape.width,
        "INPUT_CHANNELS": shape.channels,
        "OUTPUT_SIZE": max(outputs),
        "WORKSPACE_BYTES": plan.workspace,
    }
    lines = [f"#define {name} {value}" for name, value in defines.items()]
    needs = "".join(f"missing_{feature}, " for feature in features)
    lines.append(f"static const Missing needs[] = {{{needs}NULL}};")
    for name in dict.fromkeys(call.function for call in plan.calls):
        lines.append(f"int __tvm_ffi_{name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);")
    lines += ["static const Buffer buffers[BUFFERS] = {", *map(_buffer, arguments), "};"]
    lines.append("static const Call calls[CALLS] = {")
    first = 0
    for call in plan.calls:
        lines.append(f"    {{__tvm_ffi_{call.function}, {first}, {len(call.arguments)}}},")
        first += len(call.arguments)
    return "\n".join([*lines, "};", *interface.tables(), ""])


def _buffer(argument: Argument) -> str:
    return f"    {{{argument.place.name}, {argument.offset}, {argument.size}, {_DTYPES[argument.dtype]}}},"
