"""Whole runs: what they write, and that a run which was stopped goes on bit for bit."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build, load_weights
from squeezeedge.training import logbook
from squeezeedge.training import run as run_module
from squeezeedge.training.checkpoint import read_state, write_state
from squeezeedge.training.data import TrainingImages, load_images
from squeezeedge.training.logbook import plot_history
from squeezeedge.training.recipe import Augmentation, Optimizer, Recipe
from squeezeedge.training.run import BEST, LAST, STATE, Report, Result, run
from squeezeedge.training.validate import Score, logits
from tests.calib.images import png, write_folder
from tests.training.processes import alive, children
from tests.training.tiny import RECIPE, bright_or_dark, changed, images

RICH = changed(
    epochs=3,
    ema=0.9,
    clip_norm=1.0,
    precision="bfloat16",
    validate_every=2,
    augmentation=Augmentation(rotation=5, flip=True, color_jitter=0.2, erasing=0.3),
)

TOML = """
summary = "files"
network = "squeezenet1_1"
epochs = 200
batch_size = 6
[input]
preset = "digits"
size = 24
[optimizer]
name = "sgd"
learning_rate = 3e-3
momentum = 0.9
weight_decay = 0
[schedule]
name = "cosine"
"""

pytestmark = pytest.mark.usefixtures("interruptible", "cheap_runs")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _run(
    folder: Path,
    recipe: Recipe = RECIPE,
    stop_after: int | None = None,
    *,
    resume: bool = False,
    trained: Mapping[str, Tensor] | None = None,
) -> Result:
    """Run; the user presses Ctrl-C in some step."""
    steps = 0

    def on_step(report: Report) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_after:
            signal.raise_signal(signal.SIGINT)

    return run(recipe, images(recipe), folder, on_step=on_step, resume=resume, trained=trained)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (BEST, LAST, STATE)}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [Optimizer("adamw", 1e-3, 0.9, 0.01), Optimizer("sgd", 3e-3, 0.9, 1e-4, True)])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, optimizer: Optimizer) -> None:
    """Stopped after the last step of an epoch, before its validation; within the second epoch; after it."""
    recipe = replace(RICH, optimizer=optimizer)
    whole = _run(tmp_path / "whole", recipe)
    assert whole.finished and [epoch.top1 is None for epoch in whole.history] == [True, False, False]
    folder = tmp_path / "stopped"
    for resume, steps, epochs in ((False, 2, 0), (True, 1, 1), (True, 1, 2)):
        result = _run(folder, recipe, steps, resume=resume)
        assert not result.finished and len(result.history) == epochs
        assert (folder / LAST).is_file()
    torch.manual_seed(99)  # what else happens in the process does not matter
    assert _run(folder, recipe, resume=True) == whole
    assert _bytes(folder) == _bytes(tmp_path / "whole")


@pytest.mark.slow
def test_fine_tuning_goes_on_without_the_weights_it_began_with(tmp_path: Path) -> None:
    trained = {n: t for n, t in build("squeezenet1_1").state_dict().items() if not n.startswith("classifier.1.")}
    optimizer = replace(RECIPE.optimizer, loaded_rate=0.5)
    recipe = changed(start="trained", frozen=1, batch_norm=True, ema=0.9, optimizer=optimizer)
    whole = _run(tmp_path / "whole", recipe, trained=trained)
    _run(tmp_path / "stopped", recipe, 2, trained=trained)
    assert _run(tmp_path / "stopped", recipe, resume=True) == whole
    assert _bytes(tmp_path / "stopped") == _bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_a_run_that_is_killed_in_its_first_epoch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """From the last state within the epoch, or from the one before its first step."""
    monkeypatch.setattr(run_module, "STATE_S", seconds)

    class Killed(BaseException):
        pass

    def on_step(report: Report) -> None:
        steps.append(report.images)
        if len(steps) == 3:
            raise Killed

    steps: list[int] = []
    with pytest.raises(Killed):
        run(RECIPE, images(), tmp_path / "killed", on_step=on_step)
    done: list[int] = []
    result = run(RECIPE, images(), tmp_path / "killed", resume=True, on_start=done.append)
    assert done == [0 if seconds else 12]
    assert result == _run(tmp_path / "whole")
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_killed_before_an_epoch_s_state_writes_all_of_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture, the events and the best network are there before the state that says so."""
    drawn: list[int] = []
    monkeypatch.setattr(logbook, "plot_history", lambda history, *_: drawn.append(len(history)))

    def killed(self: run_module._Run) -> None:
        assert drawn == [1] and (tmp_path / BEST).is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module._Run, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path, changed(epochs=1))
    assert read_state(tmp_path / STATE).values["history"] == []
    assert _run(tmp_path, changed(epochs=1), resume=True).finished and drawn == [1, 1]


