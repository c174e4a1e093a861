"""Arguments and options that several commands share, and what their values must be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from squeezeedge.cli.completion import data_sets, devices, folders, models, networks
from squeezeedge.errors import UsageError

__all__ = [
    "CALIB_IMAGES",
    "ArtifactDevice",
    "ArtifactFolder",
    "Board",
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
    "Threads",
    "Timeout",
    "Weights",
    "check_file",
    "check_picture",
    "check_sqe",
    "check_timeout",
    "whole_numbers",
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
        help="Checkpoint of a network that is given by name; for an .sqe or artifact, the file that it was made of.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Network = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it)
    typer.Option(
        "--network",
        metavar="NAME",
        help="Network of a checkpoint (`squeezeedge models`). Default: what the file says; if it says nothing and its "
        "tensors fit several networks, the one that answers labelled calibration images best.",
        autocompletion=networks,
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Ema = Annotated[
    bool,
    typer.Option(
        "--ema",
        help="Take the moving average (EMA) of a checkpoint that holds one beside its weights.",
        rich_help_panel=_MODEL,
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Download the network's published weights.", rich_help_panel=_MODEL)
]
Size = Annotated[
    int | None,
    typer.Option(min=8, help="Input height and width in pixels. Default: the network's own.", rich_help_panel=_MODEL),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Images: folder (class = subfolder), .tar, .npz, CIFAR-10 or `digits`.",
        autocompletion=data_sets,
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        help="File of the network's classes in index order, by folder name (JSON or one a line). Default: by name.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Calib = Annotated[
    str | None,
    typer.Option(
        autocompletion=data_sets,
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
    typer.Option(
        min=1, help="Largest number of images to use, drawn by --seed.", rich_help_panel=_DATA, show_default=False
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.", rich_help_panel=_DATA)]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail if an image cannot be read. Default: leave it out and count it, unless more than half are.",
        rich_help_panel=_DATA,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists, once the new one is whole.")]
ArtifactFolder = Annotated[Path, typer.Argument(help="An artifact folder.", metavar="ARTIFACT", autocompletion=folders)]
ArtifactDevice = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it)
    typer.Option(
        "--device",
        help="Device of the artifact's target to run on. Default: its hardware.",
        show_default=False,
        autocompletion=devices,
    ),
]
Board = Annotated[
    Optional[str],  # noqa: UP045  (typer reads it)
    typer.Option("--board", metavar="USER@HOST[:PORT]", help="Machine with the device, over ssh.", show_default=False),
]
Emulate = Annotated[
    bool, typer.Option("--emulate", help="Run a device's emulation on this machine, where its target has one.")
]
Threads = Annotated[
    Optional[int],  # noqa: UP045  (typer reads it)
    typer.Option(
        "--threads",
        min=1,
        help="Threads that compute, where a device has a choice. Default: SQUEEZEEDGE_THREADS, else one for each "
        "processor, at most 8.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=86400,
        metavar="SECONDS",
        help="Longest wait for the board to set the device up, and for each answer. Default: 300, then 100 times what "
        "a golden input took, at least 60.",
        show_default=False,
    ),
]


def check_file(out: Path, *, force: bool, option: str = "", endings: Sequence[str] = ()) -> None:
    """Raise before any work where a file cannot be written.

    Args:
        out: the file.
        force: whether one that is there is replaced.
        option: that named it, for the message.
        endings: of which its name must have one, in upper or lower case; empty: it may be any name.

    Raises:
        UsageError: the file exists and ``force`` does not hold, it is an artifact's, or its name has another ending.
        SqueezeEdgeError: it cannot be written.
    """
    from squeezeedge.files import check_output
    from squeezeedge.manifest import is_part

    check_output(out, force=force)
    if endings and out.suffix.lower() not in endings:
        *others, last = endings
        known = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"{option} {out}: must end in {known}")
    if out.exists() and is_part(out):
        raise UsageError(f"{out}: is a file of an artifact, which would be damaged; choose another output")


def check_picture(plot: Path | None) -> None:
    """Raise as :func:`check_file` where a picture cannot be written; one that is there is replaced."""
    if plot is not None:
        check_file(plot, force=True, option="--plot", endings=(".png", ".svg", ".pdf"))


def check_sqe(out: Path, *, force: bool) -> None:
    """Raise before any work where an integer graph cannot be written.

    Raises:
        UsageError: the file exists and ``force`` does not hold, or it would not be known by its name.
        SqueezeEdgeError: it cannot be written.
    """
    check_file(out, force=force)
    if out.suffix != ".sqe":
        raise UsageError(f"{out}: must end in .sqe, by which the other commands know the file")


def check_timeout(timeout: float | None, board: str | None) -> None:
    """Raise UsageError for a time limit where nothing is waited for."""
    if timeout is not None and board is None:
        raise UsageError("--timeout is for a board; name one with --board")


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """The numbers of an option like ``1,8``.

    Raises:
        UsageError: it is no list of numbers of 1 or more.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and part.isascii() and len(part) <= 18 and int(part) > 0 for part in parts):
        raise UsageError(f"{option} {text}: must be numbers of 1 or more, as in 1,8")
    return tuple(dict.fromkeys(map(int, parts)))
