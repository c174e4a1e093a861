"""Which network a command works on, and how its images are preprocessed: options of every command that loads one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezeedge.cli.completion import one_of
from squeezeedge.cli.options import Ema, Network, Pretrained, Size, Weights
from squeezeedge.errors import UsageError

if TYPE_CHECKING:
    from squeezeedge.calib.statement import Statement
    from squeezeedge.model import Model
    from squeezeedge.trial import Suspicion

__all__ = ["ModelOptions", "PreprocessingOptions", "preprocessing_json", "suspicion_json", "tell_assumption", "warn"]

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
_PANEL = "Preprocessing: (pixel * scale - mean) / std"


def _option(text: str, metavar: str | None = None, values: tuple[str, ...] = ()) -> Any:  # noqa: ANN401  (typer's)
    return typer.Option(
        help=text,
        metavar="|".join(values) if values else metavar,
        rich_help_panel=_PANEL,
        show_default=False,
        autocompletion=one_of(values) if values else None,
    )


@dataclass(frozen=True)
class PreprocessingOptions:
    """The options of preprocessing, as given; see :class:`squeezeedge.calib.statement.Statement`."""

    preprocessing: Annotated[
        Path | None,
        _option(
            "File with the values below (TOML, keys as the options). Default: what the weight file states, or a file "
            "beside it (NAME.preprocessing.toml, config.json, preprocessor_config.json)."
        ),
    ] = None
    mean: Annotated[
        str | None, _option("Mean in the units of pixel * scale, in the network's order of channels.", "A,B,C|A")
    ] = None
    std: Annotated[str | None, _option("Standard deviation, likewise.", "A,B,C|A")] = None
    scale: Annotated[str | None, _option("Factor of the pixels of 0..255. Default: 1/255.", "NUMBER|A/B")] = None
    channel_order: Annotated[
        str | None,
        _option("Order in which the network reads the channels. Default: rgb.", values=("rgb", "bgr", "gray")),
    ] = None
    resize: Annotated[
        int | None,
        _option("Length of the image's shorter side before the crop; 0 scales the whole image to the input.", "PIXELS"),
    ] = None
    crop: Annotated[
        str | None,
        _option(
            "Side of the centre crop, which is the network's input; up to 1: the share of the shorter side.",
            "PIXELS|SHARE",
        ),
    ] = None
    interpolation: Annotated[str | None, _option("Filter that scales the image.", values=FILTERS)] = None

    def statement(self) -> Statement:
        """The stated preprocessing; options take precedence over the file.

        Raises:
            UsageError: an option is not possible, or there is no such file.
            CorruptFileError: the file is damaged, or says what is not possible.
        """
        from squeezeedge.calib.statement import Statement
        from squeezeedge.calib.statement_files import read_toml, statement_of

        given = {key: value for key, value in vars(self).items() if key != "preprocessing" and value is not None}
        try:
            stated = statement_of(given)
        except ValueError as error:
            raise UsageError(f"`{next(key for key in (*given, '') if str(error).startswith(key))}`: {error}") from error
        return stated.over(Statement() if self.preprocessing is None else read_toml(self.preprocessing))


@dataclass(frozen=True)
class ModelOptions:
    """The options of a model, as given."""

    weights: Weights = None
    network: Network = None
    ema: Ema = False
    pretrained: Pretrained = False
    size: Size = None
    stated: PreprocessingOptions = field(default_factory=PreprocessingOptions)

    def load(self, model: str | None, *, tell: bool = True) -> Model:
        """The model, with notes that it is loaded (by the first process of several), and on what is assumed.

        Args:
            model: as on the command line.
            tell: print what is assumed.

        Raises:
            SqueezeEdgeError: see :func:`squeezeedge.load`.
        """
        from squeezeedge.cli.output import note
        from squeezeedge.networks.registry import DEFAULT

        if os.environ.get("RANK", "0") == "0" and not str(model).endswith(".sqe"):  # which is read at once
            note(f"loading {model or self.weights or DEFAULT}")
        from squeezeedge.loading import load

        loaded = load(
            model,
            self.weights,
            pretrained=self.pretrained,
            size=self.size,
            network=self.network,
            ema=self.ema,
            preprocessing=self.stated.statement(),
        )
        if tell:
            tell_assumption(loaded)
        return loaded


def tell_assumption(model: Model) -> None:
    """Print what nothing states of a model's preprocessing."""
    from squeezeedge.cli.output import note

    if model.assumption:
        note(f"{model.origin.get('weights', model.name)}: {model.assumption}")


def warn(suspicion: Suspicion | None) -> None:
    """Print why a model's preprocessing is suspect, and the table of others."""
    from squeezeedge.cli.output import note

    if suspicion is not None:
        note(f"warning: {suspicion}")


def preprocessing_json(model: Model) -> dict[str, Any]:
    """A model's preprocessing and who states it, in the words of the command line; JSON values."""
    from squeezeedge.cli.wording import in_options

    values = model.preprocessing_json()
    return values | {"source": {key: in_options(text) for key, text in values.get("source", {}).items()}}


def suspicion_json(suspicion: Suspicion | None) -> dict[str, Any] | None:
    """JSON values of a suspicion, in the words of the command line."""
    from squeezeedge.cli.wording import in_options

    if suspicion is None:
        return None
    values = suspicion.to_json()
    for one in values["tried"]:
        one["options"] = in_options(one["options"])
    return values
