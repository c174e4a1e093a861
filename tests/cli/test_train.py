"""``squeezeedge train`` on a handful of images, and the network that it trained for this package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.preprocess import DIGITS
from squeezeedge.cli import train as train_module
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import DEFAULT, build, default_weights, load_weights
from squeezeedge.training import train as training
from squeezeedge.training.validate import logits
from tests.calib.images import png, write_folder

RECIPE = """
network = "squeezenet1_1"
dataset = "{data}"
preprocessing = "digits"
epochs = 5
batch_size = 4
label_smoothing = 0.05
seed = 1
[optimizer]
name = "adamw"
peak_learning_rate = 1e-3
momentum = 0.9
weight_decay = 0.01
[augmentation]
rotation = 5
translation = 0.05
scale = 0.05
"""


def run(*arguments: str) -> Result:
    app = typer.Typer()
    train_module.register(app)
    app.callback()(lambda: None)  # several commands, as in the whole command line
    return CliRunner().invoke(app, ["train", *arguments])


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    data = tmp_path / "data"
    for split in ("train", "test"):
        write_folder(data / split, {f"dark/{i}.png": png(10 * i) for i in range(3)})
        write_folder(data / split, {f"light/{i}.png": png(200 + 10 * i) for i in range(3)})
    path = tmp_path / "own.toml"
    path.write_text(RECIPE.format(data=data))
    return str(path)


def test_the_written_network_has_the_printed_accuracy(tmp_path: Path, recipe: str) -> None:
    out = tmp_path / "own.safetensors"
    result = run("--recipe", recipe, "-o", str(out), "--epochs", "1", "--seed", "5", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["file"] == str(out) and printed["bytes"] == out.stat().st_size
    assert (printed["model"], printed["epochs"], printed["seed"], printed["images"]) == ("squeezenet1_1", 1, 5, 6)
    checkpoint = read_checkpoint(out)
    assert json.loads(checkpoint.metadata["labels"]) == ["dark", "light"]
    module = build("squeezenet1_1", 2)
    load_weights(module, checkpoint.state, str(out))
    test = open_dataset(str(tmp_path / "data"), "test")
    answers = logits(module, test.load(DIGITS, np.arange(6)), DIGITS)
    assert printed["fp32_top1"] == pytest.approx(100 * (answers.argmax(1) == test.labels).mean())
    assert printed["fp32_top5"] == 100


def test_the_table(tmp_path: Path, recipe: str) -> None:
    result = run("--recipe", recipe, "-o", str(tmp_path / "own.safetensors"), "--epochs", "1")
    assert result.exit_code == 0 and "top-1 %" in result.stdout


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("own.pth", r"own\.pth: the ending must be \.safetensors"),
        ("there.safetensors", "exists already"),
        ("gone/own.safetensors", "its folder does not exist"),
    ],
)
def test_a_wrong_output_is_refused_before_training(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch, out: str, reason: str
) -> None:
    (tmp_path / "there.safetensors").touch()
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trained for nothing"))
    result = run("--recipe", recipe, "-o", str(tmp_path / out))
    assert isinstance(result.exception, UsageError)
    with pytest.raises(UsageError, match=reason):
        raise result.exception


def test_unlabelled_data_is_refused(tmp_path: Path, recipe: str) -> None:
    write_folder(tmp_path / "flat" / "train", {"1.png": png(1)})
    write_folder(tmp_path / "flat" / "test", {"1.png": png(1)})
    Path(recipe).write_text(RECIPE.format(data=tmp_path / "flat"))
    result = run("--recipe", recipe, "-o", str(tmp_path / "own.safetensors"))
    assert isinstance(result.exception, UsageError) and "no labels" in str(result.exception)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    before = set(tmp_path.iterdir())
    assert run("--recipe", recipe, "-o", str(tmp_path / "own.safetensors")).exit_code != 0
    assert set(tmp_path.iterdir()) == before


def test_the_embedded_network_reaches_99_percent() -> None:
    checkpoint = read_checkpoint(default_weights())
    assert checkpoint.metadata["network"] == DEFAULT
    module = build(DEFAULT)
    load_weights(module, checkpoint.state, "embedded")
    test = open_dataset("digits", "test")
    answers = logits(module, test.load(DIGITS, np.arange(400)), DIGITS)
    assert (answers.argmax(1) == test.labels).mean() >= 0.99
    assert default_weights().stat().st_size < 1.5e6


def test_an_unknown_recipe(tmp_path: Path) -> None:
    result = run("--recipe", "nothing", "-o", str(tmp_path / "own.safetensors"))
    assert isinstance(result.exception, SqueezeEdgeError) and "one of: digits" in str(result.exception)
