"""The picture of a profile: what is drawn, and a file that is there whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.evaluation import profile_plot
from squeezeedge.evaluation.profile_plot import plot_profile
from squeezeedge.targets.protocol import LayerProfile, Peak, Profile


def layer(name: str, cycles: int, utilization: float) -> LayerProfile:
    return LayerProfile(name, int(cycles * 100 * utilization), cycles, 64)


def module(tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "tid": tid, "name": "thread_name", "args": {"name": name}}


def event(tid: int, name: str, start: float, duration: float) -> dict[str, Any]:
    return {"ph": "X", "tid": tid, "name": name, "ts": start, "dur": duration}


EVENTS = [
    *(module(0, "load"), module(1, "compute"), module(2, "idle")),
    *(event(0, "first", 0, 40), event(1, "wait", 0, 40), event(1, "first", 40, 60), event(1, "second", 100, 300)),
]
PROFILE = Profile(
    device="vta-sim",
    kind="simulator",
    unit="cycles",
    unit_ms=1e-5,
    time=40_000,
    runs=1,
    moved="DRAM kB",
    layers=[layer("first", 10_000, 0.2), layer("second", 30_000, 0.6)],
    columns=(),
    peak=Peak(100, "ten by ten multipliers"),
    facts={"clock_mhz": 100},
    notes=(),
    sums=np.zeros(2, np.int32),
    timeline={"traceEvents": EVENTS},
)


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(profile_plot, "write_figure", lambda path, figure: drawn.append(figure))
    plot_profile(PROFILE, "net", tmp_path / "p.png")
    layers, modules = drawn[0].axes
    bars = [patch for patch in layers.patches if isinstance(patch, Rectangle)]
    places = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in bars]
    assert places == [pytest.approx((0, 0.1, 20)), pytest.approx((0.1, 0.3, 60))], "ms, ms, percent"
    assert [text.get_text() for text in layers.texts] == [" first", " second"]
    title = "net on vta-sim (simulator): 40,000 cycles, 0.400 ms, 50.0 % of the peak"
    assert layers.get_title() == title
    assert [label.get_text() for label in modules.get_yticklabels()] == ["compute", "load"], "the first is on top"
    rows = [collection for collection in modules.collections if isinstance(collection, PolyCollection)]
    assert [len(row.get_paths()) for row in rows] == [2, 1], "waiting is not drawn"
    assert modules.get_xlim() == pytest.approx((0, 0.4))


def test_a_device_that_does_one_thing_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a peak, rates; below, bytes instead of the only track."""
    drawn: list[Figure] = []
    monkeypatch.setattr(profile_plot, "write_figure", lambda path, figure: drawn.append(figure))
    layers = [layer("first", 1, 0.2), LayerProfile("second", 6_000_000, 3, 9_000_000), LayerProfile("none", 0, 0, 0)]
    events = [module(0, "kernels"), event(0, "first", 0, 1000), event(0, "second", 1000, 3000)]
    timed = replace(PROFILE, unit="ms", unit_ms=1.0, time=4, layers=layers, peak=None, timeline={"traceEvents": events})
    plot_profile(timed, "net", tmp_path / "p.png")
    above, below = drawn[0].axes
    heights = [
        [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)] for axes in (above, below)
    ]
    assert heights == [[pytest.approx(20e-6), 2, 0], [pytest.approx(64e-6), 3, 0]], "billions a second"
    assert [text.get_text() for text in above.texts] == [" first", " second"], "no name where there is no room"
    assert above.get_ylabel() == "billion multiply-accumulates a second" and below.get_ylabel() == "GB a second"


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_ending_chooses_the_format(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"p{ending}"
    path.write_bytes(b"what was there before")
    plot_profile(PROFILE, "net", path)
    assert path.read_bytes().startswith(magic)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_picture_is_whole(tmp_path: Path) -> None:
    plot_profile(PROFILE, "net", tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 3


@pytest.mark.slow
def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match=r"p\.png: cannot be written: No such file or directory"):
        plot_profile(PROFILE, "net", tmp_path / "no" / "p.png")
    assert not list(tmp_path.iterdir())