def test_a_damaged_image_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, calls = TrainingImages.make, iter(range(9))

    def damaged(self: TrainingImages, request: Any) -> Any:  # noqa: ANN401
        if next(calls) == 2:
            raise CorruptFileError("a.png: not an image")
        return make(self, request)

    monkeypatch.setattr(TrainingImages, "make", damaged)
    with pytest.raises(CorruptFileError, match=r"a\.png"):
        _run(tmp_path)
    values = read_state(tmp_path / STATE).values
    assert (values["epoch"], values["step"]) == (0, 2) and (tmp_path / LAST).is_file()


@pytest.mark.slow
def test_files_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a run writes but the events: the file, its name, the folder."""
    monkeypatch.setattr(logbook, "plot_history", plot_history)
    steps: list[str] = []
    sync, replace_ = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent.name != "tensorboard":
            steps.append("folder" if path.is_dir() else f"content of {path.name[1:].partition('.sqe-')[0]}")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        steps.append(f"name of {target.name}")
        return replace_(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    _run(tmp_path, changed(epochs=1))
    names = [STATE, BEST, "curve.png", LAST, STATE]
    assert steps == [step for name in names for step in (f"content of {name}", f"name of {name}", "folder")]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "tensorboard"}


def test_a_signal_that_a_launcher_passes_on_is_no_second_one(tmp_path: Path) -> None:
    def twice(report: Report) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert not run(RECIPE, images(), tmp_path, on_step=twice).finished
    assert (tmp_path / STATE).is_file()


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "GRACE_S", -1.0)

    def impatient(report: Report) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, images(), tmp_path, on_step=impatient)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def signals(report: Report) -> None:
        for number in before:
            signal.raise_signal(number)

    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        assert run(RECIPE, images(), tmp_path, on_step=signals).finished
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "plot_history", plot_history)
    monkeypatch.setattr(run_module, "measure", lambda *_: Score(7, 50.0, 100.0))
    reports: list[Report] = []
    speeds: list[float] = []
    started: list[int] = []
    result = run(
        RECIPE,
        images(),
        tmp_path / "run",
        on_start=started.append,
        on_step=reports.append,
        on_epoch=lambda epoch, speed: speeds.append(speed),
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [BEST, "curve.png", LAST, STATE, "tensorboard"]
    assert result.best == result.history[-1], "of equally accurate epochs the latest"
    assert started == [0] and len(speeds) == 2 and min(speeds) > 0
    assert [report.images for report in reports] == [6, 6, 4] * 2 and [r.epoch for r in reports] == [1] * 3 + [2] * 3
    assert (reports[-1].loss, reports[-1].accuracy) == (result.history[1].loss, result.history[1].accuracy)
    with Image.open(tmp_path / "run" / "curve.png") as picture:
        assert picture.width > 500
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"epoch/top1" in events.read_bytes()


@pytest.mark.slow
def test_the_written_network_has_the_best_accuracy(tmp_path: Path) -> None:
    result = _run(tmp_path, changed(epochs=5, ema=0.5, optimizer=Optimizer("sgd", 1e-2, 0.9, 1e-4)))
    assert result.best is not None and result.best.top1 == max(epoch.top1 or 0 for epoch in result.history)
    assert result.best.top1 > result.history[0].top1, "it has learned"  # type: ignore[operator]
    checkpoint = read_checkpoint(tmp_path / BEST)
    assert json.loads(checkpoint.metadata["labels"]) == ["dark", "bright"]
    module = build("squeezenet1_1", 2)
    load_weights(module, checkpoint.state, BEST)
    tested = bright_or_dark(7, seed=1)
    assert isinstance(tested.images, np.ndarray)
    answers = logits(module, tested.images, RECIPE.input.preprocessing)
    assert 100 * int((answers.argmax(1) == tested.labels).sum()) / 7 == result.best.top1


def test_images_that_are_too_small(tmp_path: Path) -> None:
    recipe = changed(input=replace(RECIPE.input, size=8))
    with pytest.raises(UsageError, match="8x8 pixels is too small"):
        run(recipe, images(recipe), tmp_path)


def test_divergence(tmp_path: Path) -> None:
    recipe = changed(epochs=30, optimizer=Optimizer("sgd", 1e6, 0.9, 0.0))
    with pytest.raises(SqueezeEdgeError, match=r"diverged in epoch \d+: the loss is (nan|inf); lower optimizer\.learn"):
        _run(tmp_path, recipe)


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path, stop_after=4)
    before = _bytes(tmp_path)

    def full(descriptor: int, mode: str, closefd: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("squeezeedge.files.open", full, raising=False)
        with pytest.raises(SqueezeEdgeError, match=r"\.safetensors: cannot be written: No space left on device"):
            _run(tmp_path, resume=True)
    assert _bytes(tmp_path) == before
    assert _run(tmp_path, resume=True).finished


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SqueezeEdgeError, match="run/tensorboard: cannot be written: "):
        _run(tmp_path / "file" / "run")


def test_a_state_of_another_recipe(tmp_path: Path) -> None:
    _run(tmp_path, stop_after=1)
    other = changed(seed=4, optimizer=replace(RECIPE.optimizer, momentum=0.8))
    with pytest.raises(UsageError, match=r"another recipe: optimizer\.momentum is 0\.9 there and 0\.8 here; seed is 3"):
        _run(tmp_path, other, resume=True)


def test_a_state_of_other_images(tmp_path: Path) -> None:
    _run(tmp_path, stop_after=1)
    with pytest.raises(UsageError, match="was trained on other images"):
        run(RECIPE, load_images(RECIPE, bright_or_dark(18), bright_or_dark(7)), tmp_path, resume=True)


def test_a_state_of_other_images_with_the_same_labels(tmp_path: Path) -> None:
    _run(tmp_path, stop_after=1)
    for learned, tested in (
        (bright_or_dark(16, seed=7), bright_or_dark(7, 1)),
        (bright_or_dark(16), bright_or_dark(7)),
    ):
        with pytest.raises(UsageError, match="was trained on other images"):
            run(RECIPE, load_images(RECIPE, learned, tested), tmp_path, resume=True)


@pytest.mark.slow
def test_other_circumstances_are_said(tmp_path: Path) -> None:
    _run(tmp_path, stop_after=1)
    remarks: list[str] = []
    state = read_state(tmp_path / STATE)
    then = state.values["circumstances"]
    assert then.keys() == {"processes", "threads", "processor", "torch"}
    other = {**state.values, "circumstances": {**then, "processes": 2, "threads": 7}}
    write_state(tmp_path / STATE, replace(state, values=other))
    assert run(RECIPE, images(), tmp_path, resume=True, on_remark=remarks.append).finished
    (text,) = remarks
    assert "processes 2, here 1; threads 7, here 1: the run goes on, but its result will not be, bit for bit," in text
    assert run(RECIPE, images(), tmp_path, resume=True, on_remark=remarks.append).finished and len(remarks) == 1


@pytest.mark.slow
def test_sigterm_to_all_processes_ends_in_order(tmp_path: Path) -> None:
    """As from systemd or Slurm, while workers start."""
    for shade, split in enumerate(("train", "test")):
        files = {f"{name}/{i}.png": png(9 * i + 99 * (name == "b") + shade) for name in "ab" for i in range(9)}
        write_folder(tmp_path / split, files)
    (tmp_path / "own.toml").write_text(TOML)
    command = [
        sys.executable,
        "-m",
        "squeezeedge",
        "train",
        "--recipe",
        "own.toml",
        "--data",
        ".",
        "--workers",
        "1",
        "-o",
        "run",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 180
            while len(workers := children(process.pid)) < 1:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGTERM)
            _, told = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 130 and "Traceback" not in told
    assert "stopped; the network so far is run/last.safetensors" in told
    assert read_state(tmp_path / "run" / STATE).values["step"] == 1
    assert not any(map(alive, workers))


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"state\.safetensors: no such file"):
        _run(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_truncated_state(tmp_path: Path) -> None:
    _run(tmp_path, stop_after=1)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFileError, match=r"state\.safetensors: it is truncated, damaged"):
        _run(tmp_path, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["history", "sums", "epoch", "scaler", "tensor", "shape", "moment"])
def test_a_state_with_wrong_content(tmp_path: Path, change: str) -> None:
    _run(tmp_path, stop_after=1)
    state = read_state(tmp_path / STATE)
    tensors, values = dict(state.tensors), dict(state.values)
    if change == "tensor":
        del tensors["model.classifier.1.bias"]
    elif change == "shape":
        tensors["model.classifier.1.bias"] = torch.zeros(5)
    elif change == "moment":
        tensors["optimizer.momentum_buffer.classifier.1.bias"] = torch.zeros(5)
    else:
        values[change] = 9 if change == "epoch" else {"x": 1}
    write_state(tmp_path / STATE, replace(state, tensors=tensors, values=values))
    if change == "scaler":  # without float16 it is not read
        assert _run(tmp_path, resume=True).finished
        return
    with pytest.raises(CorruptFileError, match=r"state\.safetensors: (is damaged|does not fit)"):
        _run(tmp_path, resume=True)


def test_a_signal_while_validating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, which schedulers send, between the epochs."""
    validate = run_module._Run._validate

    def interrupted(self: run_module._Run) -> object:
        signal.raise_signal(signal.SIGTERM)
        return validate(self)

    with monkeypatch.context() as patch:
        patch.setattr(run_module._Run, "_validate", interrupted)
        result = _run(tmp_path)
    assert not result.finished and len(result.history) == 1
    assert _run(tmp_path, resume=True).finished
