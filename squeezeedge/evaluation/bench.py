"""Measures an artifact on a device: latency, throughput and energy at several batch sizes and numbers of threads."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.device import Device
from squeezeedge.errors import GateError, UsageError, check_type, check_whole
from squeezeedge.evaluation.energy import Meter, find_meters, measured
from squeezeedge.evaluation.machine import machine, versions
from squeezeedge.evaluation.metrics import sums_error
from squeezeedge.evaluation.tables import Table, number
from squeezeedge.targets.protocol import Kind, RunResult
from squeezeedge.targets.registry import hardware
from squeezeedge.targets.session import check_device, takes

__all__ = ["BenchReport", "Measurement", "bench"]

PACKAGES = ("squeezeedge", "numpy", "apache-tvm")
SECONDS, WARM_UP_S = 2.0, 0.5
LEAST_RUNS = 5
"""Runs that are measured at least, however long one takes."""
MODEL_RUNS = 1
"""Runs of a simulator: its cycles are the same in each."""
MOST_BYTES = 1 << 30
"""Of the images of a batch."""


@dataclass(frozen=True)
class Measurement:
    """A device at one batch size and number of threads. Times are in milliseconds and of a whole batch.

    Attributes:
        batch: images in a batch.
        threads: how many compute, as the device says; ``None``: it does not.
        runs: batches that were measured.
        p50, p90, p99: percentiles of a batch's time.
        min: the least time.
        mean: the mean time.
        images_per_s: by the mean time.
        parts_ms: medians of the parts of an image's time that the device reports.
        joules_per_image: meter -> energy of an image while this was measured, idle power included.
        cycles: of an image, by a simulator's model; ``None``: the time was measured.
    """

    batch: int
    threads: int | None
    runs: int
    p50: float
    p90: float
    p99: float
    min: float
    mean: float
    images_per_s: float
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    joules_per_image: Mapping[str, float] = field(default_factory=dict)
    cycles: int | None = None


@dataclass(frozen=True)
class BenchReport:
    """What :func:`bench` has measured.

    Attributes:
        model: name of the network.
        device: as in ``--device``.
        kind: what it really is.
        board: the other machine that the device is on; ``None``: this one.
        at_once: whether the images of a batch are computed at once; else one after the other.
        rows: in the order asked for.
        remarks: what people should know, a sentence each.
        about: what the device says of itself, JSON values.
        machine: this machine, JSON values (:func:`squeezeedge.evaluation.machine.machine`).
        versions: of what is installed here.
        compiled_with: versions that the artifact was compiled with.
    """

    model: str
    device: str
    kind: Kind
    board: str | None
    at_once: bool
    rows: tuple[Measurement, ...]
    remarks: tuple[str, ...]
    about: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    compiled_with: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Stable keys; a measurement's are its attributes."""
        return vars(self) | {"rows": [vars(row) for row in self.rows]}

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.remarks])

    def table(self) -> Table:
        """A row for each measurement."""
        by_model = self.kind == "simulator"
        where = f"board {self.board}" if self.board else self.machine["processor"]
        title = f"{self.model} on {self.device} ({self.kind}){': its cycle model' if by_model else f', {where}'}"
        parts = list(dict.fromkeys(name for row in self.rows for name in row.parts_ms))
        meters = list(dict.fromkeys(name for row in self.rows for name in row.joules_per_image))
        names = ["batch", "threads"]
        names += ["cycles", "model ms"] if by_model else ["p50 ms", "p90 ms", "p99 ms", "min ms"]
        names += ["images/s", *(part.replace("_", " ") for part in parts), *(f"mJ/image {name}" for name in meters)]
        return Table(title, names, [self._cells(row, parts, meters) for row in self.rows])

    def _cells(self, row: Measurement, parts: Sequence[str], meters: Sequence[str]) -> list[str]:
        if self.kind == "simulator":
            times = ["-" if row.cycles is None else f"{row.cycles:,}", number(row.p50, 3)]
        else:
            times = [number(value, 3) for value in (row.p50, row.p90, row.p99, row.min)]
        return [
            str(row.batch),
            "-" if row.threads is None else str(row.threads),
            *times,
            f"{row.images_per_s:,.0f}",
            *(number(row.parts_ms.get(part), 3) for part in parts),
            *(
                number(None if name not in row.joules_per_image else 1e3 * row.joules_per_image[name])
                for name in meters
            ),
        ]


