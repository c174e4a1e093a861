"""Targets: one folder each, the same file names, one small protocol. Nothing outside a folder names it.

A target is ``check`` -> ``compile`` -> ``open`` over one integer graph. Each folder's ``__init__`` has a
``TARGET`` and imports nothing heavy; ``run.py`` is also the artifact's device side, so it stands alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from squeezeedge.errors import UsageError

if TYPE_CHECKING:  # numpy is not needed to list targets and their options
    import numpy as np
    from numpy.typing import NDArray

    from squeezeedge.graph import IntegerGraph


__all__ = [
    "Kind",
    "LayerProfile",
    "Profile",
    "Profiler",
    "Requirement",
    "RunResult",
    "Runner",
    "Target",
    "all_targets",
    "device_target",
    "emulation",
    "get_target",
    "summary",
]

Kind = Literal["hardware", "simulator", "emulation", "reference"]


@dataclass(frozen=True)
class Requirement:
    """A tool or device that a target uses, and whether it is here.

    Attributes:
        name: what is looked for.
        needed_for: "compile" or "run"; "option": what only some options or devices of the target need.
        found: version or path; ``None`` if missing.
        fix: how to get it, shown when missing.
    """

    name: str
    needed_for: Literal["compile", "run", "option"]
    found: str | None
    fix: str


@dataclass(frozen=True)
class RunResult:
    """What a device answered.

    Attributes:
        sums: int32 [N, classes].
        latency_ms: float64, one measurement an image (or batch), in milliseconds.
        metrics: further JSON values of this device (cycles, clock, ...).
    """

    sums: NDArray[np.int32]
    latency_ms: NDArray[np.float64]
    metrics: dict[str, Any] = field(default_factory=dict)


def summary(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    """What is reported of measurements: median, 90th percentile and minimum; nothing of none."""
    import numpy as np

    if not len(milliseconds):
        return {}

    p50, p90 = np.percentile(milliseconds, [50, 90])
    return {"p50": float(p50), "p90": float(p90), "min": float(milliseconds.min())}


class Runner(Protocol):
    """A device that is ready."""

    def __call__(self, images: NDArray[np.uint8]) -> RunResult:
        """Run uint8 [N, H, W, 3]; the metrics are those of all images since the device was opened."""


class Target(Protocol):
    """What every folder's ``TARGET`` offers.

    Attributes:
        name: as in ``--target``.
        summary: one line of help.
        devices: ``--device`` names it serves -> kind.
        remote: those of the devices that may be on another machine (``--board user@host``).
        options: dataclass of compile options; each field has ``metadata["help"]`` and a default, and becomes
            ``--field-name`` of ``squeezeedge compile`` and ``eval``. ``metadata["emulated"]`` is the default for an
            emulation.
    """

    name: str
    summary: str
    devices: Mapping[str, Kind]
    remote: Collection[str]
    options: type[Any]

    def requirements(self) -> list[Requirement]:
        """What the target uses and whether it is on this machine."""

    def check_options(self, options: Any) -> None:  # noqa: ANN401  (each target's own dataclass)
        """Raise before any work is done: UnavailableError (a tool is missing) or UsageError."""

    def check_device(self, device: str, board: str | None) -> None:
        """Raise UnavailableError before any work is done if it is certain that :meth:`open` would."""

    def check(self, graph: IntegerGraph, options: Any) -> None:  # noqa: ANN401
        """Raise UnsupportedError before anything is written."""

    def compile(self, graph: IntegerGraph, options: Any, out: Path) -> dict[str, Any]:  # noqa: ANN401
        """Write the target's files (``run.py`` included) into ``out``; return extra manifest entries.

        The entry ``note``, if there is one, is also shown to the user.
        """

    def open(self, artifact: Path, device: str, board: str | None = None) -> AbstractContextManager[Runner]:
        """Make the device ready, over ssh the one of ``board``; UnavailableError if it is not there."""

    def listing(self, artifact: Path) -> Iterator[str]:
        """What the device executes, line by line."""


@dataclass(frozen=True)
class LayerProfile:
    """A layer's share of a run.

    Attributes:
        name: of the layer.
        macs: multiply-accumulates of the network.
        cycles: of the run; the layers' sum is the run's.
        utilization: multiply-accumulates / (those the array can do in these cycles).
        bound: the unit that limits the layer.
        bound_cycles: in which that unit is busy with the layer.
        busy: unit -> cycles in which it is busy with the layer.
        dram_bytes: read and written.
    """

    name: str
    macs: int
    cycles: int
    utilization: float
    bound: str
    bound_cycles: int
    busy: Mapping[str, int]
    dram_bytes: int


@dataclass(frozen=True)
class Profile:
    """Where a run's time goes.

    Attributes:
        device: what was run.
        kind: what that is.
        cycles: of the run.
        clock_mhz: clock of the device.
        utilization: of the whole run.
        layers: in execution order.
        timeline: Chrome trace (Trace Event Format) as JSON values, times in microseconds.
    """

    device: str
    kind: Kind
    cycles: int
    clock_mhz: float
    utilization: float
    layers: Sequence[LayerProfile]
    timeline: Mapping[str, Any]


@runtime_checkable
class Profiler(Protocol):
    """What a target offers whose device or simulator tells where the time goes."""

    def profile(self, artifact: Path, image: NDArray[np.uint8]) -> Profile:
        """Run one image (uint8 [H, W, 3])."""


@cache
def all_targets() -> Mapping[str, Target]:
    """Every target by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            target: Target = importlib.import_module(f"{__name__}.{module.name}").TARGET
            found[target.name] = target
    return found


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: no such target.
    """
    try:
        return all_targets()[name]
    except KeyError:
        raise UsageError(f"no target {name!r}; there are: {', '.join(all_targets())}") from None


def emulation(device: str) -> str:
    """The name of a device's emulation on this machine; the device's own name where its target has none."""
    devices = device_target(device).devices
    return next((name for name, kind in devices.items() if kind == "emulation"), device)


def device_target(device: str) -> Target:
    """The target that serves a device name.

    Raises:
        UsageError: no such device.
    """
    for target in all_targets().values():
        if device in target.devices:
            return target
    known = ", ".join(name for target in all_targets().values() for name in target.devices)
    raise UsageError(f"no device {device!r}; there are: {known}")
