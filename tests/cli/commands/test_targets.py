"""``squeezeedge targets``."""

import json

import pytest

from tests.cli.conftest import Invoke


def test_json(invoke: Invoke) -> None:
    (cpu,) = (
        line for line in map(json.loads, invoke("targets", "--json").stdout.splitlines()) if line["target"] == "cpu"
    )
    assert cpu["devices"] == {"cpu": "hardware"} and cpu["compiles"] and cpu["runs"]


def test_what_is_missing_is_said(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    output = invoke("targets").stdout
    assert "missing: install gcc or clang" in output
