"""The machine code of an artifact's library, as binutils' objdump prints it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from squeezeedge.errors import CorruptFileError, UnavailableError
from squeezeedge.targets.cpu.device import LIBRARY

__all__ = ["disassemble"]


def disassemble(artifact: Path) -> Iterator[str]:
    """The lines of the listing.

    Raises:
        UnavailableError: objdump for the artifact's processor is not on the path.
        CorruptFileError: the library is not one that objdump reads.
    """
    triple = json.loads((artifact / "manifest.json").read_text())["options"]["mtriple"]
    tool = f"{triple}-objdump" if triple else "objdump"
    path = shutil.which(tool)
    if path is None:
        raise UnavailableError(f"{tool} is not on the path; install binutils{f' for {triple}' if triple else ''}")
    command = [path, "--disassemble", "--no-show-raw-insn", LIBRARY]
    with subprocess.Popen(command, cwd=artifact, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            yield line.rstrip("\n")
        reason = process.stderr.read().strip()
    if process.returncode:
        raise CorruptFileError(f"{artifact / LIBRARY}: {reason}; compile again")
