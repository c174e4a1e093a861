"""What figures were measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from squeezeedge.evaluation import machine as module
from squeezeedge.evaluation.machine import machine, processor, versions


def test_the_processor_is_what_linux_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: other\n")
    assert processor() == machine()["processor"] == "Fast 9000"
    (tmp_path / "cpuinfo").unlink()
    assert processor() == (platform.processor() or platform.machine())


def test_versions_of_what_is_installed() -> None:
    assert versions(["numpy", "no-such-package"]).keys() == {"numpy"}
    assert machine()["Python"] == platform.python_version()
