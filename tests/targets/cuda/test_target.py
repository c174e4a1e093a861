"""What is compiled, and running it on another machine."""

import json
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.artifact import open_artifact
from squeezeedge.graph.oracle import run
from squeezeedge.targets.registry import device_target, get_target
from squeezeedge.targets.session import open_session
from tests.graphs import random_images
from tests.targets.cuda.conftest import Emulated
from tests.targets.devices import FakeBoard

TARGET = get_target("cuda")
pytestmark = pytest.mark.tool


def test_files(emulated: Emulated) -> None:
    artifact = open_artifact(emulated.artifact)
    own = set(artifact.manifest["files"]) - {"model.sqe", "golden.npz"}
    code = {"kernels.sm_90.cubin", "kernels.sm_90.ptx"}
    assert own == {"run.py", "device.py", "plan.json", "trace.json", "constants.bin"} | code
    assert (emulated.artifact / "kernels.sm_90.cubin").read_bytes().startswith(b"\x7fELF")
    compiled = artifact.manifest["compiled"]
    assert compiled["architectures"] == compiled["ptx"] == ["sm_90"] and compiled["left_out"] == []
    plan = json.loads((emulated.artifact / "plan.json").read_text())
    assert len(plan["launches"]) == compiled["kernels"]
    assert plan["workspace_bytes"] == compiled["workspace_bytes"]
    assert (emulated.artifact / "constants.bin").stat().st_size == compiled["constant_bytes"]


def test_the_device_is_hardware_that_may_be_elsewhere() -> None:
    assert device_target("cuda") is TARGET
    assert TARGET.devices == {"cuda": "hardware"} and set(TARGET.remote) == {"cuda"}


def test_another_machine(emulated: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that are sent are enough, and the GPU is opened once."""
    board = FakeBoard(tmp_path, monkeypatch, LD_LIBRARY_PATH=emulated.driver.parent)
    images = random_images(emulated.graph, 3, 6)
    with open_session(emulated.artifact, TARGET, "cuda", "user@gpu") as session:
        results = [session.run(images[:2]), session.run(images[2:])]
    sums = np.concatenate([result.sums for result in results])
    np.testing.assert_array_equal(sums, run(emulated.graph, images))
    metrics = results[-1].metrics
    assert metrics.keys() == {"gpu", "cuda", "code", "batch", "device_ms"}
    assert metrics["code"] == "sm_90" and metrics["device_ms"] > 0
    assert board.calls == ["ssh", "ssh", "ssh"]