def bench(
    artifact: Artifact | str | os.PathLike[str],
    device: str | None = None,
    *,
    board: str | None = None,
    timeout: float | None = None,
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (),
    seconds: float = SECONDS,
    warm_up: float = WARM_UP_S,
    on_progress: Callable[[int], None] = lambda done: None,
) -> BenchReport:
    """Measure an artifact on a device with its golden inputs; the class sums of every batch are checked.

    For each combination, batches run during the warm-up and then during the measured seconds. A simulator runs once,
    as its cycles are the same in each run; no time is measured.

    Args:
        artifact: what runs, or its folder.
        device: of the artifact's target; ``None``: the target's hardware.
        board: ``user@host[:port]`` of the machine with the device; ``None``: this one.
        timeout: seconds that a board may take for each answer.
        batches: images a batch, each at least 1.
        threads: how many compute; empty: as the device chooses.
        seconds: of each measurement at least, in which at least :data:`LEAST_RUNS` batches run.
        warm_up: seconds before it, in which at least one batch runs.
        on_progress: called with 1 after each combination.

    Raises:
        UsageError: the device has no choice of threads, is on another machine and is to compute batches, or a number is
            out of range.
        UnavailableError: the device is missing.
        GateError: class sums differ from the golden ones by more than the device's tolerance.
        SqueezeEdgeError: the device fails, or a file is damaged.
    """
    if isinstance(artifact, str | os.PathLike):
        artifact = open_artifact(artifact)
    check_type("artifact", artifact, Artifact, "an artifact or its path")
    for name, counts in (("batches", batches), ("threads", threads)):
        check_type(name, counts, Sequence, "several numbers")
        for count in counts:
            check_whole(name, count, 1)
    for name, value in (("seconds", seconds), ("warm_up", warm_up)):
        if not 0 <= value < float("inf"):
            raise UsageError(f"`{name}` is {value}; it must be 0 or more")
    if not batches:
        raise UsageError("no batch size was given")
    image_bytes = math.prod(artifact.graph.input_shape)
    if max(batches) * image_bytes > MOST_BYTES:
        raise UsageError(f"`batch` is {max(batches)}; at most {MOST_BYTES // image_bytes} of these images are measured")
    target = artifact.target
    name = hardware(target) if device is None else device
    if board is not None and set(batches) != {1}:
        raise UsageError("`batch`: another machine gets one image after the other; only 1 is possible with `board`")
    check_device(artifact.path, target, name, board)
    at_once = board is None and takes(target, name, "batch")
    kind = target.devices[name]
    meters, remarks = _meters(kind, board)
    rows: list[Measurement] = []
    about: Mapping[str, Any] = {}
    for chosen in threads or (None,):
        for batch in batches:
            images = _Images(artifact, batch)
            with artifact.open(name, board, timeout, threads=chosen, batch=batch if at_once else None) as opened:
                row, about = _measured(opened, images, at_once, seconds, warm_up, meters)
            rows.append(row)
            on_progress(1)
    if not at_once and set(batches) != {1}:
        remarks.append(f"{name} computes the images of a batch one after the other: a batch's time is their sum")
    return BenchReport(
        model=artifact.graph.name,
        device=name,
        kind=kind,
        board=board,
        at_once=at_once,
        rows=tuple(rows),
        remarks=tuple(remarks),
        about={key: value for key, value in about.items() if key not in ("threads", "batch", *rows[0].parts_ms)},
        machine=machine(),
        versions=versions(PACKAGES),
        compiled_with=dict(artifact.manifest["versions"]),
    )


def _meters(kind: Kind, board: str | None) -> tuple[list[Meter], list[str]]:
    """The meters to read, and remarks."""
    if kind == "simulator":
        return [], ["a simulator: cycles and milliseconds are those of its cycle model; no time was measured"]
    remarks = ["an emulation: its time says nothing of the device that it stands for"] if kind == "emulation" else []
    if board is not None:
        return [], [*remarks, "energy is not measured on another machine"]
    meters, reason = find_meters()
    return meters, [*remarks, *([reason] if reason else [])]


class _Images:
    """A batch of golden inputs and what a device must answer.

    Attributes:
        pixels: uint8 [batch, H, W, 3].
        sums: int32 [batch, classes].
    """

    def __init__(self, artifact: Artifact, batch: int) -> None:
        images, sums = artifact.golden, artifact.golden_sums
        chosen = np.arange(batch) % len(images)
        self.pixels: NDArray[np.uint8] = np.ascontiguousarray(images[chosen])
        self.sums: NDArray[np.int32] = sums[chosen]

    def check(self, result: RunResult, device: Device) -> None:
        """Raise GateError where class sums differ."""
        if sums_error(result.sums, self.sums) > device.tolerance:
            raise GateError(
                f"{device.name}: class sums differ from the golden ones in a batch of {len(self.pixels)}, so its time "
                "means nothing; find the layer with `squeezeedge compare`"
            )


def _measured(
    device: Device, images: _Images, at_once: bool, seconds: float, warm_up: float, meters: Sequence[Meter]
) -> tuple[Measurement, Mapping[str, Any]]:
    """The measurement, and what the device says of itself."""
    whole = np.max if at_once else np.sum
    if device.kind == "simulator":
        result = device.run(images.pixels)
        images.check(result, device)
        cycles, clock = result.metrics["cycles"], result.metrics["clock_mhz"]
        times = np.full(MODEL_RUNS, len(images.pixels) * cycles / clock / 1e3)
        return _measurement(images, times, result.metrics.get("threads"), {}, {}, int(cycles)), result.metrics
    end = time.perf_counter() + warm_up
    images.check(device.run(images.pixels), device)
    while time.perf_counter() < end:
        device.run(images.pixels)
    found: list[RunResult] = []
    with measured(meters) as joules:
        end = time.perf_counter() + seconds
        while len(found) < LEAST_RUNS or time.perf_counter() < end:
            found.append(device.run(images.pixels))
    images.check(found[-1], device)
    times = np.array([whole(result.latency_ms) for result in found])
    parts = {
        name: float(np.median(np.concatenate([result.timings[name] for result in found])))
        for name in found[0].timings
        if name != "latency_ms"
    }
    count = len(found) * len(images.pixels)
    energy = {name: value / count for name, value in joules.items()}
    return _measurement(images, times, found[-1].metrics.get("threads"), parts, energy), found[-1].metrics


def _measurement(
    images: _Images,
    times: NDArray[np.float64],
    threads: Any,  # noqa: ANN401  (JSON)
    parts: Mapping[str, float],
    energy: Mapping[str, float],
    cycles: int | None = None,
) -> Measurement:
    p50, p90, p99 = np.percentile(times, [50, 90, 99]).tolist()
    batch = len(images.pixels)
    return Measurement(
        batch=batch,
        threads=threads if isinstance(threads, int) else None,
        runs=len(times),
        p50=p50,
        p90=p90,
        p99=p99,
        min=float(times.min()),
        mean=float(times.mean()),
        images_per_s=1000 * batch / float(times.mean()),
        parts_ms=dict(parts),
        joules_per_image=dict(energy),
        cycles=cycles,
    )
