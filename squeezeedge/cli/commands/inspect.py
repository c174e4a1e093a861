"""``squeezeedge inspect``: what was read of a model, and what every target makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from squeezeedge.cli.completion import models
from squeezeedge.cli.groups import expanded
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json
from squeezeedge.cli.options import Calib, CalibImages, Classes, Data, Json, Seed, Strict, check_picture
from squeezeedge.errors import UsageError, counted

if TYPE_CHECKING:
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.evaluation.inspection import Inspection, Layer
    from squeezeedge.evaluation.layer_errors import LayerErrors
    from squeezeedge.model import Model
    from squeezeedge.quantization.attribution import LayerError
    from squeezeedge.targets.protocol import Target

__all__ = ["inspect_command", "register"]


def inspect_command(
    model: Annotated[
        Optional[str],  # noqa: UP045  (typer shows it as an optional argument)
        typer.Argument(
            metavar="MODEL|ARTIFACT",
            help="A MODEL as for `quantize`, an .sqe or an artifact folder. Default: the embedded digits network.",
            show_default=False,
            autocompletion=models,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write a picture of the layers' costs (.png, .svg, .pdf).", show_default=False),
    ] = None,
    *,
    source: ModelOptions,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Measure on at most so many images, drawn by --seed.", rich_help_panel="Data")
    ] = 16,
    seed: Seed = 0,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """What was read of a model: layers, shapes, costs, preprocessing, what is folded, and which target takes what.

    Of an integer graph also the zero points and the range of the shifts (rule R3). Nothing is compiled: limits of sizes
    that a target has are told by `squeezeedge compile`.

    With --data also each layer's error beside fp32, and what of it comes from rounded activations, from clipped ones
    and from integer weights. A network that is not quantized yet is quantized first. Of an .sqe or an artifact, fp32 is
    the file that it was made of (--weights).
    """
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.evaluation.inspection import inspect_float, inspect_integer
    from squeezeedge.targets.registry import all_targets

    check_picture(plot)
    targets = dict(all_targets())
    if data is None and any(value is not None for value in (classes, calib, calib_images)):
        raise UsageError("`classes` and `calib` are of the images that errors are measured on; give `data`, too")
    given = DataOptions(data, calib, classes, calib_images, limit, seed, strict)
    if model is not None and Path(model).is_dir():
        loaded, targets = _of_artifact(Path(model), source, measured=data is not None)
    else:
        loaded = source.load(model, tell=False)
    if data is not None:
        loaded = given.quantized(given.settled(loaded))
    if loaded.integer is not None:
        found = inspect_integer(loaded.integer, targets)
    else:
        assert loaded.floating is not None
        found = inspect_float(loaded.floating, loaded.preprocessing, targets)
    notes = [*loaded.remarks, *found.notes()]
    errors = None if data is None else _measured(loaded, given, source.weights)
    if plot is not None:
        from squeezeedge.evaluation.inspection_plot import plot_inspection

        plot_inspection(found, loaded.name, plot, errors)
    if json:
        _emit(loaded, found, targets, notes, errors)
    else:
        _show(loaded, found, targets, notes, errors)


def _measured(model: Model, given: DataOptions, weights: Path | None) -> LayerErrors:
    """The errors on the images given."""
    from squeezeedge.cli.output import note, progress
    from squeezeedge.evaluation.layer_errors import measure_errors

    images = given.evaluation(model, model.calibration)
    for remark in images.remarks:
        note(remark)
    images, pixels = images.readable(model.preprocessing, strict=given.strict)
    if images.unreadable:
        note(images.loss)
    with progress("beside fp32", len(pixels)) as advance:
        return measure_errors(
            model,
            pixels,
            weights=weights if model.floating is None else None,
            on_image=lambda done, total: advance(done=done, total=total),
            on_layer=lambda name, index, total: advance(detail=name, done=index, total=total),
        )


def _of_artifact(path: Path, source: ModelOptions, *, measured: bool) -> tuple[Model, dict[str, Target]]:
    """The integer graph of an artifact, and the target that it was compiled for.

    Raises:
        UsageError: options of a model were given, or the folder is no artifact.
        CorruptFileError: it is damaged.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.model import Model

    if source != ModelOptions(weights=source.weights if measured else None):
        raise UsageError(f"{path}: is compiled already; options of a model are for a MODEL")
    artifact = open_artifact(path)
    return Model.of_graph(artifact.graph, artifact.manifest["source"]), {artifact.target.name: artifact.target}


def _emit(
    model: Model,
    found: Inspection,
    targets: Mapping[str, Target],
    notes: Sequence[str],
    errors: LayerErrors | None,
) -> None:
    from squeezeedge.cli.output import emit_json
    from squeezeedge.cli.wording import in_options

    emit_json(
        {
            "model": model.name,
            "origin": dict(model.origin),
            "graph": "float" if model.integer is None else "integer",
            "graph_sha256": None if model.integer is None else model.integer.digest(),
            "input": list(found.input_shape),
            "classes": model.classes,
            "class_names": bool(model.labels),
            "preprocessing": preprocessing_json(model),
            "assumption": in_options(model.assumption),
            "parameters": found.parameters,
            "macs": found.macs,
            "device_macs": found.device_macs,
            **({} if errors is None else {"errors": errors.to_json()}),
            "layers": [
                layer.to_json() | ({} if errors is None else {"errors": errors.layer_json(layer.name)})
                for layer in found.layers
            ],
            "added": [layer.name for layer in found.added],
            "notes": [in_options(text) for text in notes],
            "refused": found.refused,
            "targets": {
                name: {how: len(layers) for how, layers in found.supported(name).items()}
                | {"macs": found.macs_on(name)}
                for name in targets
            },
        }
    )


