"""``squeezeedge eval``: accuracy parity, bit-exactness and latency of a model on one or more devices."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from squeezeedge.cli.completion import devices, models
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json
from squeezeedge.cli.options import (
    Board,
    Calib,
    CalibImages,
    Classes,
    Data,
    Emulate,
    Json,
    Limit,
    Seed,
    Strict,
    Threads,
    Timeout,
)
from squeezeedge.cli.quantizing import EffortOptions
from squeezeedge.cli.target_options import add_command
from squeezeedge.cli.wording import in_options

__all__ = ["eval_command", "register"]


def eval_command(
    model: Annotated[
        Optional[str],  # noqa: UP045  (typer shows it as an optional argument)
        typer.Argument(
            metavar="ARTIFACT|MODEL",
            help="An artifact folder, or a MODEL as for `compile` (quantized and compiled on the way). "
            "Default: the embedded digits network.",
            show_default=False,
            autocompletion=models,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Device to run on; may be given several times. Default: the hardware of an artifact's target; of a "
            "MODEL, cpu.",
            show_default=False,
            autocompletion=devices,
        ),
    ] = None,
    emulate: Emulate = False,
    board: Board = None,
    timeout: Timeout = None,
    threads: Threads = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = None,
    limit: Limit = None,
    seed: Seed = 0,
    strict: Strict = False,
    quantizing: EffortOptions,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Exit 4 if top-1 is more than so many points below fp32.", rich_help_panel="Gates"),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Exit 4 if fewer images (in percent) get fp32's class.", rich_help_panel="Gates"),
    ] = None,
    require_bit_exact: Annotated[
        bool,
        typer.Option(
            "--require-bit-exact", help="Exit 4 if any class sum differs from the oracle's.", rich_help_panel="Gates"
        ),
    ] = False,
    json: Json = False,
    **target_options: Any,  # noqa: ANN401  (one keyword for each option of each target)
) -> None:
    """Compare devices with fp32 and with the integer oracle on labelled images."""
    from squeezeedge.cli.evaluating import prepared
    from squeezeedge.cli.output import emit_json, emit_table, progress
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.evaluation.evaluate import evaluate
    from squeezeedge.evaluation.gates import Gates

    gates = Gates(max_drop, min_agreement, require_bit_exact)
    with prepared(
        [] if model is None else [model],
        device or [],
        emulate=emulate,
        board=board,
        timeout=timeout,
        threads=threads,
        source=source,
        given=DataOptions(data, calib, classes, calib_images, limit, seed, strict),
        quantizing=quantizing,
        target_options=target_options,
        check=lambda images, fp32: gates.check_judgeable(
            images.dataset.name, images.labels is not None, fp32 is not None
        ),
    ) as ready:
        with progress("evaluate", len(ready.images)) as advance:
            report = evaluate(
                ready.artifacts,
                ready.images,
                ready.devices,
                board=board,
                timeout=timeout,
                threads=threads,
                reference=ready.reference,
                strict=strict,
                on_progress=advance,
            )
    loaded = ready.model
    ready.tell(report)
    if json:
        about = {
            "warnings": [in_options(text) for text in loaded.remarks],
            "preprocessing": preprocessing_json(loaded),
            "suspicion": suspicion_json(loaded.suspicion or report.suspicion),
        }
        for values in report.to_json():
            emit_json(values | about)
    else:
        for table in report.tables():
            emit_table(*table)
    gates.check(report.devices)


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "eval", eval_command)
