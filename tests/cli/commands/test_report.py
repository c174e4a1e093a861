"""``squeezeedge report``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from squeezeedge.errors import UsageError
from tests.cli.conftest import Invoke


@pytest.mark.slow
def test_a_report_of_an_artifact(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    arguments = ("report", artifact, "--data", "digits", "--limit", "9", "-o", out)
    done = invoke(*arguments)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert (
        f"{out}: " in done.stdout.replace("\n  ", " ") and "evaluating squeezenet1_1_digits on 9 images" in done.stderr
    )
    page = out.read_text()
    assert "every class sum equals the oracle&#39;s on 9 images" in page
    assert f"squeezeedge report {artifact} --data digits --limit 9 -o {out}" in page
    assert "SQNR dB" in page
    refused = invoke(*arguments)
    assert isinstance(refused.exception, UsageError) and "exists already" in str(refused.exception)
    assert out.read_text() == page
    done = invoke(*arguments, "--force", "--json")
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    found = json.loads(done.stdout)
    assert (found["report"], found["bytes"]) == (str(out), out.stat().st_size)
    (device,) = found["devices"]
    assert device["images"] == 9 and device["bit_exact"] is True
    assert found["noise"]["images"] == 8 and found["model"] == "squeezenet1_1_digits"


def test_what_is_refused_before_any_work(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    for arguments, text in (
        (("-o", tmp_path / "report.pdf"), "must end in .html"),
        (("-o", tmp_path / "no" / "report.html"), "parent folder does not exist"),
        (("--device", "abacus"), "there are: ascend"),
        ((artifact, "--device", "vta-sim"), "compiled for cpu"),
    ):
        out = () if "-o" in arguments else ("-o", tmp_path / "report.html")
        failure = invoke("report", artifact, *arguments, *out).exception
        assert isinstance(failure, UsageError) and text in str(failure), failure
    assert not list(tmp_path.iterdir())
