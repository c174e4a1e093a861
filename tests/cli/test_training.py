"""``--qat``: from a float run over a run in integers to ``eval``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph import oracle
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.training.train import Step, Trainer
from tests.calib.images import png, write_folder
from tests.cli.conftest import Invoke

pytestmark = pytest.mark.usefixtures("interruptible")

RECIPE = """
summary = "own"
network = "squeezenet1_1"
epochs = 2
batch_size = 4
batch_norm = true
ema = 0.5
clip_norm = 1.0
[input]
preset = "digits"
size = 40
first_size = 24
cache = 40
[optimizer]
name = "adamw"
learning_rate = 1e-4
momentum = 0.9
weight_decay = 0.01
[schedule]
name = "one_cycle"
[augmentation]
rotation = 5
"""
FILES = ("best.sqe", "last.sqe", "start.sqe", "state.safetensors")


@pytest.fixture(scope="module")
def trained(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, two recipes and a float run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("qat")
    for split, value in (("train", 0), ("test", 5)):
        write_folder(folder / "data" / split, {f"dark/{i}.png": png(value + 10 * i) for i in range(3)})
        write_folder(folder / "data" / split, {f"light/{i}.png": png(value + 200 + 10 * i) for i in range(3)})
    (folder / "own.toml").write_text(RECIPE)
    (folder / "tuned.toml").write_text('start = "trained"\n' + RECIPE)
    result = invoke("train", "--recipe", folder / "own.toml", "--data", folder / "data", "-o", folder / "float")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


START = ["--qat", "--weights", "float/best.safetensors"]
TRAIN = ["train", "--recipe", "own.toml", "--data", "data"]
FINETUNE = ["finetune", "squeezenet1_1", "--recipe", "tuned.toml", "--data", "data"]


@pytest.mark.slow
def test_what_was_trained_is_what_runs(invoke: Invoke, here: Path) -> None:
    """The accuracy printed is that of the file, by the oracle and by the processor's own kernels."""
    result = invoke(*FINETUNE, *START, "-o", "run", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert "warning: the calibration images (6, 5 like others) show" in result.stderr.replace("\n", " ")
    assert report["file"] == "run/best.sqe" and report["finished"] and len(report["history"]) == 2
    assert {epoch["size"] for epoch in report["history"]} == {40}, "the integer network is of one size"
    assert set(FILES) < {path.name for path in Path("run").iterdir()}
    assert not list(Path("run").glob("best.safe*"))
    graph = read_sqe(Path("run/best.sqe"))
    assert graph.labels == ("dark", "light") and graph.digest() != read_sqe(Path("run/start.sqe")).digest()
    test = open_dataset("data", "test")
    answers = oracle.run(graph, test.load(graph.preprocessing, np.arange(len(test))))
    right = 100 * (graph.logits(answers).argmax(1) == test.labels).mean()
    assert report["int8_top1"] == pytest.approx(right)
    evaluated = invoke("eval", "run/best.sqe", "--data", "data", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    figures = json.loads(evaluated.stdout)
    assert figures["bit_exact"] and figures["top1"] == pytest.approx(report["int8_top1"])


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(invoke: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invoke(*TRAIN, *START, "-o", "whole", "--json")
    assert whole.exit_code == 0, whole.output
    step = Trainer.step

    def interrupted(*arguments: Any) -> Step:  # noqa: ANN401
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(Trainer, "step", interrupted)
    stopped = invoke(*TRAIN, *START, "-o", "stopped")
    assert stopped.exit_code == 130 and "the network so far is stopped/last.sqe" in stopped.stderr.replace("\n", " ")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    without = invoke(*TRAIN, "-o", "stopped", "--resume")
    assert isinstance(without.exception, SqueezeEdgeError) and "one with --qat" in str(without.exception)
    larger = invoke(*TRAIN, "--qat", "-o", "stopped", "--resume", "--set", "input.size=48")
    assert isinstance(larger.exception, SqueezeEdgeError) and "another input than the recipe's" in str(larger.exception)
    result = invoke(*TRAIN, "--qat", "-o", "stopped", "--resume", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["history"] == json.loads(whole.stdout)["history"]
    for name in FILES:
        assert Path("stopped", name).read_bytes() == Path("whole", name).read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([*TRAIN, "--qat"], "--qat starts from a trained network: train without it first"),
        ([*TRAIN, "--weights", "float/best.safetensors"], "--weights: training starts from random weights"),
        ([*FINETUNE, "--qat"], "give --weights FILE or --pretrained"),
        ([*FINETUNE, "--qat", "--weights", "some.sqe"], "some.sqe: is an integer graph; --qat starts from the float"),
        ([*FINETUNE, "--qat", "--weights", "none.pth"], r"none\.pth: "),
        ([*FINETUNE, "--qat", "--weights", "three.safetensors"], "has 3 classes, the images have 2; --qat trains no"),
        ([*FINETUNE, "--qat", "--weights", "nan.safetensors"], r"nan\.safetensors|features\.0"),
        ([*FINETUNE, *START, "--set", "input.size=8", "--set", "input.first_size=0"], "8x8"),
        ([*FINETUNE, "--qat", "--resume"], r"refused/start\.sqe: no such file, so the run in refused is not one"),
    ],
)
def test_what_is_refused(invoke: Invoke, here: Path, arguments: list[str], reason: str) -> None:
    state = load_file("float/best.safetensors")
    three = {"classifier.1.weight": torch.zeros(3, 512, 1, 1), "classifier.1.bias": torch.zeros(3)}
    save_file(state | three, "three.safetensors")
    save_file(state | {"features.0.bias": torch.full((64,), torch.nan)}, "nan.safetensors")
    result = invoke(*arguments, "-o", "refused")
    assert isinstance(result.exception, SqueezeEdgeError), result.output
    with pytest.raises(SqueezeEdgeError, match=reason):
        raise result.exception
    assert not Path("refused").exists()
