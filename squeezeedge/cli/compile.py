"""``squeezeedge compile``: a model becomes an artifact folder for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from squeezeedge.cli.options import Calib, CalibImages, Classes, Data, Json, Model, Pretrained, Seed, Size, Weights
from squeezeedge.cli.target_options import add_command, options_of
from squeezeedge.errors import UsageError
from squeezeedge.targets.registry import get_target

__all__ = ["compile_command", "register"]

GOLDEN_IMAGES = 4


def compile_command(
    model: Model = None,
    target: Annotated[str, typer.Option(help="What to compile for (`squeezeedge targets`).")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to make. Default: MODEL-TARGET here.", show_default=False),
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    size: Size = None,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = 64,
    seed: Seed = 0,
    json: Json = False,
    **target_options: Any,  # noqa: ANN401  (one keyword for each option of each target)
) -> None:
    """Compile a model into an artifact folder that a device runs without this package."""
    from dataclasses import replace

    from squeezeedge.artifact import write_artifact
    from squeezeedge.cli.output import emit_json, note
    from squeezeedge.cli.pipeline import DataOptions, calibration_images, to_integer
    from squeezeedge.cli.source import load_source

    chosen = get_target(target)
    options = options_of(chosen, target_options, [chosen])
    chosen.check_options(options)
    if out is not None and out.exists():
        raise UsageError(f"{out}: exists already; choose another output folder or remove it")
    source = load_source(model, weights, pretrained, size)
    out = out or Path(f"{source.name}-{target}")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another output folder with -o or remove it")
    data_options = DataOptions(data, calib, classes, calib_images, None, seed)
    graph, images = to_integer(source, data_options)
    if images is None:  # an integer graph: any images check a device
        given = data_options.calib or data_options.data
        images = calibration_images(source, replace(data_options, calib=given, calib_images=GOLDEN_IMAGES))
    golden = images.dataset.load(graph.preprocessing, images.indices[:GOLDEN_IMAGES])
    note(f"compiling {graph.name} for {target}")
    artifact = write_artifact(graph, chosen, options, out, golden=golden, source=source.origin)
    if "note" in artifact.manifest["compiled"]:
        note(artifact.manifest["compiled"]["note"])
    if json:
        emit_json({"artifact": str(out), **artifact.manifest})
    else:
        print(f"{out}: {graph.name} for {target}, {artifact.model_bytes / 1e6:.2f} MB")


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "compile", compile_command)
