"""A picture of a profile: utilization layer by layer, and what every module does when."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from squeezeedge.files import write_figure
from squeezeedge.targets.protocol import Profile

__all__ = ["plot_profile"]

COLORS = mpl.colormaps["tab20"]


def plot_profile(profile: Profile, model: str, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Above, a bar for every layer: as wide as its cycles, as high as its utilization. Below, the timeline.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    layers, modules = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colors = {layer.name: COLORS(index % COLORS.N) for index, layer in enumerate(profile.layers)}
    start = 0.0
    for layer in profile.layers:
        width = layer.cycles / profile.clock_mhz / 1e3
        layers.bar(start, 100 * layer.utilization, width, align="edge", color=colors[layer.name], edgecolor="white")
        layers.text(start + width / 2, 2, layer.name, rotation=90, ha="center", va="bottom", fontsize=7)
        start += width
    layers.axhline(100 * profile.utilization, color="black", linestyle="--", linewidth=0.8)
    layers.set(ylabel="multiply-accumulates, % of the array", ylim=(0, 105))
    milliseconds = profile.cycles / profile.clock_mhz / 1e3
    layers.set_title(
        f"{model} on {profile.device} ({profile.kind}): {profile.cycles:,} cycles, {milliseconds:.2f} ms at "
        f"{profile.clock_mhz:g} MHz, {100 * profile.utilization:.1f} % on average"
    )
    names = {e["tid"]: e["args"]["name"] for e in profile.timeline["traceEvents"] if e["ph"] == "M"}
    shown = [tid for tid in names if any(e["ph"] == "X" and e["tid"] == tid for e in profile.timeline["traceEvents"])]
    for row, tid in enumerate(reversed(shown)):
        bars = [
            e for e in profile.timeline["traceEvents"] if e["ph"] == "X" and e["tid"] == tid and e["name"] in colors
        ]
        spans = [(bar["ts"] / 1e3, bar["dur"] / 1e3) for bar in bars]
        modules.broken_barh(spans, (row - 0.4, 0.8), facecolors=[colors[bar["name"]] for bar in bars], linewidth=0)
    modules.set(xlabel="ms", xlim=(0, milliseconds))
    modules.set_yticks(range(len(shown)), [names[tid] for tid in reversed(shown)])
    write_figure(path, figure)
