"""Recipes: the embedded one, and what is wrong with others."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.training.recipe import Augmentation, Optimizer, Recipe, load_recipe

VALID = """
network = "squeezenet1_0"
dataset = "images"
preprocessing = "imagenet"
epochs = 3
batch_size = 32
label_smoothing = 0
seed = 7
[optimizer]
name = "sgd"
peak_learning_rate = 0.1
momentum = 0.9
weight_decay = 1e-4
[augmentation]
rotation = 0
translation = 0.1
scale = 0.0
"""


def _load(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return load_recipe(str(path))


def test_a_recipe_of_one_s_own(tmp_path: Path) -> None:
    assert _load(tmp_path, VALID) == Recipe(
        network="squeezenet1_0",
        dataset="images",
        preprocessing="imagenet",
        epochs=3,
        batch_size=32,
        label_smoothing=0.0,
        seed=7,
        optimizer=Optimizer("sgd", 0.1, 0.9, 1e-4),
        augmentation=Augmentation(0.0, 0.1, 0.0),
    )


def test_the_embedded_recipe() -> None:
    recipe = load_recipe("digits")
    assert (recipe.network, recipe.dataset, recipe.preprocessing) == ("squeezenet1_1_digits", "digits", "digits")


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"cifar: no such recipe; .* one of: digits"):
        load_recipe("cifar")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("epochs = 3", "", "missing: epochs"),
        ("epochs = 3", "epochs = 3\nepoch = 3", "unknown: epoch"),
        ("scale = 0.0", "scale = 0.0\nshear = 1", r"unknown: augmentation\.shear"),
        ("momentum = 0.9", "", r"missing: optimizer\.momentum"),
        ("epochs = 3", "epochs = 3.0", "epochs must be an integer"),
        ("epochs = 3", "epochs = true", "epochs must be an integer"),
        ("epochs = 3", "epochs = 0", "epochs must be at least 1"),
        ("batch_size = 32", "batch_size = -1", "batch_size must be at least 1"),
        ("seed = 7", "seed = -1", "seed must be at least 0"),
        ("label_smoothing = 0", "label_smoothing = 1", "label_smoothing must be"),
        ('"squeezenet1_0"', '"resnet18"', "network must be one of squeezenet1_1_digits"),
        ('"images"', "3", "dataset must be a text"),
        ('"imagenet"', '"cifar"', "preprocessing must be one of imagenet, digits"),
        ('"sgd"', '"lion"', r"optimizer\.name must be one of adamw, sgd"),
        ("peak_learning_rate = 0.1", "peak_learning_rate = nan", r"optimizer\.peak_learning_rate must be positive"),
        ("peak_learning_rate = 0.1", 'peak_learning_rate = "1"', r"optimizer\.peak_learning_rate must be a number"),
        ("momentum = 0.9", "momentum = 1", r"optimizer\.momentum must be between"),
        ("weight_decay = 1e-4", "weight_decay = -1", r"optimizer\.weight_decay must be"),
        ("rotation = 0", "rotation = 181", r"augmentation\.rotation must be"),
        ("translation = 0.1", "translation = 1", r"augmentation\.translation must be"),
        ("scale = 0.0", "scale = inf", r"augmentation\.scale must be"),
        ("[augmentation]", "[[augmentation]]", "augmentation must be a table"),
        ("[optimizer]", "[optimizer", "not a valid recipe"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert VALID.count(old) == 1
    with pytest.raises(CorruptFileError, match=rf"own\.toml: not a valid recipe: .*{reason}|{reason}"):
        _load(tmp_path, VALID.replace(old, new))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\x00")
    with pytest.raises(CorruptFileError, match=r"own\.toml"):
        load_recipe(str(tmp_path / "own.toml"))
