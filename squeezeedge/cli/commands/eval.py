"""``squeezeedge eval``: accuracy parity, bit-exactness and latency of a model on one or more devices."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from squeezeedge.cli.completion import devices, models
from squeezeedge.cli.model_options import ModelOptions, preprocessing_json, suspicion_json, warn
from squeezeedge.cli.options import (
    Calib,
    CalibImages,
    Classes,
    Data,
    Json,
    Limit,
    Seed,
    Strict,
    Threads,
    Timeout,
)
from squeezeedge.cli.quantizing import EffortOptions
from squeezeedge.cli.target_options import add_command, options_of
from squeezeedge.errors import SqueezeEdgeError, UsageError, counted
from squeezeedge.targets.registry import device_target, emulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from squeezeedge.artifact import Artifact
    from squeezeedge.model import Model

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
            help="Device to run on; may be given several times. Default: cpu.",
            show_default=False,
            autocompletion=devices,
        ),
    ] = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Run a device's emulation on this machine, where its target has one.")
    ] = False,
    board: Annotated[
        str | None,
        typer.Option(metavar="USER@HOST[:PORT]", help="Machine with the device, over ssh.", show_default=False),
    ] = None,
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
    from squeezeedge.artifact import prepare
    from squeezeedge.cli.output import emit_json, emit_table, note, progress
    from squeezeedge.cli.quantizing import DataOptions
    from squeezeedge.evaluation.evaluate import check_threads, evaluate
    from squeezeedge.evaluation.gates import Gates
    from squeezeedge.files import scratch_folder
    from squeezeedge.model import Model
    from squeezeedge.targets.session import check_files, check_ready

    effort = quantizing.chosen()
    given = DataOptions(data, calib, classes, calib_images, limit, seed, strict)
    gates = Gates(max_drop, min_agreement, require_bit_exact)
    names = _devices(device or ["cpu"], emulate, board)
    if timeout is not None and board is None:
        raise UsageError("--timeout is for a board; name one with --board")
    check_threads(names, threads)
    targets = [device_target(name) for name in names]
    opened = _opened(Path(model), names) if model is not None and Path(model).is_dir() else None
    options = [
        options_of(target, target_options, targets, target.devices[name])
        for target, name in zip(targets, names, strict=True)
    ]
    for target, name, own in zip(targets, names, options, strict=True):
        there = board if name in target.remote else None
        if opened is None:
            chosen = target.options(**own)
            target.check_options(chosen)
            target.check_device(name, there, chosen)
        else:
            target.check_device(name, there)
            check_files(opened.path, target, name)
    if board is not None:
        root = any(target.needs_root and name in target.remote for target, name in zip(targets, names, strict=True))
        check_ready(board, root=root)
    with scratch_folder() as scratch, _in_own_words(scratch, model or "the embedded network"):
        if opened is not None:
            loaded = Model.of_graph(opened.graph, opened.manifest["source"])
            quantizing.check_fixed(opened.path, calib=calib, calib_images=calib_images)
            reference = _reference_of(opened, source, target_options)
            artifacts = [opened]
            images = given.evaluation(loaded)
            gates.check_judgeable(images.dataset.name, images.labels is not None, reference is not None)
        else:
            loaded = given.settled(source.load(model))
            if loaded.integer is not None:
                quantizing.check_fixed(model, calib=calib, calib_images=calib_images)
            reference = loaded.reference()
            images = given.evaluation(loaded, given.calibration(loaded) if loaded.integer is None else None)
            gates.check_judgeable(images.dataset.name, images.labels is not None, reference is not None)
            loaded = given.quantized(loaded, effort)
            by_target = dict(reversed(list(zip([target.name for target in targets], options, strict=True))))
            writers = []
            with progress("compile", 2 * len(by_target)) as advance:
                for name, own in by_target.items():  # all targets take the graph before anything is written for one
                    note(f"compiling {loaded.name} for {name}")
                    writers.append(prepare(loaded, name, scratch / name, **own))
                    advance(detail=f"for {name}")
                artifacts = []
                for write in writers:
                    artifacts.append(write())
                    advance()
        for remark in images.remarks:
            note(remark)
        if images.labels is None:
            note(f"{images.dataset.name}: has no labels (class = subfolder), so no accuracy is measured")
        if reference is None:
            note("fp32 is not known here: give --weights to compare with it")
        note(f"evaluating {loaded.name} on {counted(len(images), 'image')} of {images.dataset.name}")
        with progress("evaluate", len(images)) as advance:
            report = evaluate(
                artifacts,
                images,
                names,
                board=board,
                timeout=timeout,
                threads=threads,
                reference=reference,
                strict=strict,
                on_progress=advance,
            )
    for remark in report.remarks[len(images.remarks) :]:
        note(remark)
    if loaded.suspicion is None:  # else it was told when the network was quantized
        warn(report.suspicion)
    if json:
        about = {
            "warnings": list(loaded.remarks),
            "preprocessing": preprocessing_json(loaded),
            "suspicion": suspicion_json(loaded.suspicion or report.suspicion),
        }
        for values in report.to_json():
            emit_json(values | about)
    else:
        for table in report.tables():
            emit_table(*table)
    gates.check(report.devices)


def _opened(path: Path, devices: list[str]) -> Artifact:
    """An artifact that runs on these devices.

    Raises:
        UsageError: it was compiled for others.
        CorruptFileError: it is damaged.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.evaluation.evaluate import artifact_for

    artifact = open_artifact(path)
    for device in devices:
        artifact_for(device, [artifact])
    return artifact


def _reference_of(artifact: Artifact, source: ModelOptions, target_options: Mapping[str, Any]) -> Model | None:
    """The float network that an artifact was made of, if that is known.

    Raises:
        UsageError: options were given that an artifact does not take, or it was made of other weights.
    """
    if any(value is not None for value in target_options.values()):
        raise UsageError(f"{artifact.path}: is compiled already; options of a target are for a MODEL")
    if source.ema or source.pretrained:
        option = "--ema" if source.ema else "--pretrained"
        raise UsageError(f"{option}: {artifact.path} holds its weights; give {option} when the network is quantized")
    if source.network is not None:
        raise UsageError(f"--network: {artifact.path} says of which network it was made")
    if source.size is not None:
        raise UsageError("--size: the input size of an artifact is fixed; compile again at the size you need")
    if stated := source.stated.statement().sources:
        raise UsageError(
            f"{next(iter(stated.values()))}: the preprocessing of an artifact is fixed; quantize the network again "
            "with it"
        )
    return artifact.reference(source.weights)


@contextmanager
def _in_own_words(scratch: Path, model: str) -> Iterator[None]:
    """Failures name the model instead of a folder that is gone when they are read."""
    try:
        yield
    except SqueezeEdgeError as failure:
        text = str(failure).replace(f"{scratch}/", f"{model} compiled for ")
        raise type(failure)(text) from failure


def _devices(names: list[str], emulate: bool, board: str | None) -> list[str]:
    """The devices to run on.

    Raises:
        UsageError: no such device, ``--emulate`` where nothing can be emulated, ``--board`` where nothing is remote.
    """
    from squeezeedge.evaluation.evaluate import check_board

    chosen = [emulation(name) if emulate else name for name in names]
    kinds = [device_target(name).devices[name] for name in chosen]
    if emulate and "emulation" not in kinds:
        raise UsageError(f"--emulate: there is no emulation of {' or '.join(names)}")
    check_board(chosen, board)
    return chosen


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    add_command(app, "eval", eval_command)
