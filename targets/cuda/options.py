"""Options of the CUDA target and what they choose; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from squeezeedge.errors import UsageError

__all__ = ["ALL", "ARCHITECTURES", "DOT_PRODUCT", "TENSOR_CORE", "CudaOptions", "asked_architectures"]

DOT_PRODUCT = "dp4a"
TENSOR_CORE = "mma"
ALL = "all"

ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "sm_72": DOT_PRODUCT,
        "sm_75": DOT_PRODUCT,
        "sm_80": TENSOR_CORE,
        "sm_86": TENSOR_CORE,
        "sm_87": TENSOR_CORE,
        "sm_89": TENSOR_CORE,
        "sm_90": TENSOR_CORE,
        "sm_100": TENSOR_CORE,
        "sm_120": TENSOR_CORE,
    }
)
"""Architecture -> how its kernels multiply (:mod:`squeezeedge.targets.cuda.isa`); oldest first.

sm_72 and sm_87 are Jetson Xavier and Orin, which execute no other machine code. CUDA 13 has no sm_72, CUDA 12.6 and
older no sm_100 and sm_120.
"""


@dataclass(frozen=True)
class CudaOptions:
    """What to compile for."""

    arch: str = field(
        default=ALL,
        metadata={
            "help": f"GPU architecture: {', '.join(ARCHITECTURES)}, or all that the compiler here knows. PTX for later "
            "ones is added. Jetson needs its own: Xavier sm_72, Orin sm_87.",
            "values": (ALL, *ARCHITECTURES),
        },
    )


def asked_architectures(options: CudaOptions) -> tuple[str, ...]:
    """The architectures that the options name, oldest first.

    Raises:
        UsageError: it is not known.
    """
    if options.arch == ALL:
        return tuple(ARCHITECTURES)
    if options.arch not in ARCHITECTURES:
        raise UsageError(f"`arch` {options.arch}: not known; there are: {', '.join(ARCHITECTURES)}, {ALL}")
    return (options.arch,)
