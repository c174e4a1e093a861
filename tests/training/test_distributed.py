"""Two processes on this machine give one process's result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from squeezeedge.cli import app
from squeezeedge.errors import UnavailableError
from squeezeedge.training.checkpoint import read_state
from squeezeedge.training.distributed import World, join_world
from tests.training.tiny import bright_or_dark

RECIPE = """
summary = "two processes"
network = "squeezenet1_1"
epochs = 2
batch_size = 6
dropout = 0.0
ema = 0.5
clip_norm = 1.0
[input]
preset = "digits"
size = 24
cache = 24
[optimizer]
name = "sgd"
learning_rate = 3e-3
momentum = 0.9
weight_decay = 1e-4
[schedule]
name = "cosine"
"""


def _run(processes: int, *arguments: str | Path) -> dict[str, object]:
    """The one JSON object that a command prints."""
    words = list(map(str, arguments))
    if processes == 1:
        torch.set_num_threads(1)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        printed = result.stdout
    else:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [*launcher, "-m", "squeezeedge", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    (line,) = printed.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["false", "true"])
def test_two_processes_give_one_s_result(tmp_path: Path, batch_norm: str) -> None:
    """19 images: the last batch of an epoch has one image, so one process has none."""
    (tmp_path / "own.toml").write_text(f"batch_norm = {batch_norm}\n{RECIPE}")
    for name, count, seed in (("train", 19, 0), ("test", 7, 1)):
        data = bright_or_dark(count, seed)
        assert isinstance(data.images, np.ndarray) and data.labels is not None
        np.savez(tmp_path / f"{name}.npz", images=data.images, labels=data.labels)
    data_options = ("--data", tmp_path / "train.npz", "--test-data", tmp_path / "test.npz", "--device", "cpu")
    states, reports = [], []
    for processes in (1, 2):
        out = tmp_path / f"run{processes}"
        report = _run(processes, "train", "--recipe", tmp_path / "own.toml", *data_options, "-o", out, "--json")
        assert sorted(path.name for path in out.iterdir()) == [
            "best.safetensors",
            "curve.png",
            "last.safetensors",
            "state.safetensors",
            "tensorboard",
        ]
        assert len(list((out / "tensorboard").iterdir())) == 1, "one process writes"
        states.append(read_state(out / "state.safetensors"))
        reports.append(report)
    one, two = states
    assert one.tensors.keys() == two.tensors.keys()
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    for first, second in zip(one.values["history"], two.values["history"], strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    assert reports[0]["images"] == reports[1]["images"] == 7
    weights = tmp_path / "run1" / "best.safetensors"
    validated = _run(2, "validate", weights, "--data", tmp_path / "test.npz", "--json")
    assert {key: validated[key] for key in ("images", "fp32_top1", "fp32_top5")} == {
        key: reports[0][key] for key in ("images", "fp32_top1", "fp32_top5")
    }


def test_a_process_alone() -> None:
    with join_world("cpu") as world:
        assert world == World() and world.leads
        assert world.total([1.5, 2]) == [1.5, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu() -> None:
    with pytest.raises(UnavailableError, match=r"cuda: .* torch finds 0"), join_world("cuda"):
        pass
