"""Shared by ``eval`` and ``report``: prepares the artifacts, devices, images and float network of a command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.cli.options import check_timeout
from squeezeedge.cli.target_options import options_of
from squeezeedge.errors import SqueezeEdgeError, UsageError, counted
from squeezeedge.targets.registry import device_target, emulation, hardware

if TYPE_CHECKING:
    from squeezeedge.artifact import Artifact
    from squeezeedge.calib.selection import Selection
    from squeezeedge.cli.model_options import ModelOptions
    from squeezeedge.cli.quantizing import DataOptions, EffortOptions
    from squeezeedge.evaluation.reports import Report
    from squeezeedge.model import Model

__all__ = ["Prepared", "prepared"]


@dataclass(frozen=True)
class Prepared:
    """What is evaluated.

    Attributes:
        model: with its integer graph.
        artifacts: what runs; compiled here, or opened.
        devices: names of the devices, each once.
        images: to evaluate on.
        reference: the float network, if it is known.
    """

    model: Model
    artifacts: list[Artifact]
    devices: list[str]
    images: Selection
    reference: Model | None

    def tell(self, report: Report) -> None:
        """Print what an evaluation found to be said, but for what was printed before it."""
        from squeezeedge.cli.model_options import warn
        from squeezeedge.cli.output import note

        for remark in report.remarks[len(self.images.remarks) :]:
            note(remark)
        if self.model.suspicion is None:  # else it was told when the network was quantized
            warn(report.suspicion)


@contextmanager
def prepared(
    models: Sequence[str],
    devices: Sequence[str],
    *,
    emulate: bool,
    board: str | None,
    timeout: float | None,
    threads: int | None,
    source: ModelOptions,
    given: DataOptions,
    quantizing: EffortOptions,
    target_options: Mapping[str, Any],
    check: Callable[[Selection, Model | None], None] = lambda images, reference: None,
) -> Iterator[Prepared]:
    """Prepare everything that a command line names, with notes and progress; errors are raised before any work.

    Args:
        models: artifact folders, or a MODEL, which is quantized and compiled on the way; empty: the embedded network.
        devices: what to run on; empty: the hardware of each artifact's target, of a MODEL this processor.
        emulate: run the devices' emulations.
        board: machine of the devices that can be on another one.
        timeout: seconds that it may take for each answer.
        threads: of the processor, that compute.
        source: options of the model.
        given: options of the data.
        quantizing: options of the quantization.
        target_options: options of all targets; not given: ``None``.
        check: called with the images and the float network before the network is quantized or compiled.

    Raises:
        UsageError: what is given does not fit together.
        UnavailableError: a device or tool is missing.
        SqueezeEdgeError: a file is damaged, or a target refuses the network.
    """
    from squeezeedge.cli.output import note
    from squeezeedge.evaluation.evaluate import check_threads
    from squeezeedge.files import scratch_folder
    from squeezeedge.targets.session import check_files, check_ready

    effort = quantizing.chosen()
    check_timeout(timeout, board)
    names = _devices(devices, emulate, board) if devices else []
    opened = _opened(models, names)
    if not names:
        defaults = [hardware(artifact.target) for artifact in opened] or ["cpu"]
        names = _devices(defaults, emulate, board)
    _check_used(opened, names)
    check_threads(names, threads)
    targets = [device_target(name) for name in names]
    options = [
        options_of(target, target_options, targets, target.devices[name])
        for target, name in zip(targets, names, strict=True)
    ]
    for target, name, own in zip(targets, names, options, strict=True):
        there = board if name in target.remote else None
        if opened:
            target.check_device(name, there)
            check_files(_for_device(opened, name).path, target, name)
        else:
            chosen = target.options(**own)
            target.check_options(chosen)
            target.check_device(name, there, chosen)
    if board is not None:
        root = any(target.needs_root and name in target.remote for target, name in zip(targets, names, strict=True))
        check_ready(board, root=root)
    model = models[0] if models else None
    with scratch_folder() as scratch, _in_own_words(scratch, model or "the embedded network"):
        if opened:
            ready = _of_artifacts(opened, names, source, given, quantizing, target_options, check)
        else:
            loaded = given.settled(source.load(model))
            if loaded.integer is not None:
                quantizing.check_fixed(model, calib=given.calib, calib_images=given.calib_images)
            reference = loaded.reference()
            images = given.evaluation(loaded, given.calibration(loaded) if loaded.integer is None else None)
            check(images, reference)
            loaded = given.quantized(loaded, effort)
            by_target = dict(reversed(list(zip([target.name for target in targets], options, strict=True))))
            ready = Prepared(loaded, _compiled(loaded, by_target, scratch), names, images, reference)
        for remark in ready.images.remarks:
            note(remark)
        if ready.images.labels is None:
            note(f"{ready.images.dataset.name}: has no labels (class = subfolder), so no accuracy is measured")
        if ready.reference is None:
            note("fp32 is not known here: give --weights to compare with it")
        told = f"{counted(len(ready.images), 'image')} of {ready.images.dataset.name}"
        note(f"evaluating {ready.model.name} on {told}")
        yield ready


def _opened(models: Sequence[str], devices: Sequence[str]) -> list[Artifact]:
    """The given artifacts that run on these devices; empty if a MODEL is given.

    Raises:
        UsageError: there are several, and not all are artifacts; or none of them runs on a device.
        CorruptFileError: one is damaged.
    """
    from squeezeedge.artifact import open_artifact

    folders = [model for model in models if Path(model).is_dir()]
    if len(models) > 1 and len(folders) < len(models):
        model = next(model for model in models if model not in folders)
        raise UsageError(f"{model}: is no artifact folder; give several artifacts, or one MODEL")
    opened = [open_artifact(folder) for folder in folders]
    for device in devices if opened else ():
        _for_device(opened, device)
    return opened


def _for_device(artifacts: Sequence[Artifact], device: str) -> Artifact:
    from squeezeedge.evaluation.evaluate import artifact_for

    return artifact_for(device, artifacts)


def _check_used(artifacts: Sequence[Artifact], devices: Sequence[str]) -> None:
    """Refuse an artifact that none of the devices would run.

    Raises:
        UsageError: there is one.
    """
    used = [_for_device(artifacts, device) for device in devices] if artifacts else []
    for artifact in artifacts:
        if not any(artifact is one for one in used):
            other = next((one for one in used if one.target.name == artifact.target.name), None)
            why = (
                f"{other.path} is for {artifact.target.name}, too"
                if other
                else "no `device` of its target is asked for"
            )
            raise UsageError(f"{artifact.path}: nothing runs it: {why}")


def _of_artifacts(
    opened: list[Artifact],
    devices: list[str],
    source: ModelOptions,
    given: DataOptions,
    quantizing: EffortOptions,
    target_options: Mapping[str, Any],
    check: Callable[[Selection, Model | None], None],
) -> Prepared:
    from squeezeedge.model import Model

    first = opened[0]
    loaded = Model.of_graph(first.graph, first.manifest["source"])
    quantizing.check_fixed(first.path, calib=given.calib, calib_images=given.calib_images)
    reference = _reference_of(first, source, target_options)
    images = given.evaluation(loaded)
    check(images, reference)
    return Prepared(loaded, opened, devices, images, reference)


def _compiled(model: Model, options: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Artifact]:
    """The model, compiled for each target; all take the graph before anything is written for one."""
    from squeezeedge.artifact import prepare
    from squeezeedge.cli.output import note, progress

    writers, artifacts = [], []
    with progress("compile", 2 * len(options)) as advance:
        for name, own in options.items():
            note(f"compiling {model.name} for {name}")
            writers.append(prepare(model, name, folder / name, **own))
            advance(detail=f"for {name}")
        for write in writers:
            artifacts.append(write())
            advance()
    return artifacts


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
    """Let failures name the model instead of a temporary folder."""
    try:
        yield
    except SqueezeEdgeError as failure:
        text = str(failure).replace(f"{scratch}/", f"{model} compiled for ")
        raise type(failure)(text) from failure


def _devices(names: Sequence[str], emulate: bool, board: str | None) -> list[str]:
    """The devices to run on, each once.

    Raises:
        UsageError: no such device, ``--emulate`` where nothing can be emulated, ``--board`` where nothing is remote.
    """
    from squeezeedge.evaluation.evaluate import check_board

    chosen = list(dict.fromkeys(emulation(name) if emulate else name for name in names))
    kinds = [device_target(name).devices[name] for name in chosen]
    if emulate and "emulation" not in kinds:
        raise UsageError(f"--emulate: there is no emulation of {' or '.join(names)}")
    check_board(chosen, board)
    return chosen