def _show(
    model: Model,
    found: Inspection,
    targets: Mapping[str, Target],
    notes: Sequence[str],
    errors: LayerErrors | None,
) -> None:
    from squeezeedge.cli.output import emit_table, emit_text

    height, width, _ = found.input_shape
    kind = "float network" if model.integer is None else "integer graph"
    weights = model.origin.get("weights")
    named = "" if model.labels else ", without names"
    emit_text(f"{model.name}: {kind}{f' of {weights}' if weights else ''}, {model.classes} classes{named}")
    emit_text(f"input {height}x{width}: {_preprocessing(model)}\n")
    title = f"{found.parameters / 1e6:.2f} million parameters, {found.macs / 1e6:.1f} MMAC"
    emit_table(title, *_layers(found, integer=model.integer is not None))
    if errors is not None:
        title = f"beside fp32, {counted(errors.beside.images, 'image')}; then the noise in the logits by a layer alone"
        emit_table(title, *_errors(errors))
    if found.refused:
        emit_text(f"no target takes it: {found.refused}")
    else:
        emit_table("what targets make of it", *_targets(found, targets))
        refusals = dict.fromkeys(
            support.why for layer in found.layers for support in layer.support.values() if support.why
        )
        notes = [*notes, *refusals]
    for text in notes:
        emit_text(f"- {text}")


def _preprocessing(model: Model) -> str:
    """What is done with an image, and who says so."""
    from squeezeedge.calib.statement import ASSUMED, UNIT

    values = model.preprocessing_json()
    size, resize = values["size"], values["resize"]
    crop = "x".join(map(str, size))
    scaled = f"the whole image scaled to {crop}" if resize is None else f"shorter side {resize}, centre crop {crop}"
    told = {**values, "channel_order": values.get("channel_order", "rgb")}
    known = None if model.resolved is None else model.resolved.normalization
    mean, std, scale = known or (told["mean"], told["std"], UNIT)
    pixels = "pixels" if scale == 1 else f"pixels / {1 / scale:.6g}" if scale < 1 else f"pixels * {scale:.6g}"
    normalized = f"mean {_triple(mean)}, std {_triple(std)} of {pixels}"
    text = f"{scaled} ({told['interpolation']}), {told['channel_order']}, {normalized}"
    by = sorted(set(values.get("source", {}).values()) - {ASSUMED})
    return text + (f"; by {', '.join(by)}" if by else "") + (f"; {model.assumption}" if model.assumption else "")


def _triple(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _layers(found: Inspection, integer: bool) -> tuple[list[str], list[list[str]]]:
    """Columns and rows."""
    columns = ["kB", "MMAC", "shift", "zero point"] if integer else ["parameters", "MMAC"]
    rows = [[layer.name, *(_integer_row(layer) if integer else _float_row(layer))] for layer in found.layers]
    return ["layer", "operator", "output", *columns], rows


def _float_row(layer: Layer) -> list[str]:
    return [
        f"+ {layer.operator}" if layer.folded else layer.operator,
        "x".join(map(str, layer.shape)),
        str(layer.parameters) if layer.parameters else "-",
        f"{layer.macs / 1e6:.1f}" if layer.macs else "-",
    ]


def _integer_row(layer: Layer) -> list[str]:
    values: Mapping[str, Any] = layer.integer
    shifts = f"{values['shift_min']}..{values['shift_max']}" if "shift_min" in values else "-"
    return [
        layer.operator,
        "x".join(map(str, layer.shape)),
        f"{values['weight_bytes'] / 1e3:.1f}" if "weight_bytes" in values else "-",
        f"{layer.macs / 1e6:.1f}" if layer.macs else "-",
        shifts,
        str(values.get("zero_point", "-")),
    ]


def _errors(errors: LayerErrors) -> tuple[list[str], list[list[str]]]:
    """Columns and rows; the last one is of all layers together."""
    from squeezeedge.quantization.attribution import KINDS

    def decibels(value: float) -> str:
        return f"{value:.1f}" if math.isfinite(value) else "-"

    def shares(of: LayerError | None) -> list[str]:
        found = {} if of is None else of.shares
        return [f"{100 * found[kind]:.0f}" if kind in found else "-" for kind in KINDS]

    rows = []
    for name, (beside, alone) in errors.layers.items():
        saturated = [str(beside.saturated), f"{100 * beside.saturated / max(beside.values, 1):.2f}"]
        own = "-" if alone is None else decibels(alone.together)
        rows.append([name, decibels(beside.sqnr_db), *saturated, own, *shares(alone)])
    network = errors.alone.network
    rows.append(["all layers", "-", "-", "-", decibels(network.together), *shares(network)])
    return ["layer", "SQNR dB", "saturated", "%", "alone dB", *(f"{kind} %" for kind in KINDS)], rows


def _targets(found: Inspection, targets: Mapping[str, Target]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name in targets:
        layers = found.supported(name)
        into: dict[str, int] = {}
        for layer in layers["legalized"]:
            text = layer.support[name].into
            into[text] = into.get(text, 0) + 1
        rows.append(
            [
                name,
                str(len(layers["native"])),
                ", ".join(f"{count} as {text}" for text, count in into.items()) or "-",
                str(len(layers["refused"])),
                f"{found.macs_on(name) / 1e6:.1f}",
            ]
        )
    return ["target", "native", "rewritten", "refused", "MMAC"], rows


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(expanded(inspect_command))
