"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from squeezeedge.cli.completion import models, networks

__all__ = [
    "CALIB_IMAGES",
    "Calib",
    "CalibImages",
    "Classes",
    "Data",
    "Ema",
    "Force",
    "Json",
    "Limit",
    "Model",
    "Network",
    "Pretrained",
    "Seed",
    "Size",
    "Strict",
    "Weights",
]

CALIB_IMAGES = 64
"""Calibrated on where nothing else is said."""

_MODEL = "Model"
_DATA = "Data"

Model = Annotated[
    Optional[str],  # noqa: UP045  (typer shows it as an optional argument)
    typer.Argument(
        metavar="MODEL",
        help="A network's name (`squeezeedge models`), a checkpoint (.pth .pt .bin .safetensors .ckpt .net), an "
        ".onnx or an .sqe. Default: the embedded digits network.",
        show_default=False,
        autocompletion=models,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint of a network given by name; of an .sqe or artifact, the file that it was made of.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Network = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it)
    typer.Option(
        "--network",
        metavar="NAME",
        help="The network that a checkpoint is of (`squeezeedge models`). Default: what the file says; where it says "
        "nothing and its tensors fit several, the one that answers labelled calibration images best.",
        autocompletion=networks,
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Ema = Annotated[
    bool,
    typer.Option(
        "--ema",
        help="Of a checkpoint that holds weights and their moving average (EMA), take the average.",
        rich_help_panel=_MODEL,
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Download the network's published weights.", rich_help_panel=_MODEL)
]
Size = Annotated[
    int | None,
    typer.Option(min=8, help="Input height and width in pixels, if not the network's own.", rich_help_panel=_MODEL),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        help="The network's classes in index order, by folder name (JSON or one a line). Default: by name.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Calib = Annotated[
    str | None,
    typer.Option(
        help="Images to calibrate on (of data in parts: calib or train); default: some of --data, not evaluated then.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
CalibImages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Number of calibration images. Default: {CALIB_IMAGES}.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Use at most so many images, drawn by --seed.", rich_help_panel=_DATA, show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.", rich_help_panel=_DATA)]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="An image that cannot be read is an error. Default: left out and counted, unless more than half are.",
        rich_help_panel=_DATA,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists, once the new one is whole.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
