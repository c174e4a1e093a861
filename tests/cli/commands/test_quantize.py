"""``squeezeedge quantize`` and what reads its file."""

import json
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.graph.sqe import read_sqe
from tests.cli.conftest import Invoke


def test_quantize(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "digits.sqe"
    result = invoke("quantize", "-o", file, "--calib-images", "16", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["bytes"] == file.stat().st_size and report["graph_sha256"] == read_sqe(file).digest()
    assert len(report["layers"]) == 25 and all(0 <= layer["shift_min"] for layer in report["layers"])
    again = invoke("quantize", "-o", file)
    assert isinstance(again.exception, UsageError) and "exists already" in str(again.exception)
    twice = invoke("quantize", file, "-o", tmp_path / "other.sqe")
    assert isinstance(twice.exception, UsageError) and "integer graph already" in str(twice.exception)

    file.write_bytes(file.read_bytes()[:-1000])
    damaged = invoke("compile", file, "-o", tmp_path / "out")
    assert isinstance(damaged.exception, CorruptFileError) and str(file) in str(damaged.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.sqe"]


@pytest.mark.slow
def test_the_file_is_evaluated(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "digits.sqe"
    assert invoke("quantize", "-o", file, "--calib-images", "16").exit_code == 0
    evaluated = invoke("eval", file, "--data", "digits", "--limit", "10", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["bit_exact"] is True
