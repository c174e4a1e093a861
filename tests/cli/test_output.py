"""The output sink: tables, JSON lines, and warnings that become notes."""

import json
import math
import warnings

import numpy as np
import pytest

from squeezeedge.cli.output import emit_json, emit_table, warnings_as_notes


def test_results_are_on_stdout_and_notes_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"a": 1})
    emit_table("title", ["name", "figure"], [["x", "1.50"]])
    with warnings_as_notes():
        warnings.warn("old is called new now", FutureWarning, stacklevel=1)
        warnings.warn("old is called new now", FutureWarning, stacklevel=1)
        warnings.warn("another", FutureWarning, stacklevel=1)
    output = capsys.readouterr()
    assert output.out.startswith('{"a": 1}\n') and "title" in output.out and "1.50" in output.out
    assert output.err == "note: old is called new now\nnote: another\n"


def test_json_is_valid_whatever_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"a": float("nan"), "b": [1.5, (float("inf"), -math.inf)], "c": {"d": np.float64("nan"), "e": True}}
    emit_json(values)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    read = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert read == {"a": None, "b": [1.5, [None, None]], "c": {"d": None, "e": True}}


def test_other_warnings_stay_what_they_are() -> None:
    with pytest.warns(UserWarning, match="other"), warnings_as_notes():
        warnings.warn("other", UserWarning, stacklevel=1)


COLUMNS = ["layer", "cycles", "share %", "note"]
ROW = ["features.2.squeeze", "23461234", "100.00", "some words that may be broken"]


def test_figures_are_never_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    emit_table("title", COLUMNS, [ROW] * 6)
    printed = capsys.readouterr().out
    assert printed.count("23461234") == printed.count("100.00") == 6


def test_no_column_is_cut_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    row = ["a_long_name_that_is_never_broken", "1234567", "some words that may be broken", "12.3", "224x224", "at last"]
    emit_table("title", ["name", "figure", "", "other", "input", "last"], [row] * 6)
    assert capsys.readouterr().out.count("at last") == 6


def test_a_few_wide_rows_stand_on_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    emit_table("title", [*COLUMNS, "more", "figures"], [[*ROW, "1234567", "7654321"]])
    lines = [line for line in capsys.readouterr().out.splitlines() if "7654321" in line]
    assert len(lines) == 1 and "figures" in lines[0]
