"""A run from Python: folder, images, weights, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from squeezeedge.calib.datasets import Dataset
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.networks.registry import build
from squeezeedge.training.logbook import Epoch
from squeezeedge.training.recipe import Recipe
from squeezeedge.training.start import check_folder, train, trained_weights
from squeezeedge.training.train import Form
from tests.calib.images import png, write_folder
from tests.training.tiny import RECIPE, changed


@pytest.fixture
def data(tmp_path: Path) -> str:
    torch.set_num_threads(1)
    for split in ("train", "test"):
        write_folder(tmp_path / "data" / split, {f"dark/{i}.png": png(10 * i) for i in range(3)})
        write_folder(tmp_path / "data" / split, {f"light/{i}.png": png(200 + 10 * i) for i in range(3)})
    return str(tmp_path / "data")


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        self.told.append(f"{label} {total}")
        return nullcontext(lambda steps=1, detail="": None)

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
    assert listener.told == ["decode 12", "begins squeezenet1_1 6", "train 12", "epoch 1 6", "epoch 2 6"]
    silent = train(changed(epochs=1), data, tmp_path / "silent", workers=0)
    assert silent.result.finished


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


def test_the_last_layer_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    state = build("squeezenet1_1", 7).state_dict()
    save_file(state, path)
    kept = trained_weights("squeezenet1_1", path)
    assert state.keys() - kept.keys() == {"classifier.1.weight", "classifier.1.bias"}
    with pytest.raises(SqueezeEdgeError, match="does not fit the network"):
        trained_weights("squeezenet1_0", path)


def test_images_are_needed(tmp_path: Path, data: str) -> None:
    with pytest.raises(UsageError, match="labelled images are needed"):
        train(RECIPE, None, tmp_path / "run")
    with pytest.raises(SqueezeEdgeError, match="has 2 classes, the network has 3"):
        train(RECIPE, data, tmp_path / "run", classes=3)
    assert not (tmp_path / "run").exists()
