"""A picture of a processor's speed: our instruction sets beside other runtimes and the limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from squeezeedge.files import write_figure

__all__ = ["cpu_figure", "plot_cpu"]

OWN, HELD = "squeezeedge", "OpenVINO"
BLUE, GRAY = "tab:blue", "tab:gray"


def plot_cpu(values: Mapping[str, Any], path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    write_figure(path, cpu_figure(values))


def cpu_figure(values: Mapping[str, Any]) -> Figure:
    """The picture.

    On the left, bars are the milliseconds of one image on one thread; on the right, the milliseconds an image of the
    larger batch on as many threads as were measured. A red line is the limit of an instruction
    set: of ours and of the runtime that is held to each.

    Args:
        values: as :func:`benchmarks.cpu.measure` gives them.
    """
    results = values["results"]
    names = list(values["rows"])
    threads, batch = max(cell["threads"] for cell in results), max(cell["batch"] for cell in results)
    figure = Figure(figsize=(11, 1.6 + 0.36 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, values, 1, 1)
    _bars(right, values, threads, batch)
    left.set_yticks(range(len(names)), [f"{OWN} {name}" if _own(values, name) else name for name in names])
    left.invert_yaxis()
    figure.suptitle(f"{values['network']} on {values['machine']['processor']}; red: the limit of the instructions")
    return figure


def _bars(axes: Axes, values: Mapping[str, Any], threads: int, batch: int) -> None:
    cells = {cell["row"]: cell for cell in values["results"] if (cell["threads"], cell["batch"]) == (threads, batch)}
    for place, name in enumerate(values["rows"]):
        if name not in cells:
            continue
        best, limit = cells[name]["min_ms"] / batch, cells[name]["limit_ms"] / batch
        axes.barh(place, best, color=BLUE if _own(values, name) else GRAY)
        if values["rows"][name]["runtime"] in (OWN, HELD):
            axes.plot([limit, limit], [place - 0.5, place + 0.5], color="tab:red")
        axes.annotate(f"{best:.3g}", (best, place), (4, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    low, high = (choose(cell["min_ms"] / batch for cell in cells.values()) for choose in (min, max))
    axes.set_xlim(low / 6, high * 2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"ms an image (logarithmic), batch {batch}, {threads} thread{'s' * (threads > 1)}")


def _own(values: Mapping[str, Any], name: str) -> bool:
    return bool(values["rows"][name]["runtime"] == OWN)
