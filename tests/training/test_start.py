"""A run from Python: folder, images, weights, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.calib.statement import Statement
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.files import LOCK, is_leftover, locked_folder
from squeezeedge.networks.registry import build
from squeezeedge.training.distributed import World
from squeezeedge.training.logbook import Epoch
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.start import check_folder, networks_in, train, trained_weights
from squeezeedge.training.train import Form
from tests.calib.images import png, write_folder
from tests.training.tiny import RECIPE, changed

pytestmark = pytest.mark.usefixtures("cheap_runs")


@pytest.fixture
def data(tmp_path: Path) -> str:
    torch.set_num_threads(1)
    for split, value in (("train", 0), ("test", 5)):
        write_folder(tmp_path / "data" / split, {f"dark/{i}.png": png(value + 10 * i) for i in range(3)})
        write_folder(tmp_path / "data" / split, {f"light/{i}.png": png(value + 200 + 10 * i) for i in range(3)})
    return str(tmp_path / "data")


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        self.told.append(f"{label} {total}")
        return nullcontext(lambda steps=1, detail="": None)

    def remark(self, text: str) -> None:
        self.told.append(text)

    def begins(self, recipe: Recipe, learned: Dataset, form: Form | None) -> None:
        self.told.append(f"begins {recipe.network} {len(learned)}")

    def epoch(self, recipe: Recipe, epoch: Epoch, images_per_s: float, images: int) -> None:
        self.told.append(f"epoch {epoch.epoch} {images}")


@pytest.mark.slow
def test_a_run_and_who_is_told(tmp_path: Path, data: str) -> None:
    listener = Listener()
    outcome = train(RECIPE, data, tmp_path / "run", watcher=listener, workers=0)
    assert outcome.result.finished and outcome.suffix == ".safetensors" and len(outcome.tested) == 6
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert listener.told == [
        f"{data}: has too few images to hold any out, so the epoch is chosen by the images to learn",
        *("decode 12", "begins squeezenet1_1 6", "train 12", "epoch 1 6", "epoch 2 6", "test 6"),
    ]
    silent = train(changed(epochs=1), data, tmp_path / "silent", workers=0)
    assert silent.result.finished


def test_the_last_figure_is_of_images_that_served_for_nothing_else(tmp_path: Path) -> None:
    """The epoch is chosen by val; in test the classes are exchanged, so that its figure is that of no other images."""
    torch.set_num_threads(1)
    parts = (("train", ("dark", "light")), ("valid", ("dark", "light")), ("test", ("light", "dark")))
    for shade, (split, names) in enumerate(parts):
        for name, value in zip(names, (shade, 200 + shade), strict=True):
            write_folder(tmp_path / "data" / split / name, {f"{i}.png": png(value + 10 * i) for i in range(5)})
    outcome = train(changed(epochs=1), str(tmp_path / "data"), tmp_path / "run", workers=0)
    best, score = outcome.result.best, outcome.score
    assert (
        best is not None and score is not None and best.top1 is not None and len(outcome.chosen) == score.images == 10
    )
    assert best.top1 == pytest.approx(100 - score.top1)
    assert [len(part) for part in (outcome.chosen, outcome.tested)] == [10, 10]


def test_folders(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", resume=False)
    (tmp_path / "file").touch()
    for path, resume, reason in (
        (tmp_path / "gone" / "run", False, "does not exist"),
        (tmp_path / "file", True, "is a file"),
        (tmp_path, False, "is not empty; empty it"),
    ):
        with pytest.raises(UsageError, match=reason):
            check_folder(path, resume)
    check_folder(tmp_path, resume=True)


def test_a_folder_of_a_run_that_was_killed_before_its_state(tmp_path: Path, data: str) -> None:
    """Nothing is lost there: it is begun again; what to do is said both ways."""
    out = tmp_path / "run"
    (out / "tensorboard").mkdir(parents=True)
    for name in ("start.sqe", ".state.safetensors.sqe-0123abcd.partial", LOCK):
        (out / name).touch()
    check_folder(out, resume=False)
    (out / "start.sqe").unlink()
    with pytest.raises(UsageError, match="no such file, so there is no run to go on with; begin one, without `resume`"):
        train(RECIPE, data, out, resume=True, workers=0)
    assert train(changed(epochs=1), data, out, workers=0).result.finished
    assert not any(is_leftover(path) for path in out.iterdir())
    with pytest.raises(
        UsageError, match="is not empty; go on with the run in it by `resume`, or choose another folder"
    ):
        train(RECIPE, data, out, workers=0)


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_in_one_folder(tmp_path: Path, data: str, resume: bool) -> None:
    with locked_folder(tmp_path / "run"):
        for second in (
            lambda: check_folder(tmp_path / "run", resume),
            lambda: train(RECIPE, data, tmp_path / "run", resume=resume, workers=0),
        ):
            with pytest.raises(
                UsageError, match=r"run: process \d+ of \S+ is using this folder; wait until it ends, or"
            ):
                second()
        with pytest.raises(UsageError, match="training needs labelled images"):  # a process that writes nothing
            train(RECIPE, None, tmp_path / "run", world=World(rank=1, size=2))


def test_the_last_layer_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    state = build("squeezenet1_1", 7).state_dict()
    save_file(state, path)
    kept = trained_weights("squeezenet1_1", path, IMAGENET)
    assert state.keys() - kept.keys() == {"classifier.1.weight", "classifier.1.bias"}
    with pytest.raises(SqueezeEdgeError, match="does not fit the network"):
        trained_weights("squeezenet1_0", path, IMAGENET)


def test_weights_of_a_network_that_reads_other_images_are_rewritten(tmp_path: Path) -> None:
    path, told = tmp_path / "trained.safetensors", list[str]()
    state = build("squeezenet1_1", 7).state_dict()
    save_file(state, path)
    first = "features.0.weight"
    flipped = trained_weights("squeezenet1_1", path, IMAGENET, Statement(channel_order="bgr"), told.append)
    torch.testing.assert_close(flipped[first], state[first].flip(1))
    assert told == ["trained.safetensors: assuming ImageNet mean and standard deviation; `mean`/`std` to change"]
    pixels = Statement((0, 0, 0), (1, 1, 1), 1).said_by("`scale`")
    rewritten = trained_weights("squeezenet1_1", path, IMAGENET, pixels)
    std = torch.tensor(IMAGENET.std)[:, None, None] * 255
    torch.testing.assert_close(rewritten[first], state[first] * std)
    assert torch.equal(rewritten["features.3.squeeze.weight"], state["features.3.squeeze.weight"])
    assert torch.equal(trained_weights("squeezenet1_1", path, DIGITS)[first], state[first]), "nothing is stated"


def test_a_checkpoint_s_network(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    save_file(build("squeezenet1_0", 3).state_dict(), path)
    assert networks_in(path) == ("squeezenet1_0", "squeezenet1_0_simple_bypass", "squeezenet1_0_mindcv")
    save_file(build("squeezenet1_1_mindcv", 3).state_dict(), path, {"network": "squeezenet1_1_mindcv"})
    assert networks_in(path) == ("squeezenet1_1_mindcv",)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(SqueezeEdgeError, match=r"trained\.safetensors: none of the networks here"):
        networks_in(path)


def test_images_without_parts(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = write_folder(
        tmp_path / "whole", {f"{name}/{i}.png": png(9 * i + ord(name)) for name in "abc" for i in range(4)}
    )
    listener = Listener()
    outcome = train(changed(epochs=1), str(whole), tmp_path / "run", watcher=listener, workers=0)
    assert len(outcome.tested) == 3 and outcome.tested.classes == ("a", "b", "c")
    assert listener.told[0] == f"{whole}: has no test part; 3 of its 12 images are held out for testing"
    assert "begins squeezenet1_1 9" in listener.told
    part = write_folder(tmp_path / "part", {"C/1.png": png(1), "a/1.png": png(2)})
    listener = Listener()
    outcome = train(changed(epochs=1), str(whole), tmp_path / "2", test_data=str(part), watcher=listener, workers=0)
    assert outcome.tested.labels is not None and outcome.tested.labels.tolist() == [2, 0]
    assert f"{part}: has 2 of {whole}'s 3 classes" in listener.told and "begins squeezenet1_1 12" in listener.told
    other = write_folder(tmp_path / "other", {"d/1.png": png(1), "a/1.png": png(2)})
    with pytest.raises(SqueezeEdgeError, match=r"none of .*whole's: 'd'; .* are 'a', 'b', 'c'; rename the folders"):
        train(RECIPE, str(whole), tmp_path / "3", test_data=str(other))
    with pytest.raises(UsageError, match="no such file or folder"):
        train(RECIPE, str(tmp_path / "absent"), tmp_path / "3")


def test_a_network_that_keeps_its_last_layer_keeps_its_classes(tmp_path: Path, data: str) -> None:
    seen: list[tuple[list[int], tuple[str, ...]]] = []

    def form(recipe: Recipe, learned: Dataset, classes: tuple[str, ...]) -> Form:
        assert learned.labels is not None
        seen.append((learned.labels.tolist(), classes))
        raise UsageError("seen")

    for names, labels, classes in (
        (("Light", "grey", "DARK"), [2, 2, 2, 0, 0, 0], ("Light", "grey", "DARK")),
        ((), [0, 0, 0, 1, 1, 1], ("dark", "light")),
    ):
        listener = Listener()
        with pytest.raises(UsageError, match="seen"):
            train(RECIPE, data, tmp_path / "run", make_form=form, names=names, watcher=listener, workers=0)
        assert seen.pop() == (labels, classes)
        assert ("has 2 of the network's 3 classes" if names else "taken in order: 0 = dark") in listener.told[1]
    with pytest.raises(SqueezeEdgeError, match=r"none of the network's: 'dark'.* `qat` trains no new layer"):
        train(RECIPE, data, tmp_path / "run", make_form=form, names=("light", "black"), workers=0)


def test_images_are_needed(tmp_path: Path, data: str) -> None:
    with pytest.raises(UsageError, match="training needs labelled images"):
        train(RECIPE, None, tmp_path / "run")
    with pytest.raises(
        SqueezeEdgeError, match=r"has 2 classes \('dark', 'light'\) instead of 3; give that number or none"
    ):
        train(RECIPE, data, tmp_path / "run", classes=3)
    assert not (tmp_path / "run").exists()
