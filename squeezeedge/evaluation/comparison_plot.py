"""A picture of a comparison: a bar for every layer."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from squeezeedge.evaluation.comparison import Comparison, ExactComparison, FloatComparison
from squeezeedge.files import write_figure

__all__ = ["plot_comparison"]

MADE, PASSED_ON, NOT_SEEN, FP32 = "tab:red", "tab:orange", "lightgray", "tab:blue"
MOST_NAMES = 90
"""Layers whose names can be read below the bars."""


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    An exact comparison shows, above, the share of values that differ, coloured by whether the layer makes faults or
    passes them on, and below, the largest difference. A comparison with fp32 shows, above, the signal-to-noise ratio
    and, below, the share at the end of the range.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    if isinstance(comparison, ExactComparison):
        layers = comparison.layers
        unseen = [bool(layer.unseen) for layer in layers]
        colors = [MADE if layer.wrong_a + layer.wrong_b else PASSED_ON for layer in layers]
        shares = [100 * layer.differing / max(layer.values, 1) for layer in layers]
        above.bar(range(len(layers)), shares, color=colors)
        above.set(ylabel="values that differ, %", ylim=(0, max(1.0, *shares) * 1.05))
        below.bar(range(len(layers)), [layer.largest for layer in layers], color=colors)
        below.set_yscale("symlog", linthresh=1)
        below.set(ylabel="largest difference", ylim=(0, 2 * max(1, *(layer.largest for layer in layers))))
        meaning = {MADE: "the layer makes faults", PASSED_ON: "it only passes them on", NOT_SEEN: "not compared"}
        used = [MADE, PASSED_ON, *([NOT_SEEN] if any(unseen) else [])]
        above.legend(handles=[Patch(color=color, label=meaning[color]) for color in used], loc="upper left")
        names = [layer.name for layer in layers]
    else:
        assert isinstance(comparison, FloatComparison)
        unseen = [bool(layer.unseen) for layer in comparison.layers]
        ratios = [layer.sqnr_db if math.isfinite(layer.sqnr_db) else 0.0 for layer in comparison.layers]
        above.bar(range(len(ratios)), ratios, color=FP32)
        above.set(ylabel="SQNR, dB")
        ends = [100 * layer.saturated / max(layer.values, 1) for layer in comparison.layers]
        below.bar(range(len(ends)), ends, color=FP32)
        below.set(ylabel="at the end of the range, %")
        names = [layer.name for layer in comparison.layers]
    for place, hidden in enumerate(unseen):
        if hidden:
            for axes in (above, below):
                axes.axvspan(place - 0.5, place + 0.5, color=NOT_SEEN, zorder=0)
    below.set(xlim=(-0.6, len(names) - 0.4))
    if len(names) <= MOST_NAMES:
        below.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    else:
        below.set_xlabel("layers in execution order")
    same = isinstance(comparison, ExactComparison) and not any(layer.differing for layer in comparison.layers)
    above.set_title(f"{comparison.title}: nothing differs" if same else comparison.title)
    write_figure(path, figure)
