"""A network's variants -> a library, shared and static: TVM compiles the kernels, the C compiler the rest.

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
from squeezeedge.targets.cpu.device import library_name
from squeezeedge.targets.cpu.interface import HEADER, Interface
from squeezeedge.targets.cpu.tables import CONSTANTS, Variant, plan_header, share_constants

__all__ = ["KERNEL_PASSES", "compile_options", "compiler_version", "kernel_object", "link_library", "write_sources"]

OBJECT = "kernels.o"
DRIVER = ("driver.c", "preprocess.c", "threads.c")
SOURCES = (*DRIVER, "glibc.c")
HEADERS = ("kernels.h", "preprocess.h", "processor.h", "threads.h")

KERNEL_PASSES = {"tirx.disable_storage_rewrite": True}
"""How TVM's passes are configured for the kernels: storage rewriting drops the mark of loops.scratch."""

VERSIONED = ("exp", "pthread_create", "pthread_join", "pthread_mutex_trylock", "pthread_sigmask")
"""Functions that glibc.c has, as newer glibcs have newer versions of them."""

_HERE = Path(__file__).parent


def kernel_object(kernels: tvm.IRModule, target: dict[str, Any]) -> bytes:
    """The object file of a plan's kernels.

    Args:
        kernels: of the plan.
        target: TVM's target.
    """
    with scratch_folder() as folder:
        path = folder / OBJECT
        with tvm.transform.PassContext(config=KERNEL_PASSES):
            tvm.tirx.build(kernels, target=Target(target)).write_to_file(str(path), "o")
        return path.read_bytes()


def write_sources(variants: Sequence[Variant], interface: Interface, folder: Path) -> list[str]:
    """Write the C compiler's inputs into a folder: the driver, everything that it includes, and the kernels.

    Args:
        variants: the network for each instruction set, the best first.
        interface: what a program sees of the network.
        folder: where to.

    Returns:
        Names of the kernels' object files.
    """
    objects = [f"{number}-{OBJECT}" for number in range(len(variants))]
    for name, variant in zip(objects, variants, strict=True):
        (folder / name).write_bytes(variant.machine_code)
    variants, constants = share_constants(variants)
    constants.tofile(folder / CONSTANTS)
    (folder / "plan.h").write_text(plan_header(variants, interface))
    (folder / HEADER).write_text(interface.header(), encoding="utf-8")
    for name in (*SOURCES, *HEADERS):
        shutil.copy(_HERE / name, folder)  # away from the header that the network's is made of
    return objects


def compile_options() -> list[str]:
    """The C compiler's, for what :func:`write_sources` wrote."""
    includes = (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
    exact = "-ffp-contract=off"  # preprocess.c says why
    return ["-std=gnu11", exact, "-fPIC", "-fvisibility=hidden", "-pthread", "-I.", *(f"-I{path}" for path in includes)]


def link_library(variants: Sequence[Variant], compiler: str, interface: Interface, out: Path) -> str | None:
    """Write the shared library, the archive and the header into a folder.

    Args:
        variants: the network for each instruction set, the best first.
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

        objects = write_sources(variants, interface, scratch)
        merged = f"{interface.prefix}.o"
        _tool([compiler, "-O2", *compile_options(), "-c", *SOURCES], scratch)
        parts = [*(str(Path(name).with_suffix(".o")) for name in DRIVER), *objects]
        _tool([compiler, "-r", "-nostdlib", *parts, "-o", merged], scratch)
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
