"""A picture of a network, layer by layer: what it costs, and how far from fp32 it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from squeezeedge.evaluation.inspection import Inspection, Layer
from squeezeedge.files import write_figure

if TYPE_CHECKING:  # torch is not needed to draw costs
    from squeezeedge.evaluation.layer_errors import LayerErrors

__all__ = ["plot_inspection"]

COLORS = {"native": "tab:blue", "legalized": "tab:orange", "refused": "tab:red"}
MEANING = {
    "native": "native on every target",
    "legalized": "rewritten for a target",
    "refused": "refused by a target",
}
MOST_NAMES = 90
"""Layers whose names can be read below the bars."""


def plot_inspection(inspection: Inspection, model: str, path: Path, errors: LayerErrors | None = None) -> None:
    """Write the picture; the file's ending chooses the format.

    Every layer that has any gets a bar of multiply-accumulates and one of parameters. With errors, every layer of the
    integer graph has bars. Three rows below show its signal-to-noise ratio against fp32, its saturated values, and the
    share of each kind of error in the noise that it adds alone.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    layers = [layer for layer in inspection.layers if errors is not None or layer.macs or layer.parameters]
    rows = 2 if errors is None else 5
    figure = Figure(figsize=(12, 7 if errors is None else 13), layout="constrained")
    macs, parameters, *below = figure.subplots(rows, 1, sharex=True)
    places, kinds = range(len(layers)), [_kind(layer) for layer in layers]
    colors = [COLORS[kind] for kind in kinds]
    macs.bar(places, [layer.macs / 1e6 for layer in layers], color=colors)
    parameters.bar(places, [layer.parameters / 1e3 for layer in layers], color=colors)
    macs.set(ylabel="million multiply-accumulates")
    parameters.set(ylabel="thousand parameters", xlim=(-0.6, len(layers) - 0.4))
    if errors is not None:
        _errors(below, [layer.name for layer in layers], errors)
    lowest = [macs, parameters, *below][-1]
    if len(layers) <= MOST_NAMES:
        lowest.set_xticks(list(places), [layer.name for layer in layers], rotation=90, fontsize=7)
    else:
        lowest.set_xlabel("layers in execution order")
    macs.legend(handles=[Patch(color=COLORS[kind], label=MEANING[kind]) for kind in COLORS if kind in kinds])
    height, width, _ = inspection.input_shape
    macs.set_title(
        f"{model} at {height}x{width}: {inspection.macs / 1e6:,.1f} million multiply-accumulates, "
        f"{inspection.parameters / 1e6:,.2f} million parameters"
    )
    write_figure(path, figure)


def _errors(axes: Sequence[Axes], names: Sequence[str], errors: LayerErrors) -> None:
    """Three rows of bars; a layer without noise has none."""
    from squeezeedge.quantization.attribution import KINDS

    ratios, saturation, shares = axes
    both = [errors.layers[name] for name in names]
    places = range(len(names))
    finite = [beside.sqnr_db if math.isfinite(beside.sqnr_db) else 0 for beside, _ in both]
    ratios.bar(places, finite, color="tab:green")
    ratios.set(ylabel="SQNR beside fp32, dB")
    parts = [100 * beside.saturated / max(beside.values, 1) for beside, _ in both]
    saturation.bar(places, parts, color="tab:purple")
    saturation.set(ylabel="saturated values, %")
    found = [{} if alone is None else alone.shares for _, alone in both]
    base = [0.0] * len(names)
    for kind in KINDS:
        own = [100 * share.get(kind, 0) for share in found]
        shares.bar(places, own, bottom=base, label=kind)
        base = [below + value for below, value in zip(base, own, strict=True)]
    shares.set(ylabel="its own noise comes from, %", ylim=(0, 128), yticks=range(0, 101, 25))
    shares.legend(loc="upper left", ncols=len(KINDS))  # above the bars


def _kind(layer: Layer) -> str:
    """The worst that a target does with it."""
    found = {support.how for support in layer.support.values()}
    return next((kind for kind in ("refused", "legalized") if kind in found), "native")
