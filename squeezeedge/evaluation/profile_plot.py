"""A picture of a profile: how well each layer uses the device, and what is done when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from squeezeedge.evaluation.profiling import profile_title
from squeezeedge.files import write_figure
from squeezeedge.targets.protocol import LayerProfile, Profile

__all__ = ["plot_profile"]

Color = tuple[float, float, float, float]
COLORS = mpl.colormaps["tab20"]
LEAST_NAMED = 0.01
"""Share of the run below which a bar is too thin for a name."""
NAMES: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7}


def plot_profile(profile: Profile, model: str, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Above, every layer has a bar. Its width is the layer's time; its height is the share of the peak or, without a peak,
    the multiply-accumulates a second. Below is the timeline or, for a device that does one thing at a time, the bytes
    that each layer moves a second.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    layers, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colors = {layer.name: COLORS(index % COLORS.N) for index, layer in enumerate(profile.layers)}
    starts = np.cumsum([0.0, *(layer.time * profile.unit_ms for layer in profile.layers)])
    _bars(layers, profile, starts, [_height(profile, layer) for layer in profile.layers], colors)
    for layer, start, end in zip(profile.layers, starts, starts[1:], strict=False):
        if end - start >= LEAST_NAMED * starts[-1]:
            layers.text((start + end) / 2, 0.02, f" {layer.name}", **NAMES, transform=layers.get_xaxis_transform())
    average = profile.utilization()
    if average is None:
        layers.set(ylabel="billion multiply-accumulates a second")
    else:
        layers.axhline(100 * average, color="black", linestyle="--", linewidth=0.8)
        highest = max(100.0, *(_height(profile, layer) for layer in profile.layers))
        layers.set(ylabel="multiply-accumulates, % of the peak", ylim=(0, 1.05 * highest))
    layers.set_title(profile_title(profile, model))
    tracks = _tracks(profile)
    if len(tracks) > 1:
        _timeline(below, tracks, colors)
    else:
        rates = [layer.bytes / (layer.time * profile.unit_ms) / 1e6 if layer.time else 0 for layer in profile.layers]
        _bars(below, profile, starts, rates, colors)
        below.set(ylabel="GB a second")
    below.set(xlabel="ms", xlim=(0, starts[-1]))
    write_figure(path, figure)


def _height(profile: Profile, layer: LayerProfile) -> float:
    share = profile.utilization(layer)
    if share is not None:
        return 100 * share
    return layer.macs / (layer.time * profile.unit_ms) / 1e6 if layer.time else 0.0


def _bars(
    axes: Axes, profile: Profile, starts: NDArray[np.float64], heights: Sequence[float], colors: Mapping[str, Color]
) -> None:
    shades = [colors[layer.name] for layer in profile.layers]
    axes.bar(starts[:-1], heights, np.diff(starts), align="edge", color=shades, edgecolor="white", linewidth=0.5)


def _tracks(profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """Name of each track on which layers are at work -> its events."""
    events = profile.timeline["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    layers = {layer.name for layer in profile.layers}
    found = {
        name: [event for event in events if event["ph"] == "X" and event["tid"] == tid and event["name"] in layers]
        for tid, name in names.items()
    }
    return {name: own for name, own in found.items() if own}


def _timeline(axes: Axes, tracks: Mapping[str, Sequence[Mapping[str, Any]]], colors: Mapping[str, Color]) -> None:
    for row, events in enumerate(reversed([*tracks.values()])):
        spans = [(event["ts"] / 1e3, event["dur"] / 1e3) for event in events]
        axes.broken_barh(spans, (row - 0.4, 0.8), facecolors=[colors[event["name"]] for event in events], linewidth=0)
    axes.set_yticks(range(len(tracks)), [*reversed([*tracks])])
