"""What an evaluation found: JSON keys that stay, and the table as people see it."""

from __future__ import annotations

import json
from dataclasses import replace

from squeezeedge.evaluation.reports import Beside, Report
from tests.evaluation.sample import REPORT

UNKNOWN = replace(
    REPORT,
    top1=None,
    top1_interval=None,
    top5=None,
    fp32_top1=None,
    fp32_top1_interval=None,
    fp32_top5=None,
    top1_difference=None,
    top1_difference_interval=None,
    agreement=None,
    changed=None,
    logits_sqnr_db=None,
)


def test_json_has_the_keys_that_it_always_had() -> None:
    values = REPORT.to_json()
    assert values.keys() >= {
        *("model", "device", "kind", "images", "top1", "top5", "fp32_top1", "fp32_top5", "agreement", "bit_exact"),
        *("differing_sums", "logits_sqnr_db", "latency_ms", "images_per_s", "model_bytes", "left_out", "unreadable"),
        "threads",
    }
    assert json.loads(json.dumps(values)) == {**values, **{key: [*values[key]] for key in values if "interval" in key}}
    assert list(UNKNOWN.to_json()) == list(values), "what is unknown is null"
    assert UNKNOWN.to_json()["top1"] is None


def test_a_report_has_one_object_a_device() -> None:
    report = Report("images/", (REPORT, replace(REPORT, device="vta")))
    assert [values["device"] for values in report.to_json()] == ["cpu", "vta"]


def test_the_table() -> None:
    different = replace(REPORT, bit_exact=False, differing_sums=12, largest_difference=345, reclassified=1)
    wrong = replace(different, device="vta-sim", kind="simulator", top1=69.5)
    assert str(Report("images/", (REPORT, wrong))).splitlines() == [
        "net, 200 images of images/",
        "",
        "                          fp32 (reference)  cpu (hardware)  vta-sim (simulator)",
        "top-1 %                              71.00           70.00                69.50",
        "95 % interval                 64.36..76.84    63.31..75.92         63.31..75.92",
        "top-1 above fp32, points                             -1.00                -1.00",
        "95 % interval, paired                         -3.25..+1.27         -3.25..+1.27",
        "top-5 %                              91.00           90.50                90.50",
        "same class as fp32 %                                 95.00                95.00",
        "other class than fp32                                   10                   10",
        "SQNR dB                                               31.2                 31.2",
        "bit-exact                                              yes                   no",
        "differing class sums                                     0                   12",
        "largest difference                                       0                  345",
        "other class than oracle                                  0                    1",
        "p50 ms                                               1.500                1.500",
        "p90 ms                                               2.250                2.250",
        "images/s                                               612                  612",
        "MB                                                    1.25                 1.25",
    ]


def test_what_is_unknown_is_left_out() -> None:
    figures = str(Report("images/", (UNKNOWN,)))
    assert "top-1" not in figures and "fp32" not in figures.replace("fp32 (reference)", ""), figures
    assert "bit-exact" in figures and "SQNR" not in figures


def test_the_first_five_of_five_say_nothing() -> None:
    assert "top-5" not in str(Report("images/", (replace(REPORT, classes=5),)))


def test_times_that_a_device_tells_apart_have_rows() -> None:
    rows = str(Report("images/", (REPORT, replace(REPORT, metrics={"pack_ms": 0.25})))).splitlines()
    assert [row.split() for row in rows if row.startswith("pack")] == [["pack", "ms", "-", "0.250"]]


def test_devices_beside_each_other() -> None:
    beside = replace(REPORT, device="vta", others={"cpu": Beside(99.5, 1, -0.5, (-2.0, 1.0))})
    unlabelled = replace(
        REPORT, device="x", others={"cpu": Beside(100.0, 0, None, None), "vta": Beside(99.5, 1, None, None)}
    )
    report = Report("images/", (REPORT, beside, unlabelled))
    assert str(report).split("\n\n", 2)[2].splitlines() == [
        "between the devices",
        "",
        "                same class %  other class  top-1 points above   95 % paired",
        "vta beside cpu         99.50            1               -0.50  -2.00..+1.00",
        "x beside cpu          100.00            0                   -             -",
        "x beside vta           99.50            1                   -             -",
    ]
    others = report.to_json()[1]["others"]
    assert others["cpu"]["agreement"] == 99.5 and others["cpu"]["top1_difference_interval"] == (-2.0, 1.0)
    assert len(Report("images/", (REPORT,)).tables()) == 1
