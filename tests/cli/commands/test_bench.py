"""``squeezeedge bench``: figures of a device, cycles of a simulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from squeezeedge.artifact import Artifact
from squeezeedge.errors import UnavailableError, UsageError
from tests.cli.conftest import Invoke


def test_a_device(invoke: Invoke, small_artifact: Artifact, tmp_path: Path) -> None:
    quick = ("--seconds", "0", "--warm-up", "0")
    result = invoke("bench", small_artifact.path, "--threads", "1,2", *quick, "--plot", tmp_path / "b.png", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [(row["threads"], row["batch"]) for row in report["rows"]] == [(1, 1), (2, 1)]
    assert (report["device"], report["kind"]) == ("cpu", "hardware") and report["machine"]["processor"]
    assert all(row["p50"] > 0 and row["images_per_s"] > 0 for row in report["rows"])
    assert {"squeezeedge", "numpy"} <= report["versions"].keys()
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.width > 1000


def test_a_simulator_tells_cycles_and_no_time(invoke: Invoke, program: Path) -> None:
    result = invoke("bench", program, "--device", "vta-sim", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    profile = json.loads(invoke("profile", program, "--json").stdout)
    (row,) = report["rows"]
    assert report["kind"] == "simulator" and row["cycles"] == profile["time"] and row["joules_per_image"] == {}
    assert row["p50"] == pytest.approx(profile["time"] / profile["clock_mhz"] / 1e3)
    assert "no time was measured" in result.stderr


@pytest.mark.parametrize("numbers", ["0", "1,", "a", "-1", "1;2", "", "9" * 20, "9" * 5000, "٣"])
def test_what_is_no_list_of_numbers(invoke: Invoke, program: Path, numbers: str) -> None:
    result = invoke("bench", program, "--batch", numbers)
    assert isinstance(result.exception, UsageError) and "--batch" in str(result.exception), result.output


def test_hardware_that_is_not_here(invoke: Invoke, program: Path) -> None:
    result = invoke("bench", program)
    assert isinstance(result.exception, UnavailableError) and "--device vta-sim" in str(result.exception)
    result = invoke("bench", program, "--device", "vta-sim", "--threads", "2")
    assert isinstance(result.exception, UsageError) and "--threads: device vta-sim has no choice" in str(
        result.exception
    )
