"""A picture of where an integer graph's error comes from, layer by layer."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from squeezeedge.files import write_figure
from squeezeedge.quantization.attribution import KINDS, Attribution

__all__ = ["plot_attribution"]

MOST_NAMES = 90
"""Layers whose names can be read below the bars."""


def plot_attribution(attribution: Attribution, model: str, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Every layer has one bar with three stacked parts: the noise in the logits that its rounding, its clipping and its
    weights cause, each alone, in parts per million of the logits' power. Higher is worse.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    layers = attribution.layers
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots()
    places, base = range(len(layers)), [0.0] * len(layers)
    for kind in KINDS:
        noise = [10 ** (6 - getattr(layer, kind) / 10) for layer in layers]
        axes.bar(places, noise, bottom=base, label=kind)
        base = [below + value for below, value in zip(base, noise, strict=True)]
    axes.set(ylabel="noise, parts per million of the logits' power", xlim=(-0.6, len(layers) - 0.4))
    if len(layers) <= MOST_NAMES:
        axes.set_xticks(list(places), [layer.name for layer in layers], rotation=90, fontsize=7)
    else:
        axes.set_xlabel("layers in execution order")
    axes.legend()
    together = attribution.network.together
    axes.set_title(f"{model}: error of each layer alone; of all together {together:.1f} dB SQNR")
    write_figure(path, figure)
