"""``squeezeedge quantize``: a float network becomes an integer graph file (.sqe)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json
from squeezeedge.cli.options import (
    Calib,
    CalibImages,
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
from squeezeedge.cli.quantizing import EffortOptions
from squeezeedge.cli.wording import in_options
from squeezeedge.errors import UsageError, counted

if TYPE_CHECKING:
    from squeezeedge.quantization.attribution import LayerError

__all__ = ["quantize_command", "register"]

LONGEST_NAME = 30
"""Characters of a layer's name, so that the table of errors fits into 80 columns."""


def quantize_command(
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write. Default: MODEL.sqe here.", show_default=False)
    ] = None,
    *,
    source: ModelOptions,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Measure what each layer's rounding, clipping and weights do to the logits."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write a picture of it (.png, .svg, .pdf); goes with --explain.", show_default=False),
    ] = None,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = None,
    seed: Seed = 0,
    strict: Strict = False,
    quantizing: EffortOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Quantize a model to one integer-only int8 graph and write it as .sqe."""
    from squeezeedge.cli.output import emit_json, emit_table
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.files import check_output
    from squeezeedge.graph import Conv

    if plot is not None:
        if not explain:
            raise UsageError("--plot is a picture of what --explain measures; give that, too")
        check_picture(plot)
    if out is not None:
        check_sqe(out, force=force)
    effort = quantizing.chosen()
    given = DataOptions(data, calib, classes, calib_images, None, seed, strict)
    loaded = source.load(model)
    if loaded.integer is not None:
        raise UsageError(f"{model}: is an integer graph already")
    loaded = given.settled(loaded)
    if out is None:
        out = Path(f"{loaded.name}.sqe")
        check_output(out, force=force)
    quantized = given.quantized(loaded, effort)
    quantized.save(out, force=force)  # without it, also not what was made there meanwhile
    graph = quantized.integer
    assert graph is not None and quantized.calibration is not None
    shifts = {conv.name: conv.shift for conv in graph.convolutions if isinstance(conv, Conv)}
    found = given.explained(quantized) if explain else None
    if found is not None and plot is not None:
        from squeezeedge.evaluation.attribution_plot import plot_attribution

        plot_attribution(found, graph.name, plot)
    if json:
        emit_json(
            {
                "model": graph.name,
                "file": str(out),
                "bytes": out.stat().st_size,
                "graph_sha256": graph.digest(),
                "macs": graph.macs,
                "warnings": [in_options(text) for text in quantized.remarks],
                "unreadable": len(quantized.calibration.unreadable),
                "preprocessing": preprocessing_json(quantized),
                "suspicion": suspicion_json(quantized.suspicion),
                "layers": [
                    {"name": name, "shift_min": int(shift.min()), "shift_max": int(shift.max())}
                    for name, shift in shifts.items()
                ],
                **({} if found is None else {"errors": found.to_json()}),
            }
        )
        return
    rows = [
        [
            conv.name,
            "x".join(map(str, conv.weight.shape)),
            *(
                [f"{shifts[conv.name].min()}..{shifts[conv.name].max()}", str(graph.tensors[conv.name].zero_point)]
                if conv.name in shifts
                else ["-", "-"]  # the head gives its sums as they are
            ),
        ]
        for conv in graph.convolutions
    ]
    title = f"{out}: {graph.name}, {out.stat().st_size / 1e6:.2f} MB, {graph.macs / 1e6:.1f} MMAC"
    emit_table(title, ["convolution", "weight", "shift", "zero point"], rows)
    if found is not None:
        from squeezeedge.quantization.attribution import KINDS

        columns = ["errors of", *KINDS, "together"]
        title = f"SQNR in dB with one error alone, {counted(found.images, 'image')}"
        emit_table(title, columns, [_decibels(layer, KINDS) for layer in (*found.layers, found.network)])


def _decibels(layer: LayerError, kinds: Sequence[str]) -> list[str]:
    """A row of the table; a dash: no error."""
    values = [*(getattr(layer, kind) for kind in kinds), layer.together]
    name = layer.name if len(layer.name) <= LONGEST_NAME else f"…{layer.name[1 - LONGEST_NAME :]}"
    return [name, *("-" if math.isinf(value) else f"{value:.1f}" for value in values)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quantize")(expanded(quantize_command))
