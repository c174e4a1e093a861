"""C programs on compiled networks, built and run here or for a board under emulation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from squeezeedge.targets.cpu.options import CpuOptions
from tests.targets.devices import CHECKOUT

__all__ = ["AARCH64", "ARM", "EXAMPLE", "HERE", "Machine", "documented_program"]

EXAMPLE = CHECKOUT / "docs" / "examples" / "c"
STRICT = ("-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Machine:
    """This one, or one that is emulated.

    Attributes:
        triple: ``None``: this one.
        emulator: the command that its programs are run by.
    """

    triple: str | None = None
    emulator: tuple[str, ...] = ()

    def need(self) -> None:
        """Skip the test where a tool is missing."""
        for tool in (self.compiler, *self.emulator[:1]):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed")

    @property
    def compiler(self) -> str:
        return f"{self.triple}-gcc" if self.triple else "cc"

    @property
    def options(self) -> CpuOptions:
        """For kernels that every processor of its kind has."""
        return CpuOptions(isa="neon" if self.triple == "aarch64-linux-gnu" else "generic", mtriple=self.triple)

    def build(self, source: str, folder: Path, arguments: Sequence[str | Path]) -> Path:
        """A program of C source and further arguments of the compiler."""
        (folder / "main.c").write_text(source, encoding="utf-8")
        program = folder / "main"
        command = [self.compiler, *STRICT, str(folder / "main.c"), *map(str, arguments), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return program

    def run(self, program: Path, *arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a program, ten seconds at most."""
        command = [*self.emulator, str(program), *map(str, arguments)]
        return subprocess.run(command, input=data, capture_output=True, check=False, timeout=10)


HERE = Machine()
AARCH64 = Machine("aarch64-linux-gnu", ("qemu-aarch64-static", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"))
ARM = Machine("arm-linux-gnueabihf", ("qemu-arm-static", "-cpu", "max", "-L", "/usr/arm-linux-gnueabihf"))


def documented_program() -> str:
    """The program that docs/c-interface.md explains."""
    return (EXAMPLE / "classify.c").read_text()
