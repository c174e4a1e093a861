"""Where the marks of charts are; the templates draw them. Lengths are in units of the chart's own, x from the left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from squeezeedge.targets.protocol import Profile

__all__ = ["COLORS", "Bar", "Histogram", "Span", "Timeline", "Track", "colors_of", "histogram", "ticks", "timeline"]

COLORS = 8
"""Kinds of colour that the style sheet has for layers."""
BINS = 32
MOST_SPANS = 400
"""Of a track: what is closer together than a 400th of the run is drawn as one."""


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: shares, 0 to 1, of the chart's width and height.

    Attributes:
        x: left end.
        width: of it.
        height: of it.
        count: how many values it stands for.
    """

    x: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Histogram:
    """How values are distributed.

    Attributes:
        low: the least value.
        high: the right end of the axis.
        bars: from the left; empty bins have none.
        marks: name of a percentile -> (value, place on the axis, 0 to 1).
        above: how many values are above the right end.
        most: the largest value.
    """

    low: float
    high: float
    bars: tuple[Bar, ...]
    marks: Mapping[str, tuple[float, float]]
    above: int
    most: float

    @property
    def constant(self) -> bool:
        """Whether all values are the same."""
        return self.low == self.most


def histogram(values: NDArray[np.float64]) -> Histogram:
    """Of some values, float64 [N]; a few far above all others are counted, not drawn."""
    low, p50, p90, p99, most = (float(one) for one in np.percentile(values, [0, 50, 90, 99, 100]))
    high = most if most - low <= 2 * (p99 - low) else p99
    if high == low:
        counts, edges = np.array([int((values == low).sum())]), np.array([0.0, 1.0])
    else:
        counts, edges = np.histogram(values, BINS, (low, high))
        edges = (edges - low) / (high - low)
    tallest = max(int(counts.max()), 1)
    bars = tuple(
        Bar(float(left), float(right - left), count / tallest, count)
        for left, right, count in zip(edges, edges[1:], counts.tolist(), strict=False)
        if count
    )
    width = high - low or 1.0
    marks = {
        name: (value, min((value - low) / width, 1.0)) for name, value in (("p50", p50), ("p90", p90), ("p99", p99))
    }
    return Histogram(low, high, bars, marks, int((values > high).sum()), most)


def ticks(high: float, about: int = 5) -> list[float]:
    """Round numbers from 0 to at most ``high``, about so many."""
    if not high > 0:
        return [0.0]
    raw = high / about
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if raw <= factor * step * (1 + 1e-9))
    return [index * step for index in range(int(high / step * (1 + 1e-9)) + 1)]


@dataclass(frozen=True)
class Span:
    """Time in which a layer is at work on a track, as shares of the run.

    Attributes:
        x: begin.
        width: duration.
        layer: name.
        color: number of its colour.
    """

    x: float
    width: float
    layer: str
    color: int


@dataclass(frozen=True)
class Track:
    """What one unit does when.

    Attributes:
        name: of the unit.
        busy: share of the run in which it is at work, 0 to 1.
        spans: from the left.
    """

    name: str
    busy: float
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Timeline:
    """A run.

    Attributes:
        milliseconds: of the run.
        ticks: (label in milliseconds, place, 0 to 1).
        tracks: from the top.
    """

    milliseconds: float
    ticks: tuple[tuple[str, float], ...]
    tracks: tuple[Track, ...]


def colors_of(profile: Profile) -> dict[str, int]:
    """Layer -> number of its colour; neighbours have different ones."""
    return {layer.name: index % COLORS for index, layer in enumerate(profile.layers)}


def timeline(profile: Profile) -> Timeline:
    """What every unit of a profiled device does when, of the layers' events in the trace."""
    events, colors = profile.timeline["traceEvents"], colors_of(profile)
    names = {event["tid"]: str(event["args"]["name"]) for event in events if event["ph"] == "M"}
    spans: dict[object, list[tuple[float, float, str]]] = {tid: [] for tid in names}
    for event in events:
        if event["ph"] == "X" and event["name"] in colors:
            spans.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"], event["name"]))
    begin = min((start for own in spans.values() for start, _, _ in own), default=0.0)
    end = max((stop for own in spans.values() for _, stop, _ in own), default=0.0)
    length = end - begin or 1.0
    tracks = []
    for tid, own in spans.items():
        if own:
            busy = sum(stop - start for start, stop, _ in own) / length
            drawn = tuple(
                Span((start - begin) / length, (stop - start) / length, name, colors[name])
                for start, stop, name in _joined(sorted(own), length / MOST_SPANS)
            )
            tracks.append(Track(names.get(tid, str(tid)), min(busy, 1.0), drawn))
    milliseconds = (end - begin) / 1e3
    marks = tuple((f"{value:g}", value / milliseconds) for value in ticks(milliseconds)) if milliseconds else ()
    return Timeline(milliseconds, marks, tuple(tracks))


def _joined(spans: Sequence[tuple[float, float, str]], gap: float) -> list[tuple[float, float, str]]:
    """Spans of one layer that are no further from each other than a gap, as one."""
    joined: list[tuple[float, float, str]] = []
    for start, stop, name in spans:
        if joined and joined[-1][2] == name and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]), name)
        else:
            joined.append((start, stop, name))
    return joined
