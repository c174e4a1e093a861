"""What an evaluation found: JSON keys that stay, and the table as people see it."""

from __future__ import annotations

import json
from dataclasses import replace

from squeezeedge.evaluation.reports import Report, Table, number
from tests.evaluation.sample import REPORT

UNKNOWN = replace(REPORT, top1=None, top5=None, fp32_top1=None, fp32_top5=None, agreement=None, logits_sqnr_db=None)


def test_json_has_the_keys_that_it_always_had() -> None:
    values = REPORT.to_json()
    assert list(values) == [
        *("model", "device", "kind", "images", "top1", "top5", "fp32_top1", "fp32_top5", "agreement", "bit_exact"),
        *("differing_sums", "logits_sqnr_db", "latency_ms", "images_per_s", "model_bytes", "left_out", "unreadable"),
        "threads",
    ]
    assert json.loads(json.dumps(values)) == values
    assert list(UNKNOWN.to_json()) == list(values), "what is unknown is null"
    assert UNKNOWN.to_json()["top1"] is None


def test_a_report_has_one_object_a_device() -> None:
    report = Report("images/", (REPORT, replace(REPORT, device="vta")))
    assert [values["device"] for values in report.to_json()] == ["cpu", "vta"]


def test_the_table() -> None:
    wrong = replace(REPORT, device="vta-sim", kind="simulator", top1=69.5, bit_exact=False, differing_sums=12)
    assert str(Report("images/", (REPORT, wrong))).splitlines() == [
        "net, 200 images of images/",
        "device               kind  top-1 %  top-5 %  agreement %  SQNR dB  bit-exact  p50 ms  p90 ms  images/s    MB",
        "fp32            reference    71.00    91.00            -        -          -       -       -         -     -",
        "cpu              hardware    70.00    90.50        95.00     31.2        yes   1.500   2.250       612  1.25",
        "vta-sim         simulator    69.50    90.50        95.00     31.2     no: 12   1.500   2.250       612  1.25",
        "vta-sim - cpu  difference    -0.50    +0.00            -        -          -       -       -         -     -",
    ]


def test_what_is_unknown_is_a_dash() -> None:
    rows = Report("images/", (UNKNOWN, replace(REPORT, device="vta"))).table().rows
    assert [list(row[2:6]) for row in rows] == [
        ["-", "-", "-", "-"],
        ["-", "-", "-", "-"],
        ["70.00", "90.50", "95.00", "31.2"],
        ["-", "-", "-", "-"],
    ]
    assert rows[3][:2] == ["vta - cpu", "difference"]


def test_all_devices_are_compared_with_the_first() -> None:
    others = [replace(REPORT, device=name, top1=top1) for name, top1 in (("b", 71.25), ("c", 70.0))]
    rows = Report("images/", (REPORT, *others)).table().rows
    assert [(row[0], row[2]) for row in rows[4:]] == [("b - cpu", "+1.25"), ("c - cpu", "+0.00")]


def test_columns_are_as_wide_as_they_must() -> None:
    assert str(Table("title", ["a", "figure"], [["long name", "1"], ["b", ""]])).splitlines() == [
        "title",
        "a          figure",
        "long name       1",
        "b",
    ]


def test_numbers() -> None:
    assert [number(None), number(1.005, 1), number(2), number(12.6, 0), number(-0.25)] == [
        *("-", "1.0", "2.00", "13", "-0.25"),
    ]
