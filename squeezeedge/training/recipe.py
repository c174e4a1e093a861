"""Training recipes: TOML files that say all that a training run depends on, except the images."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from squeezeedge.calib.preprocess import PRESETS, Preprocessing
from squeezeedge.errors import CorruptFileError, UsageError, did_you_mean
from squeezeedge.networks.registry import NETWORKS

__all__ = ["Augmentation", "Input", "Optimizer", "Recipe", "Schedule", "embedded_recipes", "load_recipe"]

RECIPES = Path(__file__).with_name("recipes")
MAX_BYTES = 1 << 20
MAX_SIDE = 4096

T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """How an image becomes the network's input.

    Attributes:
        preset: a preset of :mod:`squeezeedge.calib.preprocess`, for mean, standard deviation and filter.
        size: height and width of the network's input in pixels.
        resize: the shorter side before the centre crop of validation, in pixels; 0 scales the whole image. Where only
            ``size`` is changed, it changes in proportion.
        first_size: train at this size at first and grow to ``size`` in the first two thirds of the epochs; 0: do not.
        cache: decode the training images once, to this height and width, and keep them in memory; 0: decode them
            whenever they are needed.
    """

    preset: str
    size: int
    resize: int = 0
    first_size: int = 0
    cache: int = 0

    def __post_init__(self) -> None:
        _check(self.preset in PRESETS, "input.preset", f"one of {', '.join(PRESETS)}")
        _check(1 <= self.size <= MAX_SIDE, "input.size", f"in 1..{MAX_SIDE}")
        _check(self.resize == 0 or self.size <= self.resize <= MAX_SIDE, "input.resize", f"0 or in size..{MAX_SIDE}")
        _check(0 <= self.first_size <= self.size, "input.first_size", "in 0..size")
        _check(0 <= self.cache <= MAX_SIDE, "input.cache", f"in 0..{MAX_SIDE}")

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of validation, which is stored with the network."""
        return replace(PRESETS[self.preset], size=(self.size, self.size), resize=self.resize or None)


