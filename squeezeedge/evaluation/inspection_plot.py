"""A picture of a network: multiply-accumulates and parameters layer by layer."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from squeezeedge.evaluation.inspection import Inspection, Layer
from squeezeedge.files import write_figure

__all__ = ["plot_inspection"]

COLORS = {"native": "tab:blue", "legalized": "tab:orange", "refused": "tab:red"}
MEANING = {
    "native": "native on every target",
    "legalized": "rewritten for a target",
    "refused": "refused by a target",
}
MOST_NAMES = 90
"""Layers whose names can be read below the bars."""


def plot_inspection(inspection: Inspection, model: str, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Above, a bar of multiply-accumulates for every layer that has any or parameters; below, of parameters.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    layers = [layer for layer in inspection.layers if layer.macs or layer.parameters]
    figure = Figure(figsize=(12, 7), layout="constrained")
    macs, parameters = figure.subplots(2, 1, sharex=True)
    places, kinds = range(len(layers)), [_kind(layer) for layer in layers]
    colors = [COLORS[kind] for kind in kinds]
    macs.bar(places, [layer.macs / 1e6 for layer in layers], color=colors)
    parameters.bar(places, [layer.parameters / 1e3 for layer in layers], color=colors)
    macs.set(ylabel="million multiply-accumulates")
    parameters.set(ylabel="thousand parameters", xlim=(-0.6, len(layers) - 0.4))
    if len(layers) <= MOST_NAMES:
        parameters.set_xticks(list(places), [layer.name for layer in layers], rotation=90, fontsize=7)
    else:
        parameters.set_xlabel("layers in execution order")
    macs.legend(handles=[Patch(color=COLORS[kind], label=MEANING[kind]) for kind in COLORS if kind in kinds])
    height, width, _ = inspection.input_shape
    macs.set_title(
        f"{model} at {height}x{width}: {inspection.macs / 1e6:,.1f} million multiply-accumulates, "
        f"{inspection.parameters / 1e6:,.2f} million parameters"
    )
    write_figure(path, figure)


def _kind(layer: Layer) -> str:
    """The worst that a target does with it."""
    found = {support.how for support in layer.support.values()}
    return next((kind for kind in ("refused", "legalized") if kind in found), "native")
