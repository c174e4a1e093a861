"""``squeezeedge compress``: a float network becomes an integer graph file (.sqe) of a given size or drop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json, warn
from squeezeedge.cli.options import (
    CALIB_IMAGES,
    Calib,
    Classes,
    Data,
    Force,
    Json,
    Model,
    Seed,
    Strict,
    check_picture,
    check_sqe,
)
from squeezeedge.errors import UsageError

if TYPE_CHECKING:
    from squeezeedge.compression.search import Point

__all__ = ["compress_command", "parse_size", "register"]

EPOCHS = 10
UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}


def compress_command(
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write. Default: MODEL.sqe here.", show_default=False)
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Bytes that the file may have: a number, or with B, kB, MB, KiB, MiB.",
            show_default=False,
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Points by which agreement with the uncompressed integer graph, and accuracy where there are labels, "
            "may be lower.",
            show_default=False,
        ),
    ] = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: Annotated[
        int,
        typer.Option(
            min=2, help="Number of calibration images; a quarter of them judges the drop.", rich_help_panel="Data"
        ),
    ] = CALIB_IMAGES,
    seed: Seed = 0,
    strict: Strict = False,
    finetune: Annotated[
        bool,
        typer.Option(
            "--finetune",
            help="Train on through the integer arithmetic, towards the float network's answers on the images of the "
            "data that are not calibrated on; kept if it is better on a quarter of them, which is not learned.",
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help=f"How often --finetune sees each image. Default: {EPOCHS}.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write a picture of size against agreement (.png, .svg, .pdf).", show_default=False),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Quantize a model to an integer graph whose .sqe is of a given size, or as small as a given drop allows.

    Weights are rounded with regard to the length of their code; nothing is trained without --finetune. Give
    --target-size or --max-drop.
    The drop is judged on calibration images that were not calibrated on. "aim dB" is the quality that a graph was
    made for; "agreement" and "SQNR" (signal to noise of the logits) are what was found, beside the uncompressed graph.
    """
    from squeezeedge.cli.output import emit_json, emit_table, note
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.cli.wording import in_options
    from squeezeedge.compression.compress import check_float, check_goal, compress
    from squeezeedge.files import check_output

    wanted = None if target_size is None else parse_size(target_size)
    check_goal(wanted, max_drop)
    if epochs is not None and not finetune:
        raise UsageError("`epochs`: goes with `finetune`; give that, too")
    if out is not None:
        check_sqe(out, force=force)
    check_picture(plot)
    given = DataOptions(data, calib, classes, calib_images, None, seed, strict)
    loaded = source.load(model)
    check_float(loaded, str(model))
    loaded = given.settled(loaded)
    if out is None:
        out = Path(f"{loaded.name}.sqe")
        check_output(out, force=force)
    images = given.calibration(loaded)
    for remark in images.remarks:
        note(remark)
    with _phases() as (on_phase, on_step):
        made = compress(
            loaded,
            images,
            target_size=wanted,
            max_drop=max_drop,
            epochs=(epochs or EPOCHS) if finetune else 0,
            seed=seed,
            strict=strict,
            on_phase=on_phase,
            on_step=on_step,
        )
    for remark in made.model.remarks[len(loaded.remarks) :]:
        note(f"warning: {remark}")
    warn(made.model.suspicion)
    made.model.save(out, force=force)
    if plot is not None:
        from squeezeedge.compression.curve_plot import plot_curve

        plot_curve(made, loaded.name, plot)
    graph = made.model.integer
    assert graph is not None
    if json:
        emit_json(
            {
                "model": graph.name,
                "file": str(out),
                "bytes": out.stat().st_size,
                "graph_sha256": graph.digest(),
                "warnings": [in_options(text) for text in made.model.remarks],
                "preprocessing": preprocessing_json(made.model),
                "suspicion": suspicion_json(made.model.suspicion),
                **made.to_json(),
            }
        )
        return
    rows = [_row(point) for point in made.curve]
    title = f"{out}: {graph.name}, {out.stat().st_size:,} bytes, a drop of {made.result.drop:.1f} points"
    emit_table(title, ["bytes", "aim dB", "agreement %", "SQNR dB", "top-1 %"], rows)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500kB``.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", text)
    if match is None or match[2] not in UNITS or (size := round(float(match[1]) * UNITS[match[2]])) < 1:
        known = ", ".join(unit for unit in UNITS if unit)
        raise UsageError(f"`target_size` is {text[:40]!r}; it must be a positive number of bytes, or with {known}")
    return size


@contextmanager
def _phases() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """What tells of phases: a line for each, and below it a bar of its steps."""
    from squeezeedge.cli.output import note, progress

    with ExitStack() as bar:
        shown: list[Callable[..., None]] = []

        def on_phase(text: str) -> None:
            bar.close()
            shown.clear()
            note(text)

        def on_step(name: str, index: int, total: int) -> None:
            if not shown:
                shown.append(bar.enter_context(progress("compress", total)))
            shown[0](detail=name, done=index, total=total)

        yield on_phase, on_step


def _row(point: Point) -> list[str]:
    figures = (point.quality, point.agreement, point.sqnr_db, point.top1)
    return [f"{point.bytes:,}", *("-" if figure is None else f"{figure:.1f}" for figure in figures)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compress")(expanded(compress_command))
