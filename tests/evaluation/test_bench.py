"""How fast a device is: what is measured, what is compared, and what a simulator does not claim."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.errors import GateError, UsageError
from squeezeedge.evaluation import bench as module
from squeezeedge.evaluation.bench import BenchReport, Measurement, bench
from squeezeedge.evaluation.energy import Counter

QUICK: dict[str, Any] = {"seconds": 0.0, "warm_up": 0.0}
ROW = Measurement(1, 2, 50, p50=1.5, p90=2.0, p99=2.5, min=1.25, mean=1.6, images_per_s=625.0)
REPORT = BenchReport(
    model="net",
    device="cpu",
    kind="hardware",
    board=None,
    at_once=False,
    rows=(ROW, replace(ROW, batch=8, parts_ms={"device_ms": 1.0}, joules_per_image={"GPU 0": 0.0125})),
    remarks=("a remark",),
    about={},
    machine={"processor": "Fast 9000"},
    versions={},
    compiled_with={},
)


def test_every_combination_is_measured(small_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    joules = iter(range(0, 1000, 10))
    monkeypatch.setattr(module, "find_meters", lambda: ([Counter("meter", lambda: float(next(joules)))], ""))
    done: list[int] = []
    report = bench(small_artifact, batches=(1, 2), threads=(1, 2), on_progress=done.append, **QUICK)
    assert [(row.threads, row.batch) for row in report.rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert done == [1, 1, 1, 1] and (report.device, report.kind, report.at_once) == ("cpu", "hardware", True)
    for row in report.rows:
        assert row.runs == module.LEAST_RUNS and 0 < row.min <= row.p50 <= row.p90 <= row.p99
        assert row.images_per_s == pytest.approx(1000 * row.batch / row.mean)
        assert row.joules_per_image == {"meter": 10 / (row.runs * row.batch)} and row.cycles is None
    assert report.compiled_with == small_artifact.manifest["versions"] and report.versions["numpy"] == np.__version__
    assert report.remarks == () and report.about == {"isa": "generic"}
    assert json.loads(json.dumps(report.to_json()))["rows"][3]["batch"] == 2


def test_a_device_without_batches(small_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "takes", lambda target, device, setting: setting != "batch")
    report = bench(small_artifact, batches=(2,), **QUICK)
    assert not report.at_once
    assert "cpu computes the images of a batch one after the other: a batch's time is their sum" in report.remarks


def test_a_machine_without_a_meter_is_said_to_be(small_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_meters", lambda: ([], "energy is not measured: no meter"))
    report = bench(small_artifact, **QUICK)
    assert report.remarks == ("energy is not measured: no meter",) and report.rows[0].joules_per_image == {}


def test_the_time_of_wrong_answers_is_not_told(small_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = small_artifact.golden_sums + 1
    monkeypatch.setattr(Artifact, "golden_sums", property(lambda artifact: sums))
    with pytest.raises(GateError, match="cpu: class sums differ from the golden ones in a batch of 1"):
        bench(small_artifact, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": ()}, "no batch size"),
        ({"batches": (0,)}, "`batches` is 0"),
        ({"batches": (1, 10**12)}, "`batch` is 1000000000000; at most"),
        ({"threads": (True,)}, "`threads` is True"),
        ({"seconds": -1.0}, "`seconds` is -1.0; it must be 0 or more"),
        ({"warm_up": float("nan")}, "`warm_up` is nan"),
        ({"device": "vta"}, "has no device 'vta'"),
        ({"board": "user@host", "batches": (8,)}, "`batch`: another machine gets one image after the other"),
    ],
)
def test_what_is_refused(small_artifact: Artifact, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench(small_artifact, **options)  # type: ignore[arg-type]


def test_the_table() -> None:
    assert str(REPORT).splitlines() == [
        "net on cpu (hardware), Fast 9000",
        "",
        "batch  threads  p50 ms  p90 ms  p99 ms  min ms  images/s  device ms     mJ/image",
        "                                                                           GPU 0",
        "1            2   1.500   2.000   2.500   1.250       625          -            -",
        "8            2   1.500   2.000   2.500   1.250       625      1.000        12.50",
        "a remark",
    ]


def test_a_simulator_has_cycles() -> None:
    row = replace(ROW, threads=None, cycles=1_234_567)
    text = str(replace(REPORT, device="vta-sim", kind="simulator", rows=(row,)))
    assert text.startswith("net on vta-sim (simulator): its cycle model") and "1,234,567" in text
    assert "p50" not in text and "Fast" not in text
    assert "board user@host" in str(replace(REPORT, board="user@host"))
