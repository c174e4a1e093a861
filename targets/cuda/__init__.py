"""CUDA target: machine code for NVIDIA GPUs through TVM; a GPU machine needs only its driver and numpy."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.lower.feature import Feature
from squeezeedge.targets.cuda.options import CudaOptions, asked_architectures
from squeezeedge.targets.protocol import Kind, NetworkOpener, Profile, Requirement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph
    from squeezeedge.targets.cuda.lower import CudaLowered

__all__ = ["TARGET", "CudaOptions", "CudaTarget"]


class CudaTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "cuda"
    summary = "NVIDIA GPUs, machine code and PTX"
    devices: Mapping[str, Kind] = {"cuda": "hardware"}
    remote: Collection[str] = ("cuda",)
    needs_root = False
    options = CudaOptions
    device_module = "squeezeedge.targets.cuda.device"
    supports = frozenset({Feature.DEPTHWISE})

    def requirements(self) -> list[Requirement]:
        """A compiler; to run, NVIDIA's driver and a GPU."""
        from squeezeedge.errors import UnavailableError
        from squeezeedge.targets.cuda.device import Driver, Unavailable
        from squeezeedge.targets.cuda.toolchain import FIX, find_compiler

        try:
            compiler = find_compiler().version
        except UnavailableError:
            compiler = None
        try:
            driver = Driver()
            gpu, fix = f"{driver.name(0)}, CUDA {driver.version()}", ""
        except Unavailable as error:
            gpu, fix = None, str(error)
        return [
            Requirement("nvcc or NVRTC", "compile", compiler, FIX),
            Requirement("NVIDIA GPU", "run", gpu, fix),
            Requirement("ssh (another machine's GPU)", "option", shutil.which("ssh"), "install an OpenSSH client"),
        ]

    def check_options(self, options: CudaOptions) -> None:
        """A compiler that knows the architecture must be there, a GPU need not."""
        from squeezeedge.targets.cuda.toolchain import find_compiler, known_architectures

        asked = asked_architectures(options)
        known_architectures(find_compiler(), asked)

    def check_device(self, device: str, board: str | None, options: CudaOptions | None = None) -> None:
        """Without a board, this machine must have a driver and a GPU."""
        from squeezeedge.errors import UnavailableError
        from squeezeedge.targets.cuda.device import Driver, Unavailable

        if board is None:
            try:
                Driver()
            except Unavailable as error:
                raise UnavailableError(f"{error}; or use `board` user@host") from None

    def lower(self, graph: IntegerGraph, options: CudaOptions) -> CudaLowered:
        """Compile the kernels for each architecture."""
        from squeezeedge.lower.legalize import legalize
        from squeezeedge.targets.cuda.lower import lower

        return lower(legalize(graph, self.supports), options)

    def network(self, device: str) -> NetworkOpener:
        """This machine's first GPU, image by image."""
        from squeezeedge.targets.cuda.device import Network

        return Network

    def profile(self, artifact: Path, image: NDArray[np.uint8], runs: int = 50) -> Profile:
        """Times of every kernel on this machine's first GPU."""
        from squeezeedge.targets.cuda.profile import profile_on_gpu

        return profile_on_gpu(self, artifact, image, runs)

    def listing(self, artifact: Path, layer: str | None = None) -> Iterator[str]:
        """The PTX; it has the same source as the machine code for each architecture.

        Raises:
            UsageError: no layer has that name.
            CorruptFileError: the artifact has none.
        """
        from squeezeedge.targets.cuda.listing import ptx_lines

        return ptx_lines(artifact, layer)


TARGET = CudaTarget()
