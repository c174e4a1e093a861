"""``squeezeedge compile``: a model becomes an artifact folder for one target."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squeezeedge.cli.completion import targets
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
)
from squeezeedge.cli.quantizing import EffortOptions
from squeezeedge.cli.target_options import add_command, options_of
from squeezeedge.targets.registry import get_target

if TYPE_CHECKING:
    from squeezeedge.model import Model as LoadedModel
    from squeezeedge.targets.protocol import Target

from squeezeedge.cli.wording import in_options

__all__ = ["compile_command", "register"]


def compile_command(
    model: Model = None,
    target: Annotated[
        str, typer.Option(help="What to compile for (`squeezeedge targets`).", autocompletion=targets)
    ] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to make. Default: MODEL-TARGET here.", show_default=False),
    ] = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = None,
    seed: Seed = 0,
    strict: Strict = False,
    quantizing: EffortOptions,
    force: Force = False,
    json: Json = False,
    **target_options: Any,  # noqa: ANN401  (one keyword for each option of each target)
) -> None:
    """Compile a model into an artifact folder that a device runs without this package."""
    from dataclasses import replace

    from squeezeedge.artifact import PROGRAM, check_artifact_output, prepare
    from squeezeedge.cli.output import emit_json, emit_lines, note, progress
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.model import GOLDEN_IMAGES

    chosen = get_target(target)
    options = options_of(chosen, target_options, [chosen])
    chosen.check_options(chosen.options(**options))
    if out is not None:
        check_artifact_output(out, force=force)
    effort = quantizing.chosen()
    given = DataOptions(data, calib, classes, calib_images, None, seed, strict)
    loaded = given.settled(source.load(model))
    if out is None:
        out = Path(f"{loaded.name}-{target}")
        check_artifact_output(out, force=force)
    if loaded.integer is not None:
        quantizing.check_fixed(model)
    golden = None
    if loaded.integer is not None and (calib or data):  # any images check a device
        some = replace(given, calib_images=GOLDEN_IMAGES).calibration(loaded)
        some, golden = some.readable(loaded.preprocessing, strict=strict)
        if some.unreadable:
            note(f"warning: {some.loss}")
    elif loaded.integer is not None and loaded.golden is None:
        note(
            f"{model}: holds no images, so devices check themselves on noise; give --data to have them check on images"
        )
    quantized = given.quantized(loaded, effort)
    note(f"compiling {quantized.name} for {target}")
    with progress("compile", 2) as advance:
        write = prepare(quantized, target, out, golden=golden, force=force, **options)
        note(f"writing {out}")
        advance()
        artifact = write()
    if "note" in artifact.manifest["compiled"]:
        note(artifact.manifest["compiled"]["note"])
    if json:
        emit_json(
            {
                "artifact": str(out),
                "warnings": [in_options(text) for text in quantized.remarks],
                "suspicion": suspicion_json(quantized.suspicion),
                **artifact.manifest,
                "preprocessing": preprocessing_json(quantized),
            }
        )
    else:
        made_for = artifact.manifest["compiled"].get("isa") or options.get("instructions")
        kind = f" ({made_for})" if made_for else ""
        emit_lines([f"{out}: {quantized.name} for {target}{kind}, {artifact.model_bytes / 1e6:.2f} MB"])
    evaluation = _evaluation(out, chosen, quantized, data, elsewhere=options.get("mtriple") is not None)
    note(f"next: {evaluation}; on the device itself: python3 {PROGRAM} in that folder")


def _evaluation(out: Path, target: Target, model: LoadedModel, data: str | None, *, elsewhere: bool) -> str:
    """The command that evaluates an artifact: on what stands for its hardware here, where there is such a device."""
    substitute = next((name for name, kind in target.devices.items() if kind != "hardware"), None)
    device = f" --device {substitute}" if substitute else " --board USER@HOST" if elsewhere else ""
    images = "" if model.dataset is not None else f" --data {quote(data) if data else 'IMAGES'}"
    return f"squeezeedge eval {quote(str(out))}{device}{images}"


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "compile", compile_command)
