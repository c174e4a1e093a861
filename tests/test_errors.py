"""What a caller gives wrongly is one kind of error, which names the argument."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import squeezeedge as sq
from squeezeedge.errors import check_path, check_type, check_whole, counted
from squeezeedge.model import Model
from squeezeedge.targets.session import Session
from tests.graphs import random_graph

GRAPH = random_graph(1)
MODEL = Model.of_graph(GRAPH)
ARTIFACT = sq.Artifact(Path("nowhere"), {})
DEVICE = sq.Device(cast(Session, type("NoSession", (), {"device": "none", "kind": "emulation"})()), GRAPH)
wrong = cast(Any, sq)  # arguments of other types


MISUSE: dict[str, tuple[Callable[[], object], str]] = {
    "model": (lambda: wrong.load(5), r"`model` is 5 \(int\); it must be a path"),
    "bytes": (lambda: wrong.load(b"a.pth"), "`model` is .*must be a path"),
    "empty path": (lambda: sq.load(""), "`model` is ''; it must be a path"),
    "weights": (lambda: wrong.load("squeezenet1_1", weights=3), r"`weights` is 3 \(int\)"),
    "no weights": (lambda: sq.load("squeezenet1_1", weights=""), "`weights` is ''; it must be a path"),
    "size": (lambda: wrong.load(size="64"), r"`size` is '64' \(str\); it must be a whole number of 1 or more"),
    "labels": (lambda: wrong.load(labels=5), r"`labels` is 5 \(int\); it must be a path, or the classes' names"),
    "label": (lambda: wrong.load(labels=["a", 2]), r"`labels` is 2 \(int\)"),
    "quantize": (lambda: wrong.quantize(None), "`model` is None; it must be a path"),
    "count": (lambda: wrong.quantize(MODEL, count=2.5), r"`count` is 2.5 \(float\); it must be a whole number"),
    "seed": (lambda: wrong.quantize(MODEL, seed="x"), r"`seed` is 'x' \(str\)"),
    "calibration classes": (lambda: wrong.quantize(MODEL, classes=5), r"`classes` is 5 \(int\)"),
    "compile nothing": (lambda: wrong.compile(None), "`model` is None; it must be a path"),
    "target": (lambda: wrong.compile(GRAPH, 3), r"`target` is 3 \(int\); it must be a target's name"),
    "out": (lambda: wrong.compile(GRAPH, out=5), r"`out` is 5 \(int\); it must be a path"),
    "no out": (lambda: sq.compile(GRAPH, out=""), "`out` is ''; it must be a path"),
    "golden": (lambda: wrong.compile(GRAPH, golden=[[1]]), r"`golden` is \[\[1\]\] \(list\); it must be an array"),
    "prefix": (lambda: wrong.compile(GRAPH, prefix=5), r"`prefix` is 5 \(int\); it must be str or None"),
    "soc_version": (lambda: wrong.compile(GRAPH, "ascend", soc_version=5), r"`soc_version` is 5 .* must be str"),
    "clock": (lambda: wrong.compile(GRAPH, "vta", clock=True), r"`clock` is True \(bool\); it must be int or None"),
    "bitstream": (lambda: wrong.compile(GRAPH, "vta", bitstream_file=3), r"`bitstream_file` is 3 \(int\); .* Path"),
    "artifact": (lambda: wrong.open_artifact(5), r"`path` is 5 \(int\); it must be a path"),
    "no artifact": (lambda: sq.open_artifact(""), "`path` is ''; it must be a path"),
    "save": (lambda: cast(Any, MODEL).save(5), r"`path` is 5 \(int\)"),
    "images": (lambda: cast(Any, DEVICE).run([np.zeros((8, 8, 3), np.uint8)]), "`images` is a list; it must be an arr"),
    "top": (lambda: cast(Any, DEVICE).classify([], top="a"), r"`top` is 'a' \(str\); it must be a whole number of 1"),
    "half a class": (lambda: cast(Any, DEVICE).classify([], top=2.5), r"`top` is 2.5 \(float\)"),
    "evaluate": (lambda: wrong.evaluate(5), r"`artifact` is 5 \(int\); it must be an artifact or its path, or several"),
    "artifacts": (lambda: wrong.evaluate([ARTIFACT, "x"]), r"`artifact` is 'x' \(str\)"),
    "reference": (lambda: wrong.evaluate(ARTIFACT, reference="x"), r"`reference` is 'x' .* must be a Model, or None"),
    "limit": (lambda: wrong.evaluate(ARTIFACT, limit="a"), r"`limit` is 'a' \(str\); it must be a whole number of 1"),
    "board": (lambda: wrong.evaluate(ARTIFACT, board=5), r"`board` is 5 \(int\)"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call, reason = MISUSE[name]
    with pytest.raises(sq.UsageError, match=f"^{reason}"):
        call()
    assert not list(tmp_path.iterdir())


def test_numbers_in_words() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_what_is_taken(tmp_path: Path) -> None:
    check_path("path", tmp_path)
    check_path("path", "name")
    check_whole("count", np.int64(3), 3)
    check_whole("seed", -1)
    check_type("text", "a", (str, type(None)), "a text")
    with pytest.raises(sq.UsageError, match="`text` is a ndarray; it must be a text"):
        check_type("text", np.zeros((9, 9)), str, "a text")
