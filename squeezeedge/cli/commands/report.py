"""``squeezeedge report``: all that is known of a deployed network, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from squeezeedge.cli.completion import devices, models
from squeezeedge.cli.model_options import ModelOptions
from squeezeedge.cli.options import (
    Board,
    Calib,
    CalibImages,
    Classes,
    Data,
    Emulate,
    Force,
    Json,
    Limit,
    Seed,
    Strict,
    Threads,
    Timeout,
    check_file,
)
from squeezeedge.cli.quantizing import EffortOptions
from squeezeedge.cli.target_options import add_command
from squeezeedge.cli.wording import command_line, in_options

__all__ = ["register", "report_command"]


def report_command(
    model: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer shows it as an optional argument)
        typer.Argument(
            metavar="ARTIFACT...|MODEL",
            help="Artifact folders of one integer graph, or a MODEL as for `compile` (quantized and compiled on the "
            "way). Default: the embedded digits network.",
            show_default=False,
            autocompletion=models,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Device to run on; may be given several times. Default: the hardware of each artifact, of a MODEL "
            "cpu.",
            show_default=False,
            autocompletion=devices,
        ),
    ] = None,
    emulate: Emulate = False,
    board: Board = None,
    timeout: Timeout = None,
    threads: Threads = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.html).", show_default=True)] = Path(
        "report.html"
    ),
    force: Force = False,
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
    json: Json = False,
    **target_options: Any,  # noqa: ANN401  (one keyword for each option of each target)
) -> None:
    """Write all that is known of a network on its devices as one HTML file, which needs no network and no script.

    It shows parity with fp32 and the oracle, accuracy by class, images whose answer changed, latency, noise of every
    layer, where the time goes, sizes, and how to make it again.
    """
    from squeezeedge.cli.evaluating import prepared
    from squeezeedge.cli.output import emit_json, emit_text, note, progress
    from squeezeedge.cli.quantizing import DataOptions

    check_file(out, force=force, option="-o", endings=(".html", ".htm"))
    with prepared(
        model or [],
        device or [],
        emulate=emulate,
        board=board,
        timeout=timeout,
        threads=threads,
        source=source,
        given=DataOptions(data, calib, classes, calib_images, limit, seed, strict),
        quantizing=quantizing,
        target_options=target_options,
    ) as ready:
        from squeezeedge.evaluation.page.findings import find
        from squeezeedge.evaluation.page.render import write_report

        with progress("report", len(ready.images)) as advance:
            findings = find(
                ready.artifacts,
                ready.images,
                ready.devices,
                board=board,
                timeout=timeout,
                threads=threads,
                weights=source.weights,
                reference=ready.reference,
                strict=strict,
                on_progress=lambda what, done, total: advance(
                    detail=f"({what})", done=done, total=total or len(ready.images)
                ),
            )
        write_report(findings, out, ["squeezeedge", *command_line()[1:]], force=force, words=in_options)
    ready.tell(findings.evaluation)
    for text in findings.unknown:
        note(text)
    if json:
        emit_json({"report": str(out), "bytes": out.stat().st_size, **findings.to_json()})
    else:
        emit_text(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "report", report_command)
