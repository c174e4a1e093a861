"""A picture of a compression: size against agreement and accuracy."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

from squeezeedge.compression.compress import Compression
from squeezeedge.files import write_figure

__all__ = ["plot_curve"]


def plot_curve(compression: Compression, model: str, path: Path) -> None:
    """Write the picture; the file's ending chooses the format.

    Args:
        compression: what was made.
        model: its name.
        path: of the picture.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    sizes = [point.bytes / 1e3 for point in compression.curve]
    axes.plot(sizes, [point.agreement for point in compression.curve], marker="o", label="same class as uncompressed")
    accuracy = [(point.bytes / 1e3, point.top1) for point in compression.curve if point.top1 is not None]
    if accuracy:
        axes.plot(*zip(*accuracy, strict=True), marker="s", label="top-1")
    values = [point.agreement for point in compression.curve] + [top1 for _, top1 in accuracy]
    lowest = 10 * math.floor(min(*values, 99) / 10)
    result = compression.result
    axes.axvline(result.bytes / 1e3, color="black", linestyle="--", linewidth=0.8, label="written")
    axes.set(xlabel="kB", ylabel="% of images, expected", ylim=(lowest, 100 + (100 - lowest) / 50))
    axes.set_title(
        f"{model}: {result.bytes:,} bytes at a drop of {result.drop:.1f} points; "
        f"uncompressed {compression.uncompressed.bytes:,}"
    )
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    write_figure(path, figure)
