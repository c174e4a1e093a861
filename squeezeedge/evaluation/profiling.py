"""Where a device's time goes: makes and checks the profile of an artifact, and formats it as text and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from squeezeedge.artifact import Artifact
from squeezeedge.errors import GateError, UsageError, check_whole
from squeezeedge.evaluation.tables import Table, number
from squeezeedge.targets.protocol import Column, LayerProfile, Profile, Profiler
from squeezeedge.targets.registry import all_targets

__all__ = ["RUNS", "profile", "profile_json", "profile_notes", "profile_table", "profile_title"]

RUNS = 50
"""Times that the image is run, of which the medians are told."""


def profile(artifact: Artifact, runs: int = RUNS) -> Profile:
    """Run the first golden image on the artifact's device and tell where the time goes.

    Args:
        artifact: what is run.
        runs: how often; a simulator, whose runs are all the same, makes one.

    Raises:
        UsageError: nothing tells the time of this target's layers.
        UnavailableError: the device or a tool is missing.
        GateError: the device answered with other class sums than the golden ones.
        SqueezeEdgeError: the device fails, or a file is damaged.
    """
    check_whole("runs", runs, 1)
    target = artifact.target
    if not isinstance(target, Profiler):
        able = ", ".join(name for name, other in all_targets().items() if isinstance(other, Profiler))
        why = "; an emulation is no device" if "emulation" in target.devices.values() else ""
        text = f"compiled for {target.name}, whose layers nothing tells the times of{why}"
        raise UsageError(f"{artifact.path}: {text}; a profile is made of artifacts for {able}")
    found = target.profile(artifact.path, artifact.golden[0], runs)
    wrong = int(np.count_nonzero(found.sums != artifact.golden_sums[0]))
    if wrong:
        text = f"{found.device} answers otherwise than the golden image asks: class sums that differ: {wrong}"
        raise GateError(f"{artifact.path}: {text}; the times mean nothing")
    return found


def profile_title(found: Profile, model: str) -> str:
    """One line."""
    share = found.utilization()
    parts = [f"{found.milliseconds:.{2 if found.milliseconds >= 10 else 3}f} ms"]
    if found.unit == "cycles":
        parts.insert(0, f"{found.time:,.0f} cycles")
    if found.runs > 1:
        parts.append(f"medians of {found.runs} runs")
    if share is not None:
        parts.append(f"{100 * share:.1f} % of the peak")
    return f"{model} on {found.device} ({found.kind}): {', '.join(parts)}"


def profile_notes(found: Profile) -> list[str]:
    """What the table does not say, one sentence each."""
    if found.peak is None:
        return [*found.notes]
    rate = f"{found.peak.rate / found.unit_ms / 1e6:.1f} billion multiply-accumulates a second"
    return [f"the peak: {rate}, {found.peak.meaning}", *found.notes]


def profile_table(found: Profile, model: str) -> Table:
    """One row a layer; the last row is the whole network."""
    timed = found.unit == "ms"
    columns = ["layer", "MMAC", found.unit, "% of run", "% of peak"]
    columns += ["GMAC/s", "GB/s"] if timed else []
    columns += [*(column.title for column in found.columns), found.moved]
    moved = sum(layer.bytes for layer in found.layers)
    whole = LayerProfile("whole network", found.macs, found.time, moved, _totals(found))
    rows = [_row(found, layer) for layer in (*found.layers, whole)]
    return Table(profile_title(found, model), columns, rows)


def _totals(found: Profile) -> dict[str, float | str]:
    """Of the counts among the figures, whose unit is the profile's; shares and words have no sum."""
    keys = [column.key for column in found.columns if column.scale == 1]
    numbers = {key: [layer.figures[key] for layer in found.layers] for key in keys}
    return {key: sum(map(float, own)) for key, own in numbers.items() if not any(isinstance(one, str) for one in own)}


def _row(found: Profile, layer: LayerProfile) -> list[str]:
    timed, share = found.unit == "ms", found.utilization(layer)
    rates = [layer.macs / layer.time / 1e6, layer.bytes / layer.time / 1e6] if layer.time else [0.0, 0.0]
    return [
        layer.name,
        f"{layer.macs / 1e6:.1f}" if layer.macs else "-",
        f"{layer.time:.3f}" if timed else f"{layer.time:.0f}",
        number(100 * found.share(layer), 1),
        number(None if share is None or not layer.macs else 100 * share, 1),
        *([number(rates[0] if layer.macs else None, 1), number(rates[1], 1)] if timed else []),
        *(_figure(column, layer.figures.get(column.key, "")) for column in found.columns),
        number(layer.bytes / 1e3, 1),
    ]


def _figure(column: Column, value: float | str) -> str:
    return value if isinstance(value, str) else f"{value * column.scale:.{column.digits}f}"


def profile_json(found: Profile, model: str) -> dict[str, Any]:
    """JSON values with stable keys; the timeline is a file of its own."""
    peak = found.peak
    return {
        "model": model,
        "device": found.device,
        "kind": found.kind,
        "unit": found.unit,
        "time": found.time,
        "milliseconds": found.milliseconds,
        "runs": found.runs,
        "macs": found.macs,
        "utilization": found.utilization(),
        "peak": None if peak is None else {"macs_per_second": 1e3 * peak.rate / found.unit_ms, "meaning": peak.meaning},
        **found.facts,
        "notes": list(found.notes),
        "layers": [
            {
                "name": layer.name,
                "macs": layer.macs,
                "time": layer.time,
                "share": found.share(layer),
                "utilization": found.utilization(layer),
                "macs_per_second": _per_second(found, layer.macs, layer),
                "bytes": layer.bytes,
                "bytes_per_second": _per_second(found, layer.bytes, layer),
                **layer.figures,
            }
            for layer in found.layers
        ],
    }


def _per_second(found: Profile, count: int, layer: LayerProfile) -> float | None:
    return 1e3 * count / (layer.time * found.unit_ms) if layer.time else None
