"""How much work the quantizer puts into a network: which passes it applies, and how many rows it fits them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from squeezeedge.errors import UsageError

__all__ = ["EFFORTS", "Effort", "effort_named"]


@dataclass(frozen=True)
class Effort:
    """What is applied; each switch can be changed on its own, to measure what it is worth.

    Attributes:
        compensate: weights and biases make up for the layers before (:mod:`compensate`).
        search: scales by expected error (:mod:`scale_search`); else the least that clip nothing seen.
        gptq: rounding with regard to the inputs (:mod:`gptq`); else to the nearest.
        sweeps: of coordinate descent after it (:func:`gptq.descend`), at most.
        rows: most output positions that a layer is fitted on.
        mirrored: every image is calibrated on mirrored, too.
        extra_macs: multiply-accumulates that splitting channels may add (:mod:`split_channels`), as a share.
    """

    compensate: bool = True
    search: bool = True
    gptq: bool = True
    sweeps: int = 0
    rows: int = 12_000
    mirrored: bool = False
    extra_macs: float = 0.0


EFFORTS: Mapping[str, Effort] = MappingProxyType(
    {"fast": Effort(), "best": Effort(sweeps=8, rows=40_000, mirrored=True, extra_macs=0.05)}
)
"""By name, as on the command line."""


def effort_named(name: str) -> Effort:
    """The effort of a name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in EFFORTS:
        raise UsageError(f"`effort` {name}: must be one of {', '.join(EFFORTS)}")
    return EFFORTS[name]
