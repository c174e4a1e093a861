"""How much work the quantizer puts into a network: which passes it applies, and how many rows it fits them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from squeezeedge.errors import UsageError

__all__ = ["EFFORTS", "MOST_EXTRA", "Effort", "with_budget"]


MOST_EXTRA = 1.0
"""Largest budget of multiply-accumulates, as a share of the network's."""


@dataclass(frozen=True)
class Effort:
    """What is applied; each switch can be changed on its own, to measure what it is worth.

    Attributes:
        compensate: weights and biases make up for the layers before (:mod:`compensate`).
        ridge: how strongly compensated weights are held where they were trained: the larger, the less they move.
        search: scales by expected error (:mod:`scale_search`); else the least that clip nothing seen.
        gptq: rounding with regard to the inputs (:mod:`gptq`); else to the nearest.
        rows: most output positions that a layer is fitted on.
        mirror: mirrored copies of the calibration images are calibrated on, too (:mod:`calibration`).
        extra_macs: multiply-accumulates that splitting channels may add (:mod:`split_channels`), as a share.
    """

    compensate: bool = True
    ridge: float = 1.0
    search: bool = True
    gptq: bool = True
    rows: int = 12_000
    mirror: bool = False
    extra_macs: float = 0.0


EFFORTS: Mapping[str, Effort] = MappingProxyType(
    {"fast": Effort(), "best": Effort(rows=40_000, mirror=True, extra_macs=0.05)}
)
"""By name, as on the command line."""


def with_budget(effort: str | Effort, extra_macs: float | None = None) -> Effort:
    """An effort, perhaps with another budget than its own.

    Args:
        effort: one of :data:`EFFORTS` by name, or one of your own.
        extra_macs: its new budget; ``None``: its own.

    Raises:
        UsageError: there is none of that name, or the budget is not from 0 to :data:`MOST_EXTRA`.
    """
    if isinstance(effort, str):
        if effort not in EFFORTS:
            raise UsageError(f"`effort`: must be {' or '.join(EFFORTS)}, not {effort!r}")
        effort = EFFORTS[effort]
    if extra_macs is None:
        return effort
    if not 0 <= extra_macs <= MOST_EXTRA:
        raise UsageError(f"`extra_macs`: must be a share from 0 to {MOST_EXTRA:g}, not {extra_macs:g}")
    return replace(effort, extra_macs=extra_macs)
