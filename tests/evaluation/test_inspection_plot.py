"""The picture of a network's costs: what is drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from squeezeedge.evaluation import inspection_plot
from squeezeedge.evaluation.comparison import FloatComparison, FloatLayer
from squeezeedge.evaluation.inspection import Inspection, Layer
from squeezeedge.evaluation.inspection_plot import plot_inspection
from squeezeedge.evaluation.layer_errors import LayerErrors
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.support import NATIVE, Support
from squeezeedge.quantization.attribution import Attribution, LayerError


def layer(name: str, parameters: int, macs: int, *support: Support) -> Layer:
    return Layer(name, "conv", (), Shape(1, 1, 1), parameters, macs, macs, support={str(one): one for one in support})


LAYERS = (
    layer("first", 1000, 3_000_000, NATIVE),
    layer("pool", 0, 0, NATIVE),
    layer("deep", 2000, 1_000_000, NATIVE, Support("legalized", "dense convolution", 8)),
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(inspection_plot, "write_figure", lambda path, figure: figures.append(figure))
    return figures


def _heights(axes: Any) -> list[float]:  # noqa: ANN401
    return [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]


def test_what_is_drawn(drawn: list[Figure]) -> None:
    plot_inspection(Inspection(LAYERS, Shape(32, 48, 3)), "net", Path("p.png"))
    macs, parameters = drawn[0].axes
    assert _heights(macs) == [3, 1] and _heights(parameters) == [1, 2], "millions, thousands; no bar without a cost"
    assert [label.get_text() for label in parameters.get_xticklabels()] == ["first", "deep"]
    assert macs.get_title() == "net at 32x48: 4.0 million multiply-accumulates, 0.00 million parameters"
    legend = macs.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["native on every target", "rewritten for a target"]
    assert macs.patches[0].get_facecolor() != macs.patches[1].get_facecolor()


def test_names_that_could_not_be_read_are_left_out(drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_plot, "MOST_NAMES", 2)
    many = tuple(layer(f"layer{number}", 1, 1, NATIVE) for number in range(3))
    plot_inspection(Inspection(many, Shape(8, 8, 3)), "net", Path("p.png"))
    _, parameters = drawn[0].axes
    assert parameters.get_xlabel() == "layers in execution order"
    assert "layer1" not in [label.get_text() for label in parameters.get_xticklabels()]


def test_errors_are_drawn_below(drawn: list[Figure]) -> None:
    """Every layer has a place; one that makes no error has no share, one without noise no ratio."""
    beside = FloatComparison(
        "net", "oracle", "fp32", 2, 0, (),
        (
            FloatLayer("first", Shape(1, 1, 1), 200, 40.0, 0.1, 50),
            FloatLayer("pool", Shape(1, 1, 1), 100, math.inf, 0.0, 0),
            FloatLayer("deep", Shape(1, 1, 1), 100, 30.0, 0.1, 1),
        ),
    )  # fmt: skip
    alone = (LayerError("first", 30, math.inf, 30, 27), LayerError("deep", math.inf, 20, math.inf, 20))
    errors = LayerErrors(beside, Attribution(alone, LayerError("network", 30, 20, 30, 19), 2))
    plot_inspection(Inspection(LAYERS, Shape(32, 48, 3)), "net", Path("p.png"), errors)
    macs, _, ratios, saturation, shares = drawn[0].axes
    assert _heights(macs) == [3, 0, 1] and _heights(ratios) == [40, 0, 30] and _heights(saturation) == [25, 0, 1]
    assert _heights(shares) == pytest.approx([50, 0, 0, 0, 0, 100, 50, 0, 0]), "rounding, clipping, weights"
    assert [label.get_text() for label in shares.get_xticklabels()] == ["first", "pool", "deep"]
