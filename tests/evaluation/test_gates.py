"""Every gate: passed, passed at its limit, missed, and not to be judged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from squeezeedge.errors import GateError, UsageError
from squeezeedge.evaluation.gates import Gates
from squeezeedge.evaluation.reports import DeviceReport
from tests.evaluation.sample import REPORT

WRONG = replace(REPORT, device="vta", top1=68.0, agreement=90.25, bit_exact=False, differing_sums=3)
UNKNOWN = replace(REPORT, device="board", top1=None, fp32_top1=None, agreement=None)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_agreement": "90"}, "`min_agreement` is '90'; it must be a number"),
        ({"max_drop": True}, "`max_drop` is True; it must be a number"),
        ({"max_drop": math.nan}, "`max_drop` nan: must be a number from 0 to 100"),
        ({"max_drop": -0.1}, r"`max_drop` -0\.1: must be a number from 0 to 100"),
        ({"max_drop": 100.5}, r"`max_drop` 100\.5: must be a number from 0 to 100"),
        ({"min_agreement": 101}, "`min_agreement` 101: must be a number from 0 to 100"),
        ({"min_agreement": -1.0}, "`min_agreement` -1: must be a number from 0 to 100"),
        ({"min_agreement": math.inf}, "`min_agreement` inf: must be a number from 0 to 100"),
        ({"require_bit_exact": "no"}, "`require_bit_exact` is 'no'"),
    ],
)
def test_what_is_no_limit_is_refused(limits: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Gates(**limits)


def test_nothing_is_asked_for() -> None:
    Gates().check([REPORT, WRONG, UNKNOWN])
    Gates(0.0, 100.0, True).check([])


@pytest.mark.parametrize(
    ("gates", "report"),
    [
        (Gates(max_drop=1.5), REPORT),
        (Gates(max_drop=1.0), REPORT),
        (Gates(max_drop=0.0), replace(REPORT, top1=71.0)),
        (Gates(max_drop=100.0), replace(REPORT, top1=0.0)),
        (Gates(min_agreement=100.0), replace(REPORT, agreement=100.0)),
        (Gates(min_agreement=94.0), REPORT),
        (Gates(min_agreement=95.0), REPORT),
        (Gates(require_bit_exact=True), REPORT),
        (Gates(require_bit_exact=True), UNKNOWN),
        (Gates(1.0, 95.0, True), REPORT),
    ],
)
def test_passed(gates: Gates, report: DeviceReport) -> None:
    gates.check([report])


@pytest.mark.parametrize(
    ("gates", "report", "reason"),
    [
        (Gates(max_drop=2.9), WRONG, "vta: top-1 is 3.00 points below fp32, 2.9 allowed"),
        (Gates(max_drop=0.0), REPORT, "cpu: top-1 is 1.00 points below fp32, 0 allowed"),
        (Gates(min_agreement=90.5), WRONG, "vta: agreement 90.25 % < 90.5 %"),
        (Gates(max_drop=99.0), replace(REPORT, top1=math.nan), "cpu: top-1 is nan, fp32's 71.0: not to be judged"),
        (
            Gates(min_agreement=0.0),
            replace(REPORT, agreement=math.nan),
            "cpu: agreement is nan, not a number that could be judged",
        ),
        (Gates(require_bit_exact=True), WRONG, "vta: 3 class sums differ from the oracle"),
        (Gates(max_drop=99.0), UNKNOWN, "board: accuracy drop unknown without labels and a float network"),
        (
            Gates(max_drop=99.0),
            replace(REPORT, top1=None),
            "cpu: accuracy drop unknown without labels and a float network",
        ),
        (
            Gates(max_drop=99.0),
            replace(REPORT, fp32_top1=None),
            "cpu: accuracy drop unknown without labels and a float network",
        ),
        (Gates(min_agreement=0.0), UNKNOWN, "board: agreement unknown without a float network"),
    ],
)
def test_missed(gates: Gates, report: DeviceReport, reason: str) -> None:
    with pytest.raises(GateError) as failure:
        gates.check([report])
    assert str(failure.value) == reason and failure.value.exit_code == 4


def test_all_that_is_missed_is_named() -> None:
    with pytest.raises(GateError) as failure:
        Gates(2.0, 95.0, True).check([REPORT, WRONG, UNKNOWN])
    assert str(failure.value).split("; ") == [
        "vta: 3 class sums differ from the oracle",
        "vta: agreement 90.25 % < 95 %",
        "vta: top-1 is 3.00 points below fp32, 2 allowed",
        "board: agreement unknown without a float network",
        "board: accuracy drop unknown without labels and a float network",
    ]
