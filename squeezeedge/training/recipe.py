"""Training recipes: TOML files that say all that a training run depends on."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from squeezeedge.calib.preprocess import PRESETS
from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.networks.registry import NETWORKS

__all__ = ["Augmentation", "Optimizer", "Recipe", "load_recipe"]

RECIPES = Path(__file__).with_name("recipes")
MAX_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Optimizer:
    """How the weights are updated; the learning rate follows one cycle (Smith and Topin, 2018).

    Attributes:
        name: AdamW, or SGD with Nesterov momentum.
        peak_learning_rate: at the height of the cycle.
        momentum: of SGD; AdamW's first beta.
        weight_decay: decoupled in AdamW, L2 in SGD.
    """

    name: Literal["adamw", "sgd"]
    peak_learning_rate: float
    momentum: float
    weight_decay: float

    def __post_init__(self) -> None:
        _check(0 < self.peak_learning_rate < float("inf"), "optimizer.peak_learning_rate", "positive")
        _check(0 < self.momentum < 1, "optimizer.momentum", "between 0 and 1")
        _check(0 <= self.weight_decay < float("inf"), "optimizer.weight_decay", "0 or positive")


@dataclass(frozen=True)
class Augmentation:
    """Bounds of the random affine map of each image; each value is drawn evenly from -bound..bound.

    Attributes:
        rotation: in degrees.
        translation: as a share of the height and the width.
        scale: relative change of the size.
    """

    rotation: float
    translation: float
    scale: float

    def __post_init__(self) -> None:
        _check(0 <= self.rotation <= 180, "augmentation.rotation", "in 0..180 degrees")
        _check(0 <= self.translation < 1, "augmentation.translation", "at least 0 and less than 1")
        _check(0 <= self.scale < 1, "augmentation.scale", "at least 0 and less than 1")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        network: a name of :data:`squeezeedge.networks.registry.NETWORKS`.
        dataset: as for ``--data``; its train split is learned, its test split measured.
        preprocessing: a preset of :mod:`squeezeedge.calib.preprocess`.
        epochs: times that each image is seen.
        batch_size: images a step.
        label_smoothing: share of the target that is spread over all classes.
        seed: of initialization, order, augmentation and dropout.
        optimizer: how the weights are updated.
        augmentation: how the images are varied.
    """

    network: str
    dataset: str
    preprocessing: str
    epochs: int
    batch_size: int
    label_smoothing: float
    seed: int
    optimizer: Optimizer
    augmentation: Augmentation

    def __post_init__(self) -> None:
        _check(self.network in NETWORKS, "network", f"one of {', '.join(NETWORKS)}")
        _check(self.preprocessing in PRESETS, "preprocessing", f"one of {', '.join(PRESETS)}")
        _check(self.epochs >= 1, "epochs", "at least 1")
        _check(self.batch_size >= 1, "batch_size", "at least 1")
        _check(0 <= self.label_smoothing < 1, "label_smoothing", "at least 0 and less than 1")
        _check(0 <= self.seed < 1 << 63, "seed", "at least 0 and below 2^63")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def load_recipe(name: str) -> Recipe:
    """Read a recipe.

    Args:
        name: of an embedded recipe, or the path of a .toml file.

    Raises:
        UsageError: there is no such recipe.
        CorruptFileError: it is not TOML, or a value is missing, unknown, of the wrong type or out of range.
    """
    embedded = {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}
    path = embedded.get(name, Path(name))
    if not path.is_file():
        raise UsageError(f"{name}: no such recipe; give a .toml file or one of: {', '.join(embedded)}")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return _parse(Recipe, tomllib.loads(text.decode()), "")
    except (ValueError, RecursionError) as error:  # tomllib's own error and UnicodeDecodeError are ValueErrors
        raise CorruptFileError(f"{path}: not a valid recipe: {error}") from error


def _parse(kind: type[T], table: dict[str, Any], prefix: str) -> T:
    """A TOML table as a dataclass, every field given and of its annotated type."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for problem, keys in (("unknown", table.keys() - names), ("missing", names - table.keys())):
        if keys:
            raise ValueError(f"{problem}: {', '.join(prefix + key for key in sorted(keys))}")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], table[name], prefix + name) for name in table})


def _value(kind: Any, value: object, name: str) -> object:  # noqa: ANN401  (a type form)
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse(kind, value, f"{name}.")  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        _check(value in get_args(kind), name, f"one of {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    expected = "a table" if is_dataclass(kind) else {int: "an integer", float: "a number", str: "a text"}[kind]
    _check(type(value) is kind, name, expected)
    return value


def _check(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {rule}")
