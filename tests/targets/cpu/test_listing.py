"""The machine code as binutils prints it."""

import json
from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.device import LIBRARY
from squeezeedge.targets.cpu.listing import disassemble


def _manifest(folder: Path, triple: str | None) -> None:
    (folder / "manifest.json").write_text(json.dumps({"options": {"mtriple": triple}}))


def test_the_listing(two_layers: IntegerGraph, tmp_path: Path) -> None:
    TARGET.lower(two_layers, CpuOptions(isa="generic")).write(tmp_path)
    _manifest(tmp_path, None)
    assert any("<squeezeedge_run@@Base>:" in line for line in disassemble(tmp_path))


def test_a_library_that_is_none(tmp_path: Path) -> None:
    _manifest(tmp_path, None)
    (tmp_path / LIBRARY).write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=rf"{LIBRARY}: .*compile again"):
        list(disassemble(tmp_path))


def test_missing_binutils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _manifest(tmp_path, "aarch64-linux-gnu")
    with pytest.raises(UnavailableError, match="install binutils for aarch64-linux-gnu"):
        list(disassemble(tmp_path))
