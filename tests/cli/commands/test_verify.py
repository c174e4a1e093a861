"""``squeezeedge verify``: a table of checks, and exit codes that tell what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from squeezeedge.errors import GateError, UnavailableError
from tests.cli.conftest import Invoke


def test_a_whole_artifact(invoke: Invoke, program: Path) -> None:
    result = invoke("verify", program, "--device", "vta-sim", "--no-rebuild", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"] is True and found["device"] == "vta-sim"
    assert [check["result"] for check in found["checks"]] == ["pass"] * 5
    assert "vta-sim (simulator)" in found["checks"][-1]["detail"]


@pytest.mark.slow
def test_it_is_compiled_again(invoke: Invoke, program: Path) -> None:
    result = invoke("verify", program, "--device", "vta-sim")
    assert result.exit_code == 0 and "byte for byte equal" in result.stdout, result.output


def test_exit_codes(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    result = invoke("verify", program, "--no-rebuild")
    assert isinstance(result.exception, UnavailableError) and "not run" in result.stdout
    assert "--device vta-sim" in result.stdout, "in the words of the command line"
    copy = tmp_path / "copy"
    shutil.copytree(program, copy)
    (copy / "trace.json").write_text("{}")
    result = invoke("verify", copy, "--no-rebuild")
    assert isinstance(result.exception, GateError) and "trace.json: differs from its checksum" in " ".join(
        result.stdout.split()
    )
