"""The picture of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from squeezeedge.evaluation import comparison_plot
from squeezeedge.evaluation.comparison import Comparison
from squeezeedge.evaluation.comparison_plot import FP32, MADE, NOT_SEEN, PASSED_ON, plot_comparison
from tests.evaluation.test_comparison import EXACT, FLOAT, SAME


def drawn(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure, not yet written."""
    figures: list[Figure] = []
    monkeypatch.setattr(comparison_plot, "write_figure", lambda path, figure: figures.append(figure))
    plot_comparison(comparison, Path("made.png"))
    return figures[0]


def test_bars_of_an_exact_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = drawn(EXACT, monkeypatch).axes
    heights = [bar.get_height() for bar in above.containers[0]]
    assert heights == pytest.approx([0, 0, 0, 100 * 12 / 774400, 95])
    assert [bar.get_height() for bar in below.containers[0]] == [0, 0, 0, 7, 123456]
    assert [label.get_text() for label in below.get_xticklabels()] == [layer.name for layer in EXACT.layers]
    legend = above.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "the layer makes faults",
        "it only passes them on",
        "not compared",
    ]
    assert above.get_title() == EXACT.title
    assert len({MADE, PASSED_ON, NOT_SEEN, FP32}) == 4


def test_nothing_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = drawn(SAME, monkeypatch).axes
    assert above.get_title() == f"{SAME.title}: nothing differs" and below.get_ylim() == (0, 2)


def test_bars_beside_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = drawn(FLOAT, monkeypatch).axes
    assert [bar.get_height() for bar in above.containers[0]] == [0, 0, 33.456, 51]
    assert [bar.get_height() for bar in below.containers[0]] == [0, 0, 1, 0]


@pytest.mark.slow
def test_it_is_written(tmp_path: Path) -> None:
    many = replace(SAME, layers=tuple(replace(SAME.layers[2], name=f"conv{i}") for i in range(99)))
    for number, comparison in enumerate((EXACT, FLOAT, many)):
        path = tmp_path / f"{number}.svg"
        plot_comparison(comparison, path)
        assert path.read_text().startswith("<?xml")
