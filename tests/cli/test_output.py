"""The output sink: tables, JSON lines, and warnings that become notes."""

import json
import math
import warnings

import numpy as np
import pytest

from squeezeedge.cli.output import emit_json, emit_lines, emit_table, emit_text, error, note, warnings_as_notes


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


WIDE = ["a_long_name_that_is_never_broken", "1234567", "some words that may be broken", "12.3", "224x224", "at last"]


@pytest.mark.parametrize(("columns", "widest"), [(None, 80), ("60", 60), ("200", 97)])
def test_elsewhere_than_on_a_terminal_a_table_has_80_columns_or_what_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str | None, widest: int
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    emit_table("title", ["name", "figure", "", "other", "input", "last"], [WIDE] * 6)
    printed = capsys.readouterr().out
    assert widest - 8 < max(map(len, printed.splitlines())) <= widest
    assert printed.count("at last") == 6 and "\x1b" not in printed


def test_elsewhere_than_on_a_terminal_a_note_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    note("many words " * 40)
    assert capsys.readouterr().err == "many words " * 40 + "\n"


def test_no_name_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "red\x1b[31m\x9b\r\b\u202e\udcff ä\t中"
    emit_lines([f"{name}\nnext"])
    emit_text(name)
    emit_table(name, ["name", name], [[f"{name}\nnext", name]])
    note(f"first\n{name}")
    error(name)
    printed = "".join(capsys.readouterr())
    printed.encode()
    assert not {"\x1b", "\x9b", "\r", "\b", "\u202e"} & {*printed}
    assert "red\\x1b[31m" in printed and "\\udcff ä" in printed and "中\\nnext" in printed and "first\n" in printed
