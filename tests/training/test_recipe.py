"""Recipes: the embedded ones, changes to them, and what is wrong with others."""

import re
from pathlib import Path

import pytest

from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.training.recipe import (
    Augmentation,
    Input,
    Optimizer,
    Recipe,
    Schedule,
    embedded_recipes,
    load_recipe,
)

VALID = """
summary = "own"
network = "squeezenet1_0"
dataset = "images"
epochs = 3
batch_size = 32
label_smoothing = 0
seed = 7
[input]
preset = "imagenet"
size = 64
resize = 72
[optimizer]
name = "sgd"
learning_rate = 0.1
momentum = 0.9
weight_decay = 1e-4
[schedule]
name = "cosine"
warmup = 1
[augmentation]
rotation = 0
flip = true
scale = 0.0
"""


def _load(tmp_path: Path, text: str, *changes: str) -> Recipe:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return load_recipe(str(path), changes)


def test_an_integer_that_no_float_holds_is_out_of_range(tmp_path: Path) -> None:
    text = embedded_recipes()["digits"].read_text()
    path = tmp_path / "a.toml"
    path.write_text(f"clip_norm = -{10**400}\n" + re.sub("(?m)^clip_norm.*\n", "", text))
    with pytest.raises(CorruptFileError, match=f"^{path}: not a valid recipe: clip_norm must be 0 or positive"):
        load_recipe(str(path))


def test_a_recipe_of_one_s_own(tmp_path: Path) -> None:
    assert _load(tmp_path, VALID) == Recipe(
        summary="own",
        network="squeezenet1_0",
        dataset="images",
        epochs=3,
        batch_size=32,
        label_smoothing=0.0,
        seed=7,
        input=Input("imagenet", 64, 72),
        optimizer=Optimizer("sgd", 0.1, 0.9, 1e-4),
        schedule=Schedule("cosine", 1.0),
        augmentation=Augmentation(flip=True),
    )


def test_the_embedded_default() -> None:
    recipe = load_recipe("digits")
    assert (recipe.network, recipe.dataset, recipe.input.preprocessing) == ("squeezenet1_1_digits", "digits", DIGITS)


@pytest.mark.parametrize("name", sorted(embedded_recipes()))
def test_every_embedded_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.summary
    if name.startswith("imagenet"):
        assert recipe.input.preprocessing == IMAGENET and recipe.start == "random"
        assert (recipe.optimizer.momentum, recipe.label_smoothing, recipe.schedule.name) == (0.9, 0.1, "cosine")
    if "finetune" in name:
        assert recipe.start == "trained"


def test_changes(tmp_path: Path) -> None:
    changes = ("epochs=9", "input.size = 32", "dataset=my/images", "optimizer.name=adamw", "augmentation.flip=false")
    recipe = _load(tmp_path, VALID, *changes, "precision='bfloat16'", "ema=0.5")
    assert (recipe.epochs, recipe.input.size, recipe.dataset, recipe.ema) == (9, 32, "my/images", 0.5)
    assert (recipe.optimizer.name, recipe.augmentation.flip, recipe.precision) == ("adamw", False, "bfloat16")


@pytest.mark.parametrize("change", ["epochs", "=3", "input.=3", "epochs 3"])
def test_a_change_without_key_or_value(tmp_path: Path, change: str) -> None:
    with pytest.raises(UsageError, match="must be key=value"):
        _load(tmp_path, VALID, change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("epoch=3", r"there is no key 'epoch' \(did you mean epochs\?\)"),
        ("learning_rate=0.1", r"'learning_rate' \(did you mean optimizer\.learning_rate\?\)"),
        ("optimiser.lerning_rate=0.1", r"\(did you mean optimizer\.learning_rate\?\)"),
        ("input.width=3", "there is no key 'input.width'.*; the keys are summary, network, epochs"),
        ("epochs.x=3", r"there is no key 'epochs\.x' \(did you mean epochs\?\)"),
        ("input=3", "there is no key 'input'"),
        ("zzz=3", "there is no key 'zzz'; the keys are"),
        ("epochs=many", "epochs must be an integer"),
        ("epochs=0", "epochs must be at least 1"),
        ("seed=" + "[" * 10_000, "seed must be an integer"),
        ("augmentation.flip=1", r"augmentation\.flip must be true or false"),
    ],
)
def test_a_wrong_change(tmp_path: Path, change: str, reason: str) -> None:
    with pytest.raises(UsageError) as failure:
        _load(tmp_path, VALID, change)
    text = str(failure.value)
    assert text.startswith(f"`set` {change}: ") and re.search(reason, text) and "own.toml" not in text