@dataclass(frozen=True)
class Optimizer:
    """How the weights are updated.

    Attributes:
        name: AdamW, or SGD with momentum.
        learning_rate: the highest of the schedule.
        momentum: of SGD; AdamW's first beta.
        weight_decay: decoupled in AdamW, L2 in SGD.
        nesterov: Nesterov's momentum (SGD only).
        loaded_rate: learning rate of the layers whose weights were loaded, relative to that of the new ones.
    """

    name: Literal["adamw", "sgd"]
    learning_rate: float
    momentum: float
    weight_decay: float
    nesterov: bool = False
    loaded_rate: float = 1.0

    def __post_init__(self) -> None:
        _check(0 < self.learning_rate < math.inf, "optimizer.learning_rate", "positive")
        _check(0 < self.momentum < 1, "optimizer.momentum", "between 0 and 1")
        _check(0 <= self.weight_decay < math.inf, "optimizer.weight_decay", "0 or positive")
        _check(self.name == "sgd" or not self.nesterov, "optimizer.nesterov", "false with adamw")
        _check(0 <= self.loaded_rate <= 1, "optimizer.loaded_rate", "in 0..1")


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes from step to step; see :mod:`squeezeedge.training.schedule`.

    Attributes:
        name: one cycle (Smith and Topin, 2018), a half cosine (Loshchilov and Hutter, 2017), or no change.
        warmup: epochs of linear growth from 0 at the beginning; one cycle has its own.
    """

    name: Literal["one_cycle", "cosine", "constant"]
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check(0 <= self.warmup < math.inf, "schedule.warmup", "0 or positive")
        _check(self.name != "one_cycle" or self.warmup == 0, "schedule.warmup", "0 with one_cycle, which has its own")


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; what a 0 (or false) turns off costs nothing.

    Attributes:
        area: least share of the image's area that a random crop of random aspect ratio covers (Szegedy et al.,
            2015).
        padding: pixels of black around the image, out of which a crop of its own size is taken.
        rotation: up to so many degrees either way.
        translation: up to this share of the height and the width either way.
        scale: relative change of the size, either way.
        flip: mirror half of the images.
        color_jitter: relative change of brightness, contrast and saturation, either way.
        erasing: share of the images in which a rectangle is erased (Zhong et al., 2020).
    """

    area: float = 0.0
    padding: int = 0
    rotation: float = 0.0
    translation: float = 0.0
    scale: float = 0.0
    flip: bool = False
    color_jitter: float = 0.0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        _check(0 <= self.area <= 1, "augmentation.area", "in 0..1")
        _check(0 <= self.padding <= MAX_SIDE, "augmentation.padding", f"in 0..{MAX_SIDE}")
        _check(0 <= self.rotation <= 180, "augmentation.rotation", "in 0..180 degrees")
        for name in ("translation", "scale", "color_jitter"):
            _check(0 <= getattr(self, name) < 1, f"augmentation.{name}", "at least 0 and less than 1")
        _check(0 <= self.erasing <= 1, "augmentation.erasing", "in 0..1")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        summary: one line for people.
        network: its name (``squeezeedge models``).
        epochs: times that each image is seen.
        batch_size: images a step, over all processes.
        input: how an image becomes the network's input.
        optimizer: how the weights are updated.
        schedule: how the learning rate changes.
        augmentation: how the images are varied.
        dataset: as for ``--data``, which it is the default of; empty: none.
        start: from random weights, or from those of a trained network but for the last layer.
        frozen: convolutions at the beginning that keep the weights they start from; with ``--qat`` none do.
        batch_norm: normalize the squeeze convolutions' outputs over the batch in training, which the weights that are
            written include; with ``--qat`` none are.
        label_smoothing: share of the target that is spread over all classes.
        dropout: share of the last layer's inputs that is dropped.
        precision: of the matrix products; weights are always updated in float32.
        channels_last: NHWC in memory.
        clip_norm: largest norm of all gradients together; 0: any.
        ema: decay of the moving average of the weights, which is what is validated and kept; 0: no average.
        validate_every: epochs from one validation to the next; the last epoch is always validated.
        seed: of initialization, order, augmentation and dropout.
    """

    summary: str
    network: str
    epochs: int
    batch_size: int
    input: Input
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation = field(default_factory=Augmentation)
    dataset: str = ""
    start: Literal["random", "trained"] = "random"
    frozen: int = 0
    batch_norm: bool = False
    label_smoothing: float = 0.0
    dropout: float = 0.5
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    clip_norm: float = 0.0
    ema: float = 0.0
    validate_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.network in NETWORKS, "network", f"one of {', '.join(NETWORKS)}")
        _check(1 <= self.epochs < 1 << 31, "epochs", "at least 1")
        _check(1 <= self.batch_size < 1 << 31, "batch_size", "at least 1")
        _check(self.frozen >= 0, "frozen", "0 or positive")
        _check(self.frozen == 0 or self.start == "trained", "frozen", 'used with start = "trained" only')
        _check(0 <= self.label_smoothing < 1, "label_smoothing", "at least 0 and less than 1")
        _check(0 <= self.dropout < 1, "dropout", "at least 0 and less than 1")
        _check(0 <= self.clip_norm < math.inf, "clip_norm", "0 or positive")
        _check(0 <= self.ema < 1, "ema", "at least 0 and less than 1")
        _check(self.validate_every >= 1, "validate_every", "at least 1")
        _check(0 <= self.seed < 1 << 63, "seed", "at least 0 and below 2^63")
        _check(self.schedule.warmup <= self.epochs, "schedule.warmup", "at most epochs")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def embedded_recipes() -> Mapping[str, Path]:
    """The recipes of this package by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of an embedded recipe, or the path of a .toml file.
        changes: "key=value" to set instead, "table.key=value" in a table; the value as in TOML, or a bare text.

    Raises:
        UsageError: there is no such recipe; or a change is not of that form, of no known key, of the wrong type or out
            of range.
        CorruptFileError: it is not TOML, or a value is missing, unknown, of the wrong type or out of range.
    """
    embedded = embedded_recipes()
    path = embedded.get(name, Path(name))
    if not path.is_file():
        raise UsageError(
            f"{name}: there is no such recipe{did_you_mean(name, embedded)}; give a .toml file or one of: "
            f"{', '.join(embedded)}"
        )
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        table = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # tomllib's own error and UnicodeDecodeError are ValueErrors
        raise CorruptFileError(f"{path}: not a valid recipe: {error}") from error
    given = list(changes)
    try:
        before = _parse(Recipe, table, "") if given else None
    except ValueError:
        before = None  # maybe the changes complete it
    for change in given:
        _set(table, change, str(path))
    if before is not None and not any(change.partition("=")[0].strip() == "input.resize" for change in given):
        table["input"]["resize"] = before.input.resize * table["input"]["size"] // before.input.size
    try:
        return _parse(Recipe, table, "")
    except ValueError as error:
        if before is not None:
            raise UsageError(f"`set` {' `set` '.join(given)}: {error}") from error
        raise CorruptFileError(f"{path}: not a valid recipe: {error}") from error


def _set(table: dict[str, Any], change: str, source: str) -> None:
    """Set a value; checks its key and its type alone, because others may be about to change with it.

    Raises:
        UsageError: there is no such key, or the value is of another type.
        CorruptFileError: a table of the recipe is none.
    """
    key, equals, text = change.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise UsageError(f"`set` {change}: must be key=value, such as epochs=10 or optimizer.learning_rate=0.01")
    kinds = dict(_keys(Recipe, ""))
    if key not in kinds:
        raise UsageError(
            f"`set` {change}: there is no key {key!r}{did_you_mean(key, kinds)}; the keys are {', '.join(kinds)}"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also of numbers of thousands of digits
        value = text.strip()
    try:
        _value(kinds[key], value, key)
    except ValueError as error:
        raise UsageError(f"`set` {change}: {error}") from error
    *tables, last = key.split(".")
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise CorruptFileError(f"{source}: not a valid recipe: {name} must be a table")
    table[last] = value


def _keys(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted name, type) of every value of a recipe."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from _keys(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}", hint


def _parse(kind: type[T], table: dict[str, Any], prefix: str) -> T:
    """A TOML table as a dataclass, every field of its annotated type."""
    known = fields(kind)  # type: ignore[arg-type]
    needed = {item.name for item in known if item.default is MISSING and item.default_factory is MISSING}
    for problem, keys in (
        ("unknown", table.keys() - {item.name for item in known}),
        ("missing", needed - table.keys()),
    ):
        if keys:
            names = [item.name for item in known] if problem == "unknown" else ()
            listed = [f"{prefix}{key}{did_you_mean(key, names)}" for key in sorted(keys)]
            raise ValueError(f"{problem}: {', '.join(listed)}")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], table[name], prefix + name) for name in table})


def _value(kind: Any, value: object, name: str) -> object:  # noqa: ANN401  (a type form)
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse(kind, value, f"{name}.")  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        _check(value in get_args(kind), name, f"one of {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf  # which no rule allows
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
    _check(type(value) is kind, name, "a table" if is_dataclass(kind) else names[kind])
    return value


def _check(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {rule}")
