"""A profile as people and programs see it, and that its answer is the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.errors import CorruptFileError, GateError, UsageError
from squeezeedge.evaluation.profiling import profile, profile_json, profile_notes, profile_table, profile_title
from squeezeedge.targets.protocol import Column, LayerProfile, Peak, Profile
from tests.targets.device.artifact import FakeArtifact

TIMED = Profile(
    device="cpu",
    kind="hardware",
    unit="ms",
    unit_ms=1.0,
    time=2.0,
    runs=5,
    moved="kB",
    layers=[
        LayerProfile("image", 0, 0.5, 1_000_000, {"fastest": 0.25}),
        LayerProfile("conv", 3_000_000, 1.5, 6_000_000, {"fastest": 1.0}),
    ],
    columns=(Column("fastest", "fastest ms", digits=3),),
    peak=Peak(4_000_000, "measured somehow"),
    facts={"threads": 2},
    notes=["a run takes longer"],
    sums=np.array([1, 2], np.int32),
    timeline={"traceEvents": []},
)


def test_a_table_of_times() -> None:
    title, columns, rows = profile_table(TIMED, "net")
    assert (
        title == profile_title(TIMED, "net") == "net on cpu (hardware): 2.000 ms, medians of 5 runs, 37.5 % of the peak"
    )
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    conv, whole = named[1:]
    assert conv == {
        "layer": "conv", "MMAC": "3.0", "ms": "1.500", "% of run": "75.0", "% of peak": "50.0", "GMAC/s": "2.0",
        "GB/s": "4.0", "fastest ms": "1.000", "kB": "6000.0",
    }  # fmt: skip
    assert (named[0]["MMAC"], named[0]["GMAC/s"], named[0]["% of peak"]) == ("-", "-", "-")
    assert (whole["layer"], whole["ms"], whole["fastest ms"], whole["kB"]) == (
        "whole network",
        "2.000",
        "1.250",
        "7000.0",
    )
    assert profile_notes(TIMED) == [
        "the peak: 4.0 billion multiply-accumulates a second, measured somehow",
        "a run takes longer",
    ]


def test_without_a_peak() -> None:
    found = replace(TIMED, peak=None)
    assert {row[4] for row in profile_table(found, "net").rows} == {"-"}
    assert "peak" not in profile_title(found, "net") and profile_notes(found) == ["a run takes longer"]
    assert profile_json(found, "net")["peak"] is None and profile_json(found, "net")["utilization"] is None


def test_a_table_of_cycles() -> None:
    """Words and shares have no sum."""
    layers = [LayerProfile(name, 600, 10, 5, {"bound": "dram", "busy": 1.5, "dram": 15}) for name in ("a", "b")]
    columns = (Column("bound", "bound"), Column("busy", "busy %", 100), Column("dram", "dram"))
    found = replace(
        TIMED, unit="cycles", unit_ms=1e-5, time=20, runs=1, moved="DRAM kB", layers=layers, columns=columns,
        peak=Peak(100, "ten by ten"),
    )  # fmt: skip
    title, names, rows = profile_table(found, "net")
    assert title == "net on cpu (hardware): 20 cycles, 0.000 ms, 60.0 % of the peak"
    assert names == ["layer", "MMAC", "cycles", "% of run", "% of peak", "bound", "busy %", "dram", "DRAM kB"]
    assert rows[0][2:] == ["10", "50.0", "60.0", "dram", "150", "15", "0.0"]
    assert rows[-1][5:8] == ["", "", "30"]


def test_json() -> None:
    told = profile_json(TIMED, "net")
    assert (told["model"], told["milliseconds"], told["threads"]) == ("net", 2.0, 2)
    assert told["peak"] == {"macs_per_second": 4e9, "meaning": "measured somehow"} and "timeline" not in told
    assert told["layers"][1] == {
        "name": "conv", "macs": 3_000_000, "time": 1.5, "share": 0.75, "utilization": 0.5, "macs_per_second": 2e9,
        "bytes": 6_000_000, "bytes_per_second": 4e9, "fastest": 1.0,
    }  # fmt: skip


class Fake:
    """A target whose device answers with these sums."""

    name = "cpu"

    def __init__(self, sums: np.ndarray[Any, Any]) -> None:
        self.sums, self.runs = sums, 0

    def profile(self, artifact: Path, image: object, runs: int = 1) -> Profile:
        self.runs = runs
        return replace(TIMED, sums=self.sums)


def test_the_answer_is_compared(tmp_path: Path) -> None:
    """And only times of the right answer are told."""
    made = FakeArtifact(tmp_path / "artifact")
    right, wrong = Fake(made.sums[0]), Fake(made.sums[0] + np.array([0, 1, 0, 0], np.int32))
    artifacts = [
        cast(Artifact, type("Own", (Artifact,), {"target": target})(made.folder, {})) for target in (right, wrong)
    ]
    assert profile(artifacts[0], 7).time == 2 and right.runs == 7
    with pytest.raises(GateError, match="class sums that differ: 1; the times mean nothing"):
        profile(artifacts[1], 1)
    with pytest.raises(UsageError, match="`runs`"):
        profile(artifacts[0], 0)
    (made.folder / "golden.npz").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"golden\.npz"):
        profile(artifacts[0], 1)