def test_the_crop_keeps_its_share_of_the_image(tmp_path: Path) -> None:
    """The network would see the middle of validation's images alone, if the shorter side stayed as it was."""
    assert _load(tmp_path, VALID, "input.size=128").input == Input("imagenet", 128, 144)
    assert _load(tmp_path, VALID, "input.size=32", "input.resize=40").input == Input("imagenet", 32, 40)
    assert _load(tmp_path, VALID.replace("resize = 72", ""), "input.size=32").input.resize == 0


def test_changes_are_judged_together(tmp_path: Path) -> None:
    recipe = _load(tmp_path, VALID.replace("epochs = 3", ""), "frozen=2", "start=trained", "epochs=4")
    assert (recipe.frozen, recipe.start, recipe.epochs) == (2, "trained", 4), "also one that completes the file"
    with pytest.raises(UsageError, match=r"`set` frozen=2 `set` seed=1: frozen must be used with start"):
        _load(tmp_path, VALID, "frozen=2", "seed=1")
    with pytest.raises(CorruptFileError, match=r"own\.toml: not a valid recipe: missing: epochs"):
        _load(tmp_path, VALID.replace("epochs = 3", ""), "seed=1")
    with pytest.raises(CorruptFileError, match=r"own\.toml: not a valid recipe: augmentation must be a table"):
        _load(tmp_path, VALID.replace("[augmentation]", "[[augmentation]]"), "augmentation.flip=true")


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"cifar: there is no such recipe \(did you mean cifar10\?\); .* one of: cifar10"
    ):
        load_recipe("cifar")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("epochs = 3", "", "missing: epochs"),
        ("epochs = 3", "epochs = 3\nepoch = 3", r"unknown: epoch \(did you mean epochs\?\)"),
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
        ('"imagenet"', '"cifar"', r"input\.preset must be one of imagenet, digits"),
        ("size = 64", "size = 0", r"input\.size must be in 1"),
        ("resize = 72", "resize = 63", r"input\.resize must be 0 or in size"),
        ("resize = 72", "first_size = 65", r"input\.first_size must be in 0\.\.size"),
        ("resize = 72", "cache = -1", r"input\.cache must be"),
        ('"cosine"', '"step"', r"schedule\.name must be one of one_cycle, cosine, constant"),
        ('"cosine"', '"one_cycle"', r"schedule\.warmup must be 0 with one_cycle"),
        ("warmup = 1", "warmup = 4", r"schedule\.warmup must be at most epochs"),
        ("seed = 7", "ema = 1.0", "ema must be"),
        ("seed = 7", "dropout = 1.0", "dropout must be"),
        ("seed = 7", "clip_norm = inf", "clip_norm must be"),
        ("seed = 7", "validate_every = 0", "validate_every must be at least 1"),
        ("seed = 7", 'precision = "int8"', "precision must be one of float32, bfloat16, float16"),
        ("seed = 7", 'start = "middle"', "start must be one of random, trained"),
        ("seed = 7", "frozen = 1", 'frozen must be used with start = "trained"'),
        ("seed = 7", "frozen = -1", "frozen must be 0 or positive"),
        ("momentum = 0.9", "momentum = 0.9\nloaded_rate = 2", r"optimizer\.loaded_rate must be in 0\.\.1"),
        ("flip = true", "flip = 1", r"augmentation\.flip must be true or false"),
        ("flip = true", "area = 2", r"augmentation\.area must be in 0\.\.1"),
        ("flip = true", "padding = -1", r"augmentation\.padding must be"),
        ("flip = true", "color_jitter = 1", r"augmentation\.color_jitter must be"),
        ("flip = true", "translation = 1", r"augmentation\.translation must be"),
        ("flip = true", "erasing = 1.1", r"augmentation\.erasing must be in 0\.\.1"),
        ('"sgd"', '"lion"', r"optimizer\.name must be one of adamw, sgd"),
        ("learning_rate = 0.1", "learning_rate = nan", r"optimizer\.learning_rate must be positive"),
        ("learning_rate = 0.1", 'learning_rate = "1"', r"optimizer\.learning_rate must be a number"),
        ("momentum = 0.9", "momentum = 1", r"optimizer\.momentum must be between"),
        ("weight_decay = 1e-4", "weight_decay = -1", r"optimizer\.weight_decay must be"),
        ("rotation = 0", "rotation = 181", r"augmentation\.rotation must be"),
        ("scale = 0.0", "scale = inf", r"augmentation\.scale must be"),
        ("[augmentation]", "[[augmentation]]", "augmentation must be a table"),
        ("[optimizer]", "[optimizer", ""),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert VALID.count(old) == 1
    with pytest.raises(CorruptFileError, match=rf"own\.toml: not a valid recipe.*{reason}"):
        _load(tmp_path, VALID.replace(old, new))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\x00")
    with pytest.raises(CorruptFileError, match=r"own\.toml"):
        load_recipe(str(tmp_path / "own.toml"))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_a_change_that_toml_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="`set` epochs="):
        load_recipe("digits", [f"epochs={value}"])
