"""``squeezeedge train`` on a handful of images, and the network that it trained for this package."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.cli.training import lead_progress
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import DEFAULT, build, default_weights, load_weights
from squeezeedge.training.train import Step, Trainer
from squeezeedge.training.validate import logits
from tests.calib.images import png, write_folder
from tests.cli.conftest import Invoke

pytestmark = pytest.mark.usefixtures("interruptible")

RECIPE = """
summary = "own"
network = "squeezenet1_1"
epochs = 2
batch_size = 4
label_smoothing = 0.05
seed = 1
[input]
preset = "digits"
size = 24
cache = 24
[optimizer]
name = "adamw"
learning_rate = 1e-3
momentum = 0.9
weight_decay = 0.01
[schedule]
name = "one_cycle"
[augmentation]
rotation = 5
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    torch.set_num_threads(1)
    data = tmp_path / "data"
    for split, value in (("train", 0), ("test", 5)):
        write_folder(data / split, {f"dark/{i}.png": png(value + 10 * i) for i in range(3)})
        write_folder(data / split, {f"light/{i}.png": png(value + 200 + 10 * i) for i in range(3)})
    path = tmp_path / "own.toml"
    path.write_text(RECIPE)
    return ["train", "--recipe", str(path), "--data", str(data), "-o", str(tmp_path / "run")]


def _raise(result: object) -> None:
    raise result.exception  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_written_network_has_the_printed_accuracy(invoke: Invoke, tmp_path: Path, arguments: list[str]) -> None:
    result = invoke(*arguments, "--set", "epochs=1", "--set", "seed=5", "--json")
    assert result.exit_code == 0, result.output
    printed, path = json.loads(result.stdout), tmp_path / "run" / "best.safetensors"
    assert printed["file"] == str(path) and printed["bytes"] == path.stat().st_size
    assert (printed["model"], printed["epochs"], printed["seed"], printed["images"]) == ("squeezenet1_1", 1, 5, 6)
    assert printed["finished"] and len(printed["history"]) == 1
    checkpoint = read_checkpoint(path)
    assert json.loads(checkpoint.metadata["labels"]) == ["dark", "light"]
    preprocessing = Preprocessing.from_json(json.loads(checkpoint.metadata["preprocessing"]))
    module = build("squeezenet1_1", 2)
    load_weights(module, checkpoint.state, str(path))
    test = open_dataset(str(tmp_path / "data"), "test")
    answers = logits(module, test.load(preprocessing, np.arange(6)), preprocessing)
    assert printed["fp32_top1"] == pytest.approx(100 * (answers.argmax(1) == test.labels).mean())
    validated = invoke("validate", path, "--data", tmp_path / "data", "--json")
    assert json.loads(validated.stdout)["fp32_top1"] == printed["fp32_top1"]


@pytest.mark.slow
def test_ctrl_c_and_resume(
    invoke: Invoke, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def interrupted(*arguments: Any) -> Step:  # noqa: ANN401
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(Trainer, "step", interrupted)
    result = invoke(*arguments)
    assert result.exit_code == 130 and "Give the same command with --resume to go on" in result.stderr
    monkeypatch.undo()
    assert (tmp_path / "run" / "last.safetensors").is_file() and not result.stdout
    again = invoke(*arguments)
    with pytest.raises(UsageError, match=r"run: is not empty; go on with the run in it by --resume"):
        _raise(again)
    result = invoke(*arguments, "--resume")
    assert result.exit_code == 0 and "top-1 %" in result.stdout
    (last,) = (line for line in result.stderr.splitlines() if line.startswith("epoch 2/2: loss "))
    assert last.endswith(" images/s"), "no more time is left"
    assert f"next: squeezeedge compile {tmp_path / 'run' / 'best.safetensors'} --data " in result.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-o", "there"], r"there: is a file; give a folder"),
        (["-o", "gone/run"], "the folder that it is to be in does not exist"),
        (["--recipe", "finetune"], "starts from a trained network; use `squeezeedge finetune`"),
        (["--recipe", "nothing"], "no such recipe; give a .toml file or one of: cifar10"),
        (["--set", "epochs"], "must be key=value"),
        (["--set", "epochs=0"], "--set epochs=0: epochs must be at least 1"),
        (["--device", "tpu"], "--device tpu: must be cpu or cuda"),
        (["--data", "flat"], "has no labels"),
        (["--data", "other"], "other: no image to learn is in the folders of the classes 'b'; put some there"),
        (["--data", "three"], "three: no image to learn is in the folders of the classes 'c'"),
        (["--data", "empty"], "empty: holds no image"),
        (["--resume"], r"state\.safetensors: no such file"),
    ],
)
def test_what_is_refused(
    invoke: Invoke,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    Path("empty").mkdir()
    for split in ("train", "test"):
        write_folder(Path("flat", split), {"1.png": png(1)})
    names = ("train/a", "train/c", "test/a", "test/b")
    write_folder(Path("other"), {f"{name}/1.png": png(value) for value, name in enumerate(names)})
    three = ("train/a", "train/b", "test/a", "test/b", "test/c")
    write_folder(Path("three"), {f"{name}/1.png": png(value) for value, name in enumerate(three)})
    before = {path.name for path in tmp_path.iterdir()}
    result = invoke(*arguments, *options)
    with pytest.raises(SqueezeEdgeError, match=reason):
        _raise(result)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_no_images(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("train", "--recipe", "cifar10", "-o", tmp_path / "run")
    with pytest.raises(UsageError, match="give --data"):
        _raise(result)


@pytest.mark.slow
def test_images_in_two_places(invoke: Invoke, tmp_path: Path, arguments: list[str]) -> None:
    """--data without parts is learned as a whole; of one with parts, the part to learn."""
    for number, data in enumerate(("data", "data/train")):
        options = ["--data", tmp_path / data, "--test-data", tmp_path / "data" / "test", "--json", "--set", "epochs=1"]
        result = invoke(*arguments, *options, "-o", tmp_path / f"run{number}")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["images"] == 6


@pytest.mark.slow
def test_the_embedded_network_reaches_99_percent() -> None:
    checkpoint = read_checkpoint(default_weights())
    assert checkpoint.metadata["network"] == DEFAULT
    module = build(DEFAULT)
    load_weights(module, checkpoint.state, "embedded")
    test = open_dataset("digits", "test")
    answers = logits(module, test.load(DIGITS, np.arange(400)), DIGITS)
    assert (answers.argmax(1) == test.labels).mean() >= 0.99
    assert default_weights().stat().st_size < 1.5e6


def test_other_processes_show_nothing() -> None:
    from squeezeedge.training.distributed import World

    with lead_progress(World(rank=1, size=2), "x", 3) as advance:
        advance(1, "nothing")
