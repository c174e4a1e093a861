"""The picture of a profile: what is drawn, and a file that is there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.evaluation import profile_plot
from squeezeedge.evaluation.profile_plot import plot_profile
from squeezeedge.targets.protocol import LayerProfile, Profile


def layer(name: str, cycles: int, utilization: float) -> LayerProfile:
    return LayerProfile(name, 1000, cycles, utilization, "compute", cycles, {"compute": cycles}, 64)


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
    cycles=40_000,
    clock_mhz=100.0,
    utilization=0.5,
    layers=[layer("first", 10_000, 0.2), layer("second", 30_000, 0.6)],
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
    assert [text.get_text() for text in layers.texts] == ["first", "second"]
    title = "net on vta-sim (simulator): 40,000 cycles, 0.40 ms at 100 MHz, 50.0 % on average"
    assert layers.get_title() == title
    assert [label.get_text() for label in modules.get_yticklabels()] == ["compute", "load"], "the first is on top"
    rows = [collection for collection in modules.collections if isinstance(collection, PolyCollection)]
    assert [len(row.get_paths()) for row in rows] == [2, 1], "waiting is not drawn"
    assert modules.get_xlim() == pytest.approx((0, 0.4))


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
