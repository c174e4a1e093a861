"""Two processes on this machine give one process's result."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from squeezeedge.cli import app
from squeezeedge.errors import UnavailableError
from squeezeedge.training import distributed
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


def _run(command: list[str | Path]) -> dict[str, object]:
    """The one JSON object that a command prints, in this process."""
    torch.set_num_threads(1)
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def _run_in_two(commands: list[list[str | Path]]) -> list[dict[str, object]]:
    """What the commands print in two processes, each of which runs all of them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = json.dumps([list(map(str, command)) for command in commands])
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [*launcher, "-m", "tests.training.commands", words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands), "one process prints"
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_two_processes_give_one_s_result(tmp_path: Path) -> None:
    """19 images: the last batch of an epoch has one image, so one process has none."""
    for name, count, seed in (("train", 19, 0), ("test", 7, 1)):
        data = bright_or_dark(count, seed)
        assert isinstance(data.images, np.ndarray) and data.labels is not None
        np.savez(tmp_path / f"{name}.npz", images=data.images, labels=data.labels)
    options = (
        "--data",
        tmp_path / "train.npz",
        "--test-data",
        tmp_path / "test.npz",
        "--device",
        "cpu",
        "--json",
        "-o",
    )
    commands: list[list[str | Path]] = []
    reports = []
    for batch_norm in ("false", "true"):
        recipe = tmp_path / f"{batch_norm}.toml"
        recipe.write_text(f"batch_norm = {batch_norm}\n{RECIPE}")
        reports.append(_run(["train", "--recipe", recipe, *options, tmp_path / f"one-{batch_norm}"]))
        commands.append(["train", "--recipe", recipe, *options, tmp_path / f"two-{batch_norm}"])
    weights = tmp_path / "one-true" / "best.safetensors"
    *_, validated = _run_in_two([*commands, ["validate", weights, "--data", tmp_path / "test.npz", "--json"]])
    for batch_norm, report in zip(("false", "true"), reports, strict=True):
        states = []
        for processes in ("one", "two"):
            out = tmp_path / f"{processes}-{batch_norm}"
            assert sorted(path.name for path in out.iterdir()) == [
                "best.safetensors",
                "curve.png",
                "last.safetensors",
                "state.safetensors",
                "tensorboard",
            ]
            assert len(list((out / "tensorboard").iterdir())) == 1, "one process writes"
            states.append(read_state(out / "state.safetensors"))
        one, two = states
        assert one.tensors.keys() == two.tensors.keys()
        for name, tensor in one.tensors.items():
            torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
        for first, second in zip(one.values["history"], two.values["history"], strict=True):
            assert second == pytest.approx(first, rel=1e-4)
        assert two.values["circumstances"]["processes"] == 2
        assert report["images"] == 7
    assert {key: validated[key] for key in ("images", "fp32_top1", "fp32_top5")} == {
        key: reports[1][key] for key in ("images", "fp32_top1", "fp32_top5")
    }


def test_a_process_alone() -> None:
    with join_world("cpu") as world:
        assert world == World() and world.leads
        assert world.total([1.5, 2]) == [1.5, 2]


def test_processes_end_with_their_launcher() -> None:
    library, found = ctypes.CDLL(None), ctypes.c_int()
    try:
        distributed._end_with_launcher()
        assert library.prctl(2, ctypes.byref(found)) == 0 and found.value == signal.SIGTERM  # PR_GET_PDEATHSIG
    finally:
        library.prctl(1, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu() -> None:
    with pytest.raises(UnavailableError, match=r"cuda: .* torch finds 0"), join_world("cuda"):
        pass
