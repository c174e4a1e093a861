"""``squeezeedge disasm``: golden listings, and artifacts that are none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UnavailableError
from tests.cli.conftest import Invoke


def test_vta(invoke: Invoke, program: Path, golden: Callable[[str, str], None]) -> None:
    result = invoke("disasm", program)
    assert result.exit_code == 0, result.output
    golden("disasm-vta.txt", result.stdout)
    assert len(result.stdout.splitlines()) == json.loads((program / "program.json").read_text())["count"]


def test_cpu(invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = invoke("disasm", artifact)
    assert result.exit_code == 0 and "<squeezenet1_1_digits_open@@Base>:" in result.stdout
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = invoke("disasm", artifact)
    assert isinstance(missing.exception, UnavailableError) and "install binutils" in str(missing.exception)


def test_damaged(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    result = invoke("disasm", tmp_path)
    assert isinstance(result.exception, CorruptFileError) and "not an artifact" in str(result.exception)
    copy = tmp_path / "copy"
    shutil.copytree(program, copy)
    (copy / "dram.bin").write_bytes((copy / "dram.bin").read_bytes()[:-16])
    result = invoke("disasm", copy)
    assert isinstance(result.exception, CorruptFileError) and "dram.bin" in str(result.exception)
