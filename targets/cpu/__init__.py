"""CPU target: one shared library through TVM, without a runtime. See :mod:`.options` and :mod:`.lower`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.lower.feature import Feature
from squeezeedge.targets.cpu.options import CpuOptions, c_compiler, check_prefix, check_processor, choose_isas
from squeezeedge.targets.protocol import Kind, NetworkOpener, Profile, Requirement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph
    from squeezeedge.targets.cpu.lower import CpuLowered

__all__ = ["TARGET", "CpuOptions", "CpuTarget"]


class CpuTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "cpu"
    summary = "one library per network, no runtime"
    devices: Mapping[str, Kind] = {"cpu": "hardware"}
    remote: Collection[str] = ("cpu",)
    needs_root = False
    options = CpuOptions
    device_module = "squeezeedge.targets.cpu.device"
    supports = frozenset({Feature.DEPTHWISE})

    def requirements(self) -> list[Requirement]:
        """A C compiler to link with; Linux to run on."""
        linux = platform.system() == "Linux"
        return [
            Requirement("C compiler", "compile", shutil.which("cc"), "install gcc or clang"),
            Requirement(
                "processor",
                "run",
                f"{platform.machine()}: {choose_isas(CpuOptions())[0]}" if linux else None,
                "the library is for Linux; use `board` user@host",
            ),
            Requirement("ssh (another machine)", "option", shutil.which("ssh"), "install an OpenSSH client"),
        ]

    def check_options(self, options: CpuOptions) -> None:
        """The compiler must be there, LLVM must know the processor, and the instruction set fit it."""
        check_prefix(options.prefix)
        check_processor(options)
        choose_isas(options)
        c_compiler(options)

    def check_device(self, device: str, board: str | None, options: CpuOptions | None = None) -> None:
        """Nothing to check here: the library itself checks the processor when it is loaded."""

    def lower(self, graph: IntegerGraph, options: CpuOptions) -> CpuLowered:
        """Compile the kernels; linking them is left to ``write``."""
        from squeezeedge.lower.legalize import legalize
        from squeezeedge.targets.cpu.lower import lower

        return lower(legalize(graph, self.supports), options)

    def network(self, device: str) -> NetworkOpener:
        """The library in this process."""
        from squeezeedge.targets.cpu.device import Network

        return Network

    def profile(self, artifact: Path, image: NDArray[np.uint8], runs: int = 50) -> Profile:
        """Times of every kernel on this machine's processor."""
        from squeezeedge.targets.cpu.profile import profile_on_processor

        return profile_on_processor(self, artifact, image, runs)

    def listing(self, artifact: Path, layer: str | None = None) -> Iterator[str]:
        """The machine code as binutils prints it.

        Raises:
            UsageError: no layer has that name.
            UnavailableError: binutils for the artifact's processor are not installed.
            CorruptFileError: the library is none.
        """
        from squeezeedge.targets.cpu.listing import disassemble

        return disassemble(artifact, layer)


TARGET = CpuTarget()
