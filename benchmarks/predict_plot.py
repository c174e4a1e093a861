"""A picture of predicted latencies on processors that were not measured, beside published ones of other toolkits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

__all__ = ["predict_figure"]

MARKERS = {"1": "o", "4": "s", "not stated": "x"}
"""Threads -> marker."""
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
"""The first is ours; published figures have the others."""


def predict_figure(values: Mapping[str, Any]) -> Figure:
    """The picture.

    Args:
        values: what :mod:`benchmarks.predict` writes.
    """
    rows = [
        (f"{isa}, {name}\n{found['board']}, {found['hertz'] / 1e9:g} GHz", found)
        for isa, entry in values["instruction_sets"].items()
        for name, found in entry["processors"].items()
        if "measured" not in found
    ]
    toolkits = list(dict.fromkeys(name for of in values["published_ms"].values() for name in of))
    colours = dict(zip(toolkits, COLOURS[1:], strict=False))
    figure = Figure(figsize=(10, 1.7 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels = set()
    published = dict(values["published_ms"])  # beside the first row of each board
    for place, (_, found) in enumerate(rows):
        points = [("predicted", threads, one["ms"], COLOURS[0]) for threads, one in found["threads"].items()]
        for toolkit, times in published.pop(found["board"], {}).items():
            points += [(f"{toolkit}, published", threads, ms, colours[toolkit]) for threads, ms in times.items()]
        for source, threads, ms, colour in points:
            label = f"{source}, threads: {threads}"
            new = label not in labels
            labels.add(label)
            axes.plot(ms, place, MARKERS[threads], color=colour, label=label if new else None)
            above = 6 if colour == COLOURS[0] else -13
            axes.annotate(f"{ms:.3g}", (ms, place), (0, above), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("ms an image (logarithmic), batch 1")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(f"{values['network']}: predicted, not measured")
    return figure
