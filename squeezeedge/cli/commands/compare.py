"""``squeezeedge compare``: where two devices differ, or how far each layer is from fp32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.completion import devices, sides
from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions
from squeezeedge.cli.options import (
    Calib,
    CalibImages,
    Classes,
    Data,
    Json,
    Seed,
    Strict,
    Timeout,
    check_picture,
    check_timeout,
)

if TYPE_CHECKING:
    from squeezeedge.artifact import Artifact
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.model import Model

__all__ = ["compare_command", "register"]


def compare_command(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            autocompletion=sides,
            help="An artifact folder, a MODEL as for `compile` (run by the oracle), a device, or a word: oracle, fp32, "
            "onnx.",
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            autocompletion=sides,
            help="The other side, likewise. A device runs the artifact of the other side, or its network compiled for "
            "it.",
            show_default="oracle",
        ),
    ] = "oracle",
    device: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=devices,
            help="Device that an artifact runs on, where its target has several (vta-sim); may be given twice. "
            "Default: the hardware.",
            show_default=False,
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="USER@HOST[:PORT]",
            help="Another machine, over ssh, on which the first device that can be there runs.",
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture of the layers (.png, .svg, .pdf).", show_default=False)
    ] = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of images to compare, drawn by --seed.", rich_help_panel="Data")
    ] = 8,
    seed: Seed = 0,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Compare two sides layer by layer: the first value that differs, or the noise beside fp32.

    Devices and the oracle must give the same integers in every tensor: exit code 4 tells that they do not. "differ" and
    "largest" compare a with b; "a wrong" and "b wrong" count the values that a layer itself makes wrong, of whatever it
    was given: where a fault begins, and not where it is passed on.
    """
    from squeezeedge.cli.output import emit_json, emit_table, emit_text, progress
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.evaluation.compare import compare

    check_picture(plot)
    check_timeout(timeout, board)
    given = DataOptions(data, calib, classes, calib_images, limit, seed, strict)
    first = _side(a, source, given)
    second = first if b == a else _side(b, source, given)
    with progress("compare", limit) as advance:
        found = compare(
            first,
            second,
            data,
            device=device,
            board=board,
            timeout=timeout,
            weights=source.weights,
            classes=classes,
            limit=limit,
            seed=seed,
            strict=strict,
            on_progress=lambda done, total: advance(done=done, total=total),
        )
    if plot is not None:
        from squeezeedge.evaluation.comparison_plot import plot_comparison

        plot_comparison(found, plot)
    if json:
        emit_json(found.to_json())
    else:
        emit_table(*found.table())
        for sentence in found.sentences():
            emit_text(sentence)
    found.check()


def _side(text: str, source: ModelOptions, given: DataOptions) -> Artifact | Model | str:
    """A side, opened or loaded, and quantized if it is not yet."""
    from squeezeedge.artifact import open_artifact
    from squeezeedge.evaluation.sides import is_name

    if is_name(text):
        return text
    if Path(text).is_dir():
        return open_artifact(text)
    return given.quantized(given.settled(source.load(text)))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(expanded(compare_command))
