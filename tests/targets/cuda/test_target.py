"""What is compiled, and running it on another machine."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import open_artifact
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.oracle import run
from squeezeedge.targets import device_target
from squeezeedge.targets.cuda import TARGET, host
from squeezeedge.targets.remote import Answers, _answers
from tests.graphs import random_images
from tests.targets.cuda.conftest import Emulated

pytestmark = pytest.mark.tool


def test_files(emulated: Emulated) -> None:
    artifact = open_artifact(emulated.artifact)
    own = set(artifact.manifest["files"]) - {"model.sqe", "golden.npz"}
    assert own == {"run.py", "plan.json", "constants.bin", "kernels.sm_90.cubin", "kernels.ptx"}
    assert (emulated.artifact / "kernels.sm_90.cubin").read_bytes().startswith(b"\x7fELF")
    compiled = artifact.manifest["compiled"]
    assert compiled["architectures"] == ["sm_90"]
    plan = json.loads((emulated.artifact / "plan.json").read_text())
    assert len(plan["launches"]) == compiled["kernels"]
    assert plan["workspace_bytes"] == compiled["workspace_bytes"]
    assert (emulated.artifact / "constants.bin").stat().st_size == compiled["constant_bytes"]


def test_the_device_is_hardware_that_may_be_elsewhere() -> None:
    assert device_target("cuda") is TARGET
    assert TARGET.devices == {"cuda": "hardware"} and set(TARGET.remote) == {"cuda"}


def test_another_machine(emulated: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that are sent are enough, and what run.py prints is understood; ssh is left out."""

    def run_remotely(board: str, files: Sequence[Path], images: NDArray[np.uint8]) -> Answers:
        there = tmp_path / board
        there.mkdir()
        for file in files:
            shutil.copy(file, there)
        np.save(there / "images.npy", images)
        copy = Emulated(there, emulated.driver, emulated.graph)
        done = copy.script(str(there / "images.npy"), "--top", "1", "--sums")
        assert done.returncode == 0, done.stderr
        return _answers(board, done.stdout, len(images))

    monkeypatch.setattr(host, "run_remotely", run_remotely)
    images = random_images(emulated.graph, 3, 6)
    result = TARGET.run(emulated.artifact, images, "cuda", "user@gpu")
    np.testing.assert_array_equal(result.sums, run(emulated.graph, images))
    assert result.metrics["code"] == "sm_90" and result.metrics["device_ms"]["p50"] > 0


def test_another_script_there(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({"golden": 1}, [{}], np.zeros((1, 1), np.int32), np.ones(1))
    monkeypatch.setattr(host, "run_remotely", lambda board, files, images: answers)
    with pytest.raises(SqueezeEdgeError, match=r"board user@gpu: answered something else than run\.py prints"):
        TARGET.run(emulated.artifact, random_images(emulated.graph, 1, 0), "cuda", "user@gpu")
