"""Options of the CUDA target and what they choose; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from squeezeedge.errors import UsageError

__all__ = ["ALL", "ARCHITECTURES", "DOT_PRODUCT", "PTX", "TENSOR_CORE", "CudaOptions", "choose_architectures"]

DOT_PRODUCT = "dp4a"
TENSOR_CORE = "mma"
ALL = "all"
PTX = "kernels.ptx"
"""The file of an artifact that a driver compiles for GPUs without machine code."""

ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {"sm_75": DOT_PRODUCT, "sm_80": TENSOR_CORE, "sm_86": TENSOR_CORE, "sm_89": TENSOR_CORE, "sm_90": TENSOR_CORE}
)
"""Architecture -> how its kernels multiply (:mod:`squeezeedge.targets.cuda.isa`); oldest first."""


@dataclass(frozen=True)
class CudaOptions:
    """What to compile for."""

    arch: str = field(
        default=ALL,
        metadata={"help": f"GPU architecture: {', '.join(ARCHITECTURES)}, or all. PTX for later ones is added."},
    )


def choose_architectures(options: CudaOptions) -> tuple[str, ...]:
    """The architectures to compile for, oldest first.

    Raises:
        UsageError: it is not known.
    """
    if options.arch == ALL:
        return tuple(ARCHITECTURES)
    if options.arch not in ARCHITECTURES:
        raise UsageError(f"--arch {options.arch}: not known; there are: {', '.join(ARCHITECTURES)}, {ALL}")
    return (options.arch,)
