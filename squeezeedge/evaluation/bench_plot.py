"""A picture of a device's speed: latencies and throughput of every combination."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from squeezeedge.evaluation.bench import BenchReport
from squeezeedge.files import write_figure

__all__ = ["plot_bench"]


def plot_bench(report: BenchReport, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    On the left, a bar is the median time of a batch, and a line spans the least time to the 99th percentile. On the
    right are images a second.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    rows = report.rows
    figure = Figure(figsize=(12, max(3.0, 1.6 + 0.45 * len(rows))), layout="constrained")
    times, rates = figure.subplots(1, 2, sharey=True)
    names = [
        f"batch {row.batch}" + ("" if row.threads is None else f", {row.threads} thread{'s' * (row.threads > 1)}")
        for row in rows
    ]
    places = range(len(rows))
    times.barh(places, [row.p50 for row in rows], color="tab:blue")
    if report.kind == "simulator":
        times.set(xlabel="ms at the artifact's clock, by the cycle model")
    else:
        below, above = [row.p50 - row.min for row in rows], [row.p99 - row.p50 for row in rows]
        times.errorbar([row.p50 for row in rows], places, xerr=[below, above], fmt="none", color="black", capsize=4)
        times.set(xlabel="ms a batch: median, least to 99th percentile")
    for place, row in zip(places, rows, strict=True):
        times.annotate(f"{row.p50:.3g}", (row.p99, place), (6, 0), textcoords="offset points", va="center")
    times.set_xlim(0, 1.15 * max(row.p99 for row in rows))
    times.set_yticks(places, names)
    times.invert_yaxis()
    bars = rates.barh(places, [row.images_per_s for row in rows], color="tab:green")
    rates.bar_label(bars, [f"{row.images_per_s:,.0f}" for row in rows], label_type="center", color="white")
    rates.set(xlabel="images a second")
    figure.suptitle(report.table().title)
    write_figure(path, figure)
