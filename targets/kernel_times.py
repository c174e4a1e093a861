"""Profiles of devices that read a clock between kernels. The artifact states what each kernel computes.

The peak is measured, too: the rate of the same target's own kernels on convolutions that suit them (:mod:`.peak`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.protocol import Column, LayerProfile, Peak, Profile, Target
from squeezeedge.targets.session import open_session

__all__ = ["KernelLayer", "profile_kernels"]

WARM_UP = 5
"""Runs before those that count."""

COLUMNS = (Column("fastest", "fastest ms", digits=3),)


@dataclass(frozen=True)
class KernelLayer:
    """What a kernel makes: an entry of ``layers`` in the manifest.

    Attributes:
        name: of the tensor.
        macs: its multiply-accumulates.
        bytes: of the kernel's buffers, which it reads or writes: tensors with their borders, weights.
    """

    name: str
    macs: int
    bytes: int

    @classmethod
    def all_of(cls, folder: Path, compiled: dict[str, Any], kernels: int) -> list[KernelLayer]:
        """The layers of an artifact.

        Args:
            folder: the artifact's.
            compiled: its entries of the target.
            kernels: how many there must be.

        Raises:
            CorruptFileError: the manifest has no such layers.
        """
        try:
            found = [cls(one["name"], one["macs"], one["bytes"]) for one in compiled["layers"]]
            whole = all(type(n) is int and 0 <= n < 1 << 62 for one in found for n in (one.macs, one.bytes))
            if len(found) != kernels or not whole or not all(type(one.name) is str for one in found):
                raise ValueError("other layers than kernels")
        except (LookupError, TypeError, ValueError) as error:
            text = f"{folder}: the manifest does not say what the kernels make ({error!r}); compile the model again"
            raise CorruptFileError(text) from error
        return found


def profile_kernels(
    folder: Path,
    target: Target,
    device: str,
    image: NDArray[np.uint8],
    runs: int,
    peak: Callable[[Artifact, Mapping[str, Any]], Peak],
    entry: Callable[[Artifact, Mapping[str, Any]], dict[str, Any]] = lambda artifact, about: artifact.compiled,
) -> Profile:
    """Run an image on a device of this machine and read a clock between its kernels.

    Args:
        folder: the artifact.
        target: that it was compiled for.
        device: one of the target's, whose network is a :class:`squeezeedge.targets.protocol.Timer`.
        image: uint8 [height, width, 3].
        runs: that count.
        peak: measures it, of the artifact and what the device says of itself; if that fails, the profile has none and
            says why.
        entry: the target's entries of the manifest, of the same; with its ``layers``.

    Raises:
        As :meth:`squeezeedge.targets.protocol.Profiler.profile`.
    """
    notes = []
    with open_session(folder, target, device, elsewhere=False) as session:
        session.kernel_times(image, WARM_UP)
        sums, clock = session.kernel_times(image, runs)
        plain = session.run(np.repeat(image[None], runs, 0))
    notes.append(f"a run without clocks between the kernels: {np.median(plain.latency_ms):.3f} ms")
    artifact = Artifact(folder)
    layers = KernelLayer.all_of(folder, entry(artifact, plain.metrics), clock.shape[1] - 1)
    measured: Peak | None = None
    try:
        measured = peak(artifact, plain.metrics)
    except SqueezeEdgeError as error:
        notes.append(f"the peak was not measured: {error}")
    times = np.diff(clock, axis=1)
    medians, fastest = np.median(times, 0), times.min(0)
    return Profile(
        device=device,
        kind=target.devices[device],
        unit="ms",
        unit_ms=1.0,
        time=float(medians.sum()),
        runs=runs,
        moved="kB",
        layers=[
            LayerProfile(layer.name, layer.macs, float(time), layer.bytes, {"fastest": float(least)})
            for layer, time, least in zip(layers, medians, fastest, strict=True)
        ],
        columns=COLUMNS,
        peak=measured,
        facts={**plain.metrics, "latency_ms": float(np.median(plain.latency_ms))},
        notes=notes,
        sums=sums,
        timeline=_timeline(layers, _typical(clock)),
    )


def _typical(clock: NDArray[np.float64]) -> NDArray[np.float64]:
    """The clock of the run that took the median time."""
    order = np.argsort(clock[:, -1], kind="stable")
    run: NDArray[np.float64] = clock[order[len(order) // 2]]
    return run


def _timeline(layers: Sequence[KernelLayer], clock: NDArray[np.float64]) -> dict[str, Any]:
    """One bar a kernel."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": 0, "args": {"name": "kernels"}},
    ]
    for layer, start, end in zip(layers, clock, clock[1:], strict=False):
        about = {"macs": layer.macs, "bytes": layer.bytes}
        bar = {"name": layer.name, "ts": 1e3 * float(start), "dur": 1e3 * float(end - start), "args": about}
        events.append({"ph": "X", "pid": 0, "tid": 0, **bar})
    return {"traceEvents": events, "displayTimeUnit": "ns"}
