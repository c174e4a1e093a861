"""``squeezeedge eval``: accuracy parity, bit-exactness and latency of a model on one or more devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from squeezeedge.cli.options import (
    Calib,
    CalibImages,
    Classes,
    Data,
    Json,
    Limit,
    Pretrained,
    Seed,
    Size,
    Weights,
)
from squeezeedge.cli.target_options import add_command, options_of
from squeezeedge.errors import UsageError
from squeezeedge.targets.protocol import Target
from squeezeedge.targets.registry import device_target, emulation

if TYPE_CHECKING:
    from squeezeedge.artifact import Artifact
    from squeezeedge.cli.source import Source
    from squeezeedge.evaluation.evaluate import Device, DeviceReport
    from squeezeedge.graph import IntegerGraph

__all__ = ["eval_command", "register"]


def eval_command(
    model: Annotated[
        Optional[str],  # noqa: UP045  (typer shows it as an optional argument)
        typer.Argument(
            metavar="[ARTIFACT|MODEL]",
            help="An artifact folder, or a MODEL as for `compile` (quantized and compiled on the way). "
            "Default: the embedded digits network.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Device to run on; may be given several times. [default: cpu]")
    ] = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Run a device's emulation on this machine, where its target has one.")
    ] = False,
    board: Annotated[
        str | None, typer.Option(metavar="USER@HOST", help="Machine with the device, over ssh.", show_default=False)
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    size: Size = None,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = 64,
    limit: Limit = None,
    seed: Seed = 0,
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
    import tempfile

    from squeezeedge.cli.output import emit_json, note, progress
    from squeezeedge.cli.pipeline import DataOptions, calibration_images, evaluation_images, to_integer
    from squeezeedge.cli.source import load_source
    from squeezeedge.evaluation.evaluate import Gates, evaluate

    options = DataOptions(data, calib, classes, calib_images, limit, seed)
    names = _devices(device or ["cpu"], emulate, board)
    targets = [device_target(name) for name in names]
    for target, name in zip(targets, names, strict=True):
        target.check_device(name, board if name in target.remote else None)
    chosen = [
        options_of(target, target_options, targets, target.devices[name])
        for target, name in zip(targets, names, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="squeezeedge-") as scratch:
        if model is not None and Path(model).is_dir():
            from squeezeedge.artifact import open_artifact

            artifact = open_artifact(Path(model))
            if any(value is not None for value in target_options.values()):
                raise UsageError(f"{model}: is compiled already; options of a target are for a MODEL")
            graph = artifact.graph
            source = _source_of(artifact, weights, size)
            images = evaluation_images(source, options, None)
            devices = [_device(artifact, name, board) for name in names]
        else:
            for target, own in zip(targets, chosen, strict=True):
                target.check_options(own)
            source = load_source(model, weights, pretrained, size)
            if source.integer is None:
                # A wrong data set is reported before quantizing.
                evaluation_images(source, options, calibration_images(source, options))
            graph, calibrated_on = to_integer(source, options)
            images = evaluation_images(source, options, calibrated_on)
            devices = [
                _device(_compiled(source, graph, target, own, Path(scratch)), name, board)
                for name, target, own in zip(names, targets, chosen, strict=True)
            ]
        if source.float_logits is None:
            note("fp32 is not known here: give --weights to compare with it")
        with progress("evaluate", len(images.indices)) as advance:
            batches = images.batches(graph.preprocessing)
            reports = evaluate(graph, devices, batches, images.labels, source.float_logits, advance)
    if json:
        for report in reports:
            emit_json(report.to_json())
    else:
        _show(reports, images.dataset.name)
    Gates(max_drop, min_agreement, require_bit_exact).check(reports)


def _source_of(artifact: Artifact, weights: Path | None, size: int | None) -> Source:
    """The float network behind an artifact: ``--weights``, or the embedded one if the artifact was made of it.

    Raises:
        UsageError: ``--weights`` is not the file that the artifact was made of.
    """
    from dataclasses import replace

    from squeezeedge.cli.source import integer_source, load_source
    from squeezeedge.networks.registry import NETWORKS

    if size is not None:
        raise UsageError("--size: the input size of an artifact is fixed; compile again at the size you need")
    made_of = dict(artifact.manifest["source"])
    network = str(made_of.get("network"))
    graph = artifact.graph
    source = None
    if weights is not None:
        by_name = network if network in NETWORKS and weights.suffix not in (".onnx", ".sqe") else None
        source = load_source(by_name or str(weights), weights, size=graph.preprocessing.size[0])
    elif network in NETWORKS and NETWORKS[network].embedded:
        source = load_source(network, size=graph.preprocessing.size[0])
    if source is not None and source.origin.get("sha256") == made_of.get("sha256"):
        return replace(source, preprocessing=graph.preprocessing)
    if weights is not None:
        raise UsageError(f"{weights}: the artifact was made of another file, {made_of.get('weights')}")
    return integer_source(graph, made_of)


def _devices(names: list[str], emulate: bool, board: str | None) -> list[str]:
    """The devices to run on.

    Raises:
        UsageError: no such device, ``--emulate`` where nothing can be emulated, ``--board`` where nothing is remote.
    """
    chosen = [emulation(name) if emulate else name for name in names]
    kinds = [device_target(name).devices[name] for name in chosen]
    if emulate and "emulation" not in kinds:
        raise UsageError(f"--emulate: there is no emulation of {' or '.join(names)}")
    if board is not None and not any(name in device_target(name).remote for name in chosen):
        raise UsageError(f"--board: {' and '.join(chosen)} does not run on another machine")
    return chosen


def _device(artifact: Artifact, name: str, board: str | None) -> Device:
    """A device that runs an artifact.

    Raises:
        UsageError: the artifact was compiled for another target.
    """
    from squeezeedge.evaluation.evaluate import Device

    target = artifact.target
    if name not in target.devices:
        raise UsageError(f"{artifact.path}: compiled for {target.name}, which --device {name} does not run")
    where = board if name in target.remote else None
    return Device(
        name=name,
        kind=target.devices[name],
        model_bytes=artifact.model_bytes,
        open=lambda: target.open(artifact.path, name, where),
    )


def _compiled(
    source: Source,
    graph: IntegerGraph,
    target: Target,
    options: Any,  # noqa: ANN401  (the target's own dataclass)
    scratch: Path,
) -> Artifact:
    """Compile a graph for a target, once."""
    import numpy as np

    from squeezeedge.artifact import open_artifact, write_artifact
    from squeezeedge.cli.output import note

    folder = scratch / target.name
    if folder.exists():
        return open_artifact(folder)
    note(f"compiling {graph.name} for {target.name}")
    golden = np.zeros((1, *graph.input_shape), np.uint8)
    return write_artifact(graph, target, options, folder, golden=golden, source=source.origin)


def _show(reports: list[DeviceReport], data: str) -> None:
    from squeezeedge.cli.output import emit_table, number

    first = reports[0]
    rows = [["fp32", "reference", number(first.fp32_top1), number(first.fp32_top5), *["-"] * 7]]
    for report in reports:
        latency = report.latency_ms
        rows.append(
            [
                report.device,
                report.kind,
                number(report.top1),
                number(report.top5),
                number(report.agreement),
                number(report.logits_sqnr_db),
                "yes" if report.bit_exact else f"no: {report.differing_sums} sums differ",
                number(latency["p50"], 3),
                number(latency["p90"], 3),
                number(report.images_per_s, 0),
                number(report.model_bytes / 1e6),
            ]
        )
    for report in reports[1:]:
        rows.append([f"{report.device} - {first.device}", "difference", *_differences(first, report), *["-"] * 7])
    emit_table(
        f"{first.model}, {first.images} images of {data}",
        [
            "device",
            "kind",
            "top-1 %",
            "top-5 %",
            "agreement %",
            "SQNR dB",
            "bit-exact",
            "p50 ms",
            "p90 ms",
            "images/s",
            "MB",
        ],
        rows,
    )


def _differences(first: DeviceReport, other: DeviceReport) -> list[str]:
    """Points of top-1 and top-5 between two devices."""
    pairs = [(first.top1, other.top1), (first.top5, other.top5)]
    return ["-" if a is None or b is None else f"{b - a:+.2f}" for a, b in pairs]


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "eval", eval_command)
