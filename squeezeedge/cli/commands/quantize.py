"""``squeezeedge quantize``: a float network becomes an integer graph file (.sqe)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json
from squeezeedge.cli.options import (
    CALIB_IMAGES,
    Calib,
    CalibImages,
    Classes,
    Data,
    Force,
    Json,
    Model,
    Seed,
    Strict,
)
from squeezeedge.errors import UsageError

__all__ = ["quantize_command", "register"]


def quantize_command(
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write. Default: MODEL.sqe here.", show_default=False)
    ] = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = CALIB_IMAGES,
    seed: Seed = 0,
    strict: Strict = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Quantize a model to one integer-only int8 graph and write it as .sqe."""
    from squeezeedge.cli.output import emit_json, emit_table
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.files import check_output
    from squeezeedge.graph import Conv

    if out is not None:
        check_output(out, force=force)
        if out.suffix != ".sqe":
            raise UsageError(f"{out}: must end in .sqe, by which the other commands know the file")
    given = DataOptions(data, calib, classes, calib_images, None, seed, strict)
    loaded = source.load(model)
    if loaded.integer is not None:
        raise UsageError(f"{model}: is an integer graph already")
    loaded = given.settled(loaded)
    if out is None:
        out = Path(f"{loaded.name}.sqe")
        check_output(out, force=force)
    quantized = given.quantized(loaded)
    quantized.save(out, force=force)  # without it, also not what was made there meanwhile
    graph = quantized.integer
    assert graph is not None and quantized.calibration is not None
    if json:
        emit_json(
            {
                "model": graph.name,
                "file": str(out),
                "bytes": out.stat().st_size,
                "graph_sha256": graph.digest(),
                "warnings": list(quantized.remarks),
                "unreadable": len(quantized.calibration.unreadable),
                "preprocessing": preprocessing_json(quantized),
                "suspicion": suspicion_json(quantized.suspicion),
                "layers": [
                    {"name": conv.name, "shift_min": int(conv.shift.min()), "shift_max": int(conv.shift.max())}
                    for conv in graph.convolutions
                    if isinstance(conv, Conv)
                ],
            }
        )
        return
    rows = [
        [
            conv.name,
            "x".join(map(str, conv.weight.shape)),
            *(
                [f"{conv.shift.min()}..{conv.shift.max()}", str(graph.tensors[conv.name].zero_point)]
                if isinstance(conv, Conv)
                else ["-", "-"]  # the head gives its sums as they are
            ),
        ]
        for conv in graph.convolutions
    ]
    title = f"{out}: {graph.name}, {out.stat().st_size / 1e6:.2f} MB"
    emit_table(title, ["convolution", "weight", "shift", "zero point"], rows)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quantize")(expanded(quantize_command))
