"""Tests for benchmarks/predict.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.executed import Block
from benchmarks.pipelines import PROCESSORS, Processor
from benchmarks.predict import MEETING_S, PUBLISHED, hottest, predict, table
from benchmarks.predict_plot import predict_figure
from squeezeedge.evaluation.tables import WIDTH
from squeezeedge.targets.kernel_times import KernelLayer

ROOT = Path(__file__).parents[2]
RECORDED = sorted((ROOT / "benchmarks" / "results").glob("predict-*.json"))

PROCESSOR = replace(PROCESSORS[0], l2=1000, beyond=1e6, rates={})
LAYERS = [KernelLayer("image", 0, 300), KernelLayer("one", 9, 400), KernelLayer("two", 9, 500)]
BLOCKS = [
    Block(1, ("a",) * 10, {0: 50, 1: 250, 2: 100}),
    Block(1, ("b",) * 5, {2: 1000}),
    Block(2, ("c",) * 4, {0: 250}),
]


def simulate(blocks: Sequence[Sequence[str]], processor: Processor) -> list[float]:
    return [2.0 * len(block) for block in blocks]


def test_the_longest_task_counts() -> None:
    found = predict(BLOCKS, LAYERS, 1000, PROCESSOR, 1e6, simulate)
    assert found.kernels_ms == pytest.approx([0, 1e3 * (0.013 + MEETING_S), 2])  # 2 * (10 * (50 + 100) + 5 * 1000)
    assert found.memory_ms == 0
    assert found.bound_ms is None
    assert found.ms == pytest.approx(sum(found.kernels_ms))


def test_what_does_not_fit_the_second_cache_is_read_from_behind_it() -> None:
    assert predict(BLOCKS, LAYERS, 1001, PROCESSOR, 1e6, simulate).memory_ms == pytest.approx(1.2)


def test_bounds_of_known_widths() -> None:
    known = replace(PROCESSORS[1], l2=1000)
    blocks = [Block(1, ("smlal v0.4s, v1.4h, v2.4h",) * 10, {0: 100})]
    assert predict(blocks, LAYERS, 0, known, 1e6, simulate).bound_ms == pytest.approx(1)


def test_only_hot_blocks_are_simulated_and_stand_for_the_others() -> None:
    assert hottest(BLOCKS, 0.8) == [BLOCKS[1], BLOCKS[0]]
    rare = Block(2, ("d",) * 10, {0: 1})
    assert rare not in hottest([*BLOCKS, rare])
    plain, with_rare = (predict(of, LAYERS, 0, PROCESSOR, 1e6, simulate).ms for of in (BLOCKS, [*BLOCKS, rare]))
    assert with_rare / plain == pytest.approx(1 + 10 / 10_000, rel=1e-3)


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_recorded_results(path: Path) -> None:
    """The documentation's table is of them, the picture can be drawn, and the method is right about this machine."""
    values = json.loads(path.read_bytes())
    text = str(table(values["network"], values["instruction_sets"]))
    assert text in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert 0.8 < values["measured_to_predicted"]["least"] <= values["measured_to_predicted"]["most"] < 1.25
    (axes,) = predict_figure(values).axes
    predicted = [one for entry in values["instruction_sets"].values() for one in entry["processors"].values()]
    assert len(axes.get_yticks()) == sum("measured" not in one for one in predicted)


def test_there_are_recorded_results() -> None:
    assert RECORDED


def test_published_figures_are_of_boards_that_are_predicted() -> None:
    assert set(PUBLISHED) <= {processor.board for processor in PROCESSORS}
