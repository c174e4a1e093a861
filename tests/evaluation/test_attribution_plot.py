"""The picture of a network's errors: what is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from squeezeedge.evaluation import attribution_plot
from squeezeedge.evaluation.attribution_plot import plot_attribution
from squeezeedge.quantization.attribution import Attribution, LayerError


def test_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(attribution_plot, "write_figure", lambda path, figure: figures.append(figure))
    layers = LayerError("first", 50, 60, math.inf, 49), LayerError("head", math.inf, math.inf, 40, 40)
    plot_attribution(Attribution(layers, LayerError("network", 50, 60, 40, 38.25), 16), "net", Path("p.png"))
    (axes,) = figures[0].axes
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    assert [bar.get_height() for bar in bars] == pytest.approx([10, 0, 1, 0, 0, 100]), "ppm of the logits' power"
    assert [bar.get_y() for bar in bars] == pytest.approx([0, 0, 10, 0, 11, 0]), "on top of each other"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["first", "head"]
    assert axes.get_title() == "net: error of each layer alone; of all together 38.2 dB SQNR"
    monkeypatch.setattr(attribution_plot, "MOST_NAMES", 1)
    plot_attribution(Attribution(layers, LayerError("network", 50, 60, 40, 38.25), 16), "net", Path("p.png"))
    assert figures[1].axes[0].get_xlabel() == "layers in execution order"
