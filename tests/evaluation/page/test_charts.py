"""Places of the marks of charts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.evaluation.page.charts import COLORS, MOST_SPANS, histogram, ticks, timeline
from tests.evaluation.test_profile_plot import PROFILE, event, module


def test_a_histogram_counts_every_value() -> None:
    values = np.random.default_rng(0).gamma(3, 1, 500)
    chart = histogram(values)
    assert sum(bar.count for bar in chart.bars) + chart.above == 500
    assert max(bar.height for bar in chart.bars) == 1 and not chart.constant
    assert all(0 <= bar.x and bar.x + bar.width <= 1 + 1e-9 for bar in chart.bars)
    value, place = chart.marks["p50"]
    assert value == np.median(values) and place == pytest.approx((value - chart.low) / (chart.high - chart.low))


def test_what_is_far_above_is_not_drawn() -> None:
    chart = histogram(np.append(np.linspace(1, 2, 400), 1000.0))
    assert chart.most == 1000 and chart.high < 3
    assert sum(bar.count for bar in chart.bars) == 401 - chart.above
    assert chart.above >= 1


def test_values_that_are_all_the_same() -> None:
    chart = histogram(np.full(7, 2.25))
    assert chart.constant and [bar.count for bar in chart.bars] == [7]
    assert histogram(np.append(np.full(500, 1.0), 9.0)).above == 1


def test_ticks_are_round() -> None:
    assert ticks(2.287) == [0, 0.5, 1.0, 1.5, 2.0]
    assert ticks(100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0) == [0]


def test_a_timeline() -> None:
    found = timeline(PROFILE)
    assert found.milliseconds == pytest.approx(0.4) and [track.name for track in found.tracks] == ["load", "compute"]
    load, compute = found.tracks
    assert (load.busy, compute.busy) == pytest.approx((0.1, 0.9))
    spans = [(span.x, span.width, span.layer, span.color) for span in compute.spans]
    assert spans == [(pytest.approx(0.1), pytest.approx(0.15), "first", 0), (0.25, 0.75, "second", 1)]
    assert all(0 <= span.color < COLORS for span in compute.spans)


def test_many_events_are_few_spans() -> None:
    events = [module(0, "load"), *(event(0, "first", place, 0.9) for place in range(5000))]
    (track,) = timeline(replace(PROFILE, timeline={"traceEvents": events})).tracks
    assert len(track.spans) <= MOST_SPANS and track.busy == pytest.approx(0.9, abs=0.001)
    assert timeline(replace(PROFILE, timeline={"traceEvents": [module(0, "load")]})).tracks == ()
