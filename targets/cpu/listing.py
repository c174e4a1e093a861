"""The machine code of an artifact's library, as binutils' objdump prints it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError, UnavailableError
from squeezeedge.targets.cpu.device import LIBRARIES, machine_of
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.trace import step_of

__all__ = ["disassemble"]

TOOLS = {
    "x86_64": ("x86_64-linux-gnu-objdump",),
    "aarch64": ("aarch64-linux-gnu-objdump",),
    "arm": ("arm-linux-gnueabihf-objdump", "arm-linux-gnueabi-objdump"),
    "i386": ("i686-linux-gnu-objdump", "x86_64-linux-gnu-objdump"),
    "riscv": ("riscv64-linux-gnu-objdump",),
}
"""Processor -> programs that read its code. The library's own header chooses, nothing that is written beside it."""


def disassemble(artifact: Path, layer: str | None = None) -> Iterator[str]:
    """The lines of the listing.

    Args:
        artifact: the folder.
        layer: only the functions of the kernel that makes a layer, of the archive, where they have names.

    Raises:
        UsageError: no layer has that name.
        UnavailableError: no objdump for the library's processor is on the path.
        CorruptFileError: there is no library, or it is not one that objdump reads.
    """
    libraries = sorted(artifact.glob(LIBRARIES))
    if len(libraries) != 1:
        raise CorruptFileError(f"{artifact}: has {len(libraries)} libraries, 1 is needed; compile again")
    (library,) = libraries
    machine = machine_of(library)
    if machine is None:
        raise CorruptFileError(f"{library}: is no library; compile again")
    tool = _tool(machine)
    if layer is None:
        yield from _listed(tool, library)
        return
    try:
        opened = Artifact(artifact)
        step = step_of(opened, layer, int(opened.compiled["kernels"]) - 1)
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptFileError(f"{artifact}: {error}; compile again") from error
    own = re.compile(rf"[0-9a-f]+ <\w+_stage{step - 1}_\w*>:")  # step 0 copies the image
    inside = False
    for line in _listed(tool, library.with_suffix(".a")):
        if line.endswith(">:"):
            inside = own.fullmatch(line) is not None
        if inside:
            yield line


def _listed(tool: str, library: Path) -> Iterator[str]:
    command = [tool, "--disassemble", "--no-show-raw-insn", library.name]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, cwd=library.parent, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.decode(errors="replace").rstrip("\n")
        errors.seek(0)
        reason = errors.read(1000).decode(errors="replace").strip()
    if process.returncode:
        raise CorruptFileError(f"{library}: {reason}; compile again")


def _tool(machine: str) -> str:
    """Absolute path of the objdump for a processor: the path may name folders relative to the working one."""
    known = TOOLS.get(machine, ())
    own = ("objdump",) if machine_of(Path("/proc/self/exe")) == machine else ()
    for name in (*own, *known):
        path = shutil.which(name)
        if path is not None:
            return str(Path(path).absolute())
    if not known:
        raise UnavailableError(f"no disassembler is known for {machine}; there are some for {', '.join(TOOLS)}")
    package = known[0].removesuffix("-objdump").replace("_", "-")
    raise UnavailableError(f"{known[0]} is not on the path; install binutils-{package} (Debian's package)")
