"""The picture of a compression: what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from squeezeedge.compression import curve_plot
from squeezeedge.compression.compress import Compression
from squeezeedge.compression.curve_plot import plot_curve
from squeezeedge.compression.search import Point
from squeezeedge.model import Model
from tests.graphs import random_graph


def test_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(curve_plot, "write_figure", lambda path, figure: figures.append(figure))
    curve = (Point(20.0, 1000, 90.0, 20.0, 50.0, 5.0), Point(None, 4000, 100.0, None, 55.0, 0.0))
    made = Compression(Model.of_graph(random_graph(3)), curve[1], curve[0], curve)
    plot_curve(made, "net", Path("p.png"))
    (axes,) = figures[0].axes
    agreement, accuracy, written = axes.get_lines()
    assert np.array_equal(agreement.get_xydata(), [[1.0, 90.0], [4.0, 100.0]])
    assert np.array_equal(accuracy.get_ydata(), [50.0, 55.0]) and np.array_equal(written.get_xdata(), [1.0, 1.0])
    assert axes.get_title() == "net: 1,000 bytes at a drop of 10.0 points; uncompressed 4,000"
    plot_curve(replace(made, curve=(Point(20.0, 1000, 90.0, 20.0),)), "net", Path("p.png"))
    assert len(figures[1].axes[0].get_lines()) == 2, "no accuracy without labels"
