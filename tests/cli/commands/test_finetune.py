"""``squeezeedge finetune``: a trained network learns other classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import build
from tests.calib.images import png, write_folder
from tests.cli.conftest import Invoke

QUICK = ["--set", "epochs=1", "--set", "input.size=24", "--set", "input.resize=24", "--workers", "0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path / "data"
    for value, (split, count) in enumerate((("train", 2), ("valid", 1), ("test", 2))):
        files = {f"{name}/{i}.png": png(60 * i + 3 * value + ord(name)) for name in "abc" for i in range(count)}
        write_folder(folder / split, files)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "trained.safetensors"
    save_file(build("squeezenet1_1", 7).state_dict(), path)
    return path


@pytest.mark.slow
def test_all_but_the_last_layer_is_kept(invoke: Invoke, tmp_path: Path, data: Path, weights: Path) -> None:
    out = tmp_path / "run"
    options = ["--weights", weights, "--data", data, "--classes", "3", "-o", out, "--json", *QUICK]
    result = invoke("finetune", "squeezenet1_1", *options, "--set", "optimizer.loaded_rate=0")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["model"], report["images"], report["epochs"]) == ("squeezenet1_1", 6, 1)
    assert report["validation_images"] == 3 and report["validation_top1"] == report["history"][0]["top1"]
    before, after = read_checkpoint(weights).state, read_checkpoint(out / "best.safetensors").state
    assert after["classifier.1.weight"].shape == (3, 512, 1, 1)
    for name, tensor in before.items():
        if not name.startswith("classifier"):
            assert torch.equal(after[name], tensor.half().float())
    assert json.loads(read_checkpoint(out / "best.safetensors").metadata["labels"]) == ["a", "b", "c"]


@pytest.mark.slow
def test_the_published_weights(
    invoke: Invoke, tmp_path: Path, data: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeezeedge.networks.registry.download", lambda name: weights)
    out = tmp_path / "run"
    assert invoke("finetune", "squeezenet1_1", "--pretrained", "--data", data, "-o", out, *QUICK).exit_code == 0
    again = invoke("finetune", "squeezenet1_1", "--data", data, "-o", out, *QUICK, "--resume", "--json")
    assert again.exit_code == 0 and json.loads(again.stdout)["finished"], "nothing was left to do"


@pytest.mark.parametrize(
    ("network", "options", "reason"),
    [
        ("squeezenet1_1", [], "give --weights FILE or --pretrained"),
        ("squeezenet1_1", ["--pretrained", "--weights", "trained.safetensors"], "exclude each other"),
        ("resnet18", ["--pretrained"], "resnet18: no such network"),
        ("trained.safetensors", ["--network", "resnet18"], "resnet18: no such network"),
        (
            "squeezenet1_1",
            ["--pretrained", "--network", "squeezenet1_0"],
            "--network squeezenet1_0 contradicts squeezen",
        ),
        ("squeezenet1_2", ["--pretrained"], r"no such network \(did you mean squeezenet1_"),
        ("absent.pth", [], r"absent\.pth: no such file"),
        ("other.safetensors", [], r"other\.safetensors: none of the networks here"),
        ("trained.safetensors", ["--pretrained"], "--pretrained goes with a network's name"),
        ("trained.safetensors", ["--weights", "cut.safetensors"], "--weights goes with a network's name"),
        ("squeezenet1_0", ["--weights", "trained.safetensors"], r"trained\.safetensors: does not fit the network: "),
        ("squeezenet1_1", ["--weights", "other.safetensors"], r"other\.safetensors: holds no classifier\.1\.weight"),
        ("squeezenet1_1", ["--weights", "cut.safetensors"], r"cut\.safetensors: "),
        (
            "squeezenet1_1",
            ["--weights", "trained.safetensors", "--classes", "10"],
            r"has 3 classes \('a', 'b', 'c'\) instead of 10",
        ),
        ("squeezenet1_1", ["--weights", "trained.safetensors", "--recipe", "cifar10"], "starts from random weights"),
    ],
)
def test_what_is_refused(
    invoke: Invoke,
    tmp_path: Path,
    data: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: str,
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"fc.weight": torch.zeros(3, 3)}, "other.safetensors")
    Path("cut.safetensors").write_bytes(weights.read_bytes()[:-10])
    result = invoke("finetune", network, *options, "--data", data, "-o", "run")
    assert isinstance(result.exception, SqueezeEdgeError), result.output
    with pytest.raises(SqueezeEdgeError, match=reason):
        raise result.exception
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("by", ["argument", "option"])
def test_a_checkpoint_without_a_name(invoke: Invoke, tmp_path: Path, weights: Path, by: str) -> None:
    torch.set_num_threads(1)
    data = write_folder(
        tmp_path / "plain", {f"{name}/{i}.png": png(30 * i + ord(name)) for name in "abc" for i in range(5)}
    )
    network: list[str | Path] = [weights] if by == "argument" else ["--weights", weights]
    if by == "option":
        network += ["--network", "squeezenet1_1_mindcv", "--set", "input.size=32", "--set", "input.resize=32"]
    result = invoke("finetune", *QUICK, *network, "--data", data, "-o", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    name = "squeezenet1_1" if by == "argument" else "squeezenet1_1_mindcv"
    assert (report["model"], report["images"]) == (name, 3)
    said = "its tensors fit squeezenet1_1 and squeezenet1_1_mindcv; squeezenet1_1 is taken" in result.stderr
    assert said == (by == "argument")
    assert "3 of its 15 images are held out for testing" in result.stderr


def test_a_network_is_needed(invoke: Invoke, tmp_path: Path, data: Path) -> None:
    result = invoke("finetune", "--data", data, "-o", tmp_path / "run")
    assert isinstance(result.exception, UsageError) and "fine-tuning needs a network" in str(result.exception)


def test_the_folder_must_be_free(invoke: Invoke, tmp_path: Path, data: Path, weights: Path) -> None:
    result = invoke("finetune", "squeezenet1_1", "--weights", weights, "--data", data, "-o", tmp_path)
    assert isinstance(result.exception, UsageError) and "is not empty" in str(result.exception)


@pytest.fixture(scope="module")
def cifar(shared_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few of CIFAR-10's images to learn and to test on."""
    import numpy as np

    from squeezeedge.calib.datasets import open_dataset
    from squeezeedge.calib.preprocess import Preprocessing

    archive, files = str(shared_file("data/cifar10.tar")), {}
    for split in ("train", "test"):
        images = open_dataset(archive, split)
        assert images.labels is not None and len(images.classes) == 10
        chosen = np.arange(0, len(images), len(images) // 64)
        pixels = images.load(Preprocessing((32, 32), None), chosen)
        files[split] = tmp_path_factory.mktemp("cifar") / f"{split}.npz"
        np.savez(files[split], images=pixels, labels=images.labels[chosen])
    return files


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("cifar10-finetune-hour", ["--set", "optimizer.learning_rate=0.003"]),  # six steps: too few for the recipe's
        ("cifar10-finetune", []),
    ],
)
def test_the_recipes_for_cifar10(
    invoke: Invoke,
    tmp_path: Path,
    shared_file: Callable[[str], Path],
    cifar: dict[str, Path],
    recipe: str,
    changes: list[str],
) -> None:
    """Six epochs with the published weights, on a few of the images."""
    weights = shared_file("weights/squeezenet1_0-imagenet.pth")
    options = ["--data", cifar["train"], "--test-data", cifar["test"], "-o", tmp_path / "run", "--json"]
    command = ["finetune", "squeezenet1_0", "--weights", weights, "--recipe", recipe, "--set", "epochs=6"]
    result = invoke(*command, "--set", "input.size=64", *options, *changes)
    assert result.exit_code == 0, result.output
    losses = [epoch["loss"] for epoch in json.loads(result.stdout)["history"]]
    assert losses[-1] < losses[0] and losses[-1] < 2  # ln 10 = 2.3 knows nothing
