"""The output sink: tables, JSON lines, and warnings that become notes."""

import warnings

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


def test_other_warnings_stay_what_they_are() -> None:
    with pytest.warns(UserWarning, match="other"), warnings_as_notes():
        warnings.warn("other", UserWarning, stacklevel=1)
