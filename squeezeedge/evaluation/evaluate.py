"""Evaluate artifacts of one integer graph on devices, fp32 and the oracle in one pass over the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.selection import Selection, evaluation_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.calib.unreadable import Unreadable
from squeezeedge.errors import UsageError, check_path, check_type, check_whole, counted
from squeezeedge.evaluation.answers import AnswerLog, Answers
from squeezeedge.evaluation.metrics import Tally, percentiles
from squeezeedge.evaluation.parts import PartsInThreads, images_a_batch
from squeezeedge.evaluation.reports import Beside, DeviceReport, Report
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.model import Model, suspicion_of
from squeezeedge.targets.protocol import Kind, RunResult
from squeezeedge.targets.registry import device_target, hardware
from squeezeedge.targets.session import takes
from squeezeedge.trial import Suspicion, is_low

__all__ = ["Runner", "artifact_for", "check_board", "check_threads", "evaluate", "run_devices"]


T = TypeVar("T")


class Runner(Protocol):
    """What runs images: a :class:`squeezeedge.device.Device`.

    Attributes:
        name: as in ``--device``.
        kind: what it really is.
    """

    name: str
    kind: Kind

    def run(self, images: NDArray[np.uint8]) -> RunResult:
        """Preprocessed images, uint8 [N, H, W, 3]."""


def evaluate(
    artifact: Artifact | str | os.PathLike[str] | Sequence[Artifact],
    data: ImageSource | Selection | None = None,
    device: str | Sequence[str] | None = None,
    *,
    board: str | None = None,
    timeout: float | None = None,
    threads: int | None = None,
    reference: Model | None = None,
    classes: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    strict: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Compare devices with the float network and with the integer oracle.

    Args:
        artifact: what runs, or its folder; several ones of the same integer graph where devices of several targets are
            compared.
        data: images in any form, with labels where they are a data set; ``None``: the embedded data set that the
            network was trained on. Of data in parts the test part; a selection is taken as it is.
        device: device or devices to run on, each once; ``None``: the hardware of the artifact's target.
        board: ``user@host[:port]`` of the machine with the devices that can be on another one.
        timeout: seconds that a board may take for each answer, as :meth:`squeezeedge.artifact.Artifact.open` has it.
        threads: how many compute, of devices that have a choice; ``None``: each as it chooses.
        reference: a model with the float network; ``None``: the embedded one, if the artifact was made of that.
        classes: class list of the data, in the order of the network's classes; ``None``: classes are found by name.
        limit: at most so many images, drawn by the seed.
        seed: of the choice.
        strict: an image that cannot be read is an error; else it is left out and counted, unless more than half are.
        on_progress: called with the number of images done since the last call.

    Returns:
        Accuracies in percent, latencies in milliseconds; it prints as a table.

    Images that the network was quantized on, as far as the artifact knows them, are left out and counted.

    Raises:
        UsageError: what is given does not fit together, or there are no images, or none but these.
        UnavailableError: a device is missing.
        GateError: a device's own check on the golden inputs failed.
        SqueezeEdgeError: a device fails, an image is damaged, or labels do not fit the network's classes.
    """
    if isinstance(artifact, str | os.PathLike):
        artifact = open_artifact(artifact)
    artifacts = _several("artifact", artifact, Artifact, "an artifact or its path, or several artifacts")
    for name, value, kind in (("reference", reference, Model), ("board", board, str)):
        check_type(name, value, (kind, type(None)), f"a {kind.__name__}, or None")
    if limit is not None:
        check_whole("limit", limit, 1)
    if threads is not None:
        check_whole("threads", threads, 1)
    check_whole("seed", seed, 0)
    if classes is not None:
        check_path("classes", classes)
        classes = Path(classes)
    if not artifacts:
        raise UsageError("no artifact was given")
    graph = artifacts[0].graph
    for other in artifacts[1:]:
        if other.graph.digest() != graph.digest():
            raise UsageError(f"{other.path}: holds another integer graph than {artifacts[0].path}")
    if device is None:
        device = [hardware(each.target) for each in artifacts]
    names = list(dict.fromkeys(_several("device", device, str, "a device's name, or several")))
    if not names:
        raise UsageError("no device was given")
    check_board(names, board)
    check_threads(names, threads)
    chosen = [artifact_for(name, artifacts) for name in names]
    if data is None:
        data = Model.of_graph(graph).dataset
    if data is None:
        raise UsageError(f"{graph.name}: images to evaluate on are needed: give some (`data`)")
    images = evaluation_images(data, graph.classes, graph.labels, limit=limit, seed=seed, classes=classes)
    unreadable = images.watch(strict=strict)
    reference = reference or artifacts[0].reference()
    if reference is not None:
        _check_reference(reference, graph)
    with ExitStack() as stack:
        runners = [
            stack.enter_context(
                each.open(
                    name,
                    board if name in each.target.remote else None,
                    timeout,
                    threads=threads if takes(each.target, name, "threads") else None,
                )
            )
            for each, name in zip(chosen, names, strict=True)
        ]
        reports, answers = run_devices(
            graph,
            runners,
            [each.model_bytes for each in chosen],
            images.batches(graph.preprocessing, images_a_batch(*graph.preprocessing.size), unreadable),
            images.labels,
            None if reference is None else reference.float_logits,
            on_progress,
            frozenset().union(*(each.calibrated_on for each in artifacts)),
            unreadable,
        )
    left_out, remarks = reports[0].left_out, images.remarks
    asked, dataset = images, images.dataset
    images = images.without(unreadable, reports[0].images + left_out)
    if images.unreadable:
        remarks += (images.loss,)
    if left_out:
        remarks += (
            f"{images.dataset.name}: {counted(left_out, 'image')} {'is' if left_out == 1 else 'are'} left out, because "
            f"{graph.name} was quantized on {'it' if left_out == 1 else 'them'}",
        )
    answers = replace(answers, places=asked.indices[answers.places])
    suspicion = _suspicion(reference, images, reports[0])
    return Report(dataset.name, tuple(reports), remarks, suspicion, dataset, answers)


def _suspicion(reference: Model | None, images: Selection, report: DeviceReport) -> Suspicion | None:
    """Why the preprocessing is suspect, if fp32 is no better than chance or labels are not known."""
    if reference is None:
        return None
    if report.fp32_top1 is not None:
        right = round(report.fp32_top1 * report.images / 100)
        if not is_low(right, report.images, reference.classes):
            return None
    return suspicion_of(reference, images)


def _several(name: str, given: object, kind: type[T], what: str) -> list[T]:
    """One of a kind, or a sequence of them.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(given, kind):
        return [given]
    check_type(name, given, Sequence, what)
    found: list[T] = []
    for one in given if isinstance(given, Sequence) else ():
        check_type(name, one, kind, what)
        found.append(one)
    return found


def check_board(devices: Sequence[str], board: str | None) -> None:
    """Refuse a board that none of the devices can be on.

    Raises:
        UsageError: it is named, and all of them are on this machine only.
    """
    if board is not None and not any(name in device_target(name).remote for name in devices):
        raise UsageError(f"`board`: {' and '.join(devices)} does not run on another machine")


def check_threads(devices: Sequence[str], threads: int | None) -> None:
    """Refuse a number of threads where none of the devices has a choice.

    Raises:
        UsageError: it is given, and none has.
    """
    if threads is not None and not any(takes(device_target(name), name, "threads") for name in devices):
        raise UsageError(f"`threads`: {' and '.join(devices)} has no choice of threads; leave it out")


def run_devices(
    graph: IntegerGraph,
    devices: Sequence[Runner],
    model_bytes: Sequence[int],
    batches: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64] | None,
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None,
    on_progress: Callable[[int], None] = lambda done: None,
    without: frozenset[str] = frozenset(),
    unreadable: Unreadable | None = None,
) -> tuple[list[DeviceReport], Answers]:
    """Run all images on fp32, the oracle and every device; memory holds one batch, and the answers.

    Args:
        graph: the integer graph.
        devices: at least one.
        model_bytes: size of what each of them loads.
        batches: uint8 [B, H, W, 3] each, at least one.
        labels: int64 [N] or ``None``.
        float_logits: the float network on some images, [n, H, W, 3] -> float32 [n, classes], called by several threads
            at a time; or ``None``.
        on_progress: called with the number of images done since the last call.
        without: fingerprints of images that are left out.
        unreadable: records images that the batches lack; their labels are skipped.

    Returns:
        One report a device, in their order, and what was answered to each image.

    Raises:
        UsageError: no image is left.
    """
    fp32, results = Tally(), [_Results(graph, device) for device in devices]
    pairs = {(a, b): Tally() for a, b in combinations(range(len(results)), 2)}
    fp32_answers, used_places = AnswerLog(), []
    images_seen = 0
    functions = [partial(run, graph), *(() if float_logits is None else (float_logits,))]
    with PartsInThreads() as in_parts:
        for batch in batches:
            places = np.arange(images_seen, images_seen + len(batch))
            if unreadable is not None:
                places = unreadable.places(images_seen, len(batch))
            images_seen += len(batch)
            images = batch
            if without:
                kept = [fingerprint not in without for fingerprint in fingerprints(batch)]
                images, places = batch[kept], places[kept]
            if len(images):
                known = None if labels is None else labels[places]
                used_places.append(places)
                oracle, *references = in_parts(functions, images)
                reference = references[0] if references else None
                if reference is not None:
                    fp32.add(reference, known, None)
                    fp32_answers.add(reference)
                # one device after the other, so that their times are their own
                logits = [result.add(images, oracle, known, reference) for result in results]
                for (a, b), tally in pairs.items():
                    tally.add(logits[b], known, logits[a])
            on_progress(len(batch))
    used = results[0].logits.images
    if not used:
        raise UsageError(
            f"{graph.name}: was quantized on all {counted(images_seen, 'image')}, none is left to evaluate on; "
            "give others (`data`), or quantize again on fewer or on others"
        )
    left_out, lost = images_seen - used, 0 if unreadable is None else len(unreadable.errors)
    for (a, b), tally in pairs.items():
        results[b].others[devices[a].name] = Beside(
            tally.agreement, tally.changed, tally.top1_difference, tally.top1_difference_interval
        )
    reports = [result.report(fp32, size, left_out, lost) for result, size in zip(results, model_bytes, strict=True)]
    places = np.concatenate(used_places)
    return reports, Answers(
        places,
        None if labels is None else labels[places],
        None if float_logits is None else fp32_answers.ranked(),
        tuple(result.answers.ranked() for result in results),
        tuple(result.latency_ms for result in results),
    )


class _Results:
    """The sums over a device's answers.

    Args:
        graph: the integer graph.
        device: the device.
    """

    def __init__(self, graph: IntegerGraph, device: Runner) -> None:
        self._graph, self._device = graph, device
        self.logits, self.answers = Tally(), AnswerLog()
        self._differing = self._largest = self._reclassified = 0
        self._latency: list[NDArray[np.float64]] = []
        self._metrics: Mapping[str, Any] = {}
        self.others: dict[str, Beside] = {}

    def add(
        self,
        images: NDArray[np.uint8],
        oracle: NDArray[np.int32],
        labels: NDArray[np.int64] | None,
        reference: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Run a batch on the device, compare it with the oracle's and fp32's answers, and return its logits."""
        result = self._device.run(images)
        differences = np.abs(result.sums.astype(np.int64) - oracle)
        self._differing += int(np.count_nonzero(differences))
        self._largest = max(self._largest, int(differences.max()))
        logits = self._graph.logits(result.sums)
        self._reclassified += int((logits.argmax(1) != self._graph.logits(oracle).argmax(1)).sum())
        self.logits.add(logits, labels, reference)
        self.answers.add(logits)
        self._latency.append(result.latency_ms)
        self._metrics = result.metrics
        return logits

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """float64 [N]."""
        return np.concatenate(self._latency)

    def report(self, fp32: Tally, model_bytes: int, left_out: int, unreadable: int) -> DeviceReport:
        """Of all images together."""
        latency = self.latency_ms
        return DeviceReport(
            model=self._graph.name,
            device=self._device.name,
            kind=self._device.kind,
            images=self.logits.images,
            classes=self._graph.classes,
            top1=self.logits.top1,
            top1_interval=self.logits.top1_interval,
            top5=self.logits.top5,
            fp32_top1=fp32.top1,
            fp32_top1_interval=fp32.top1_interval,
            fp32_top5=fp32.top5,
            top1_difference=self.logits.top1_difference,
            top1_difference_interval=self.logits.top1_difference_interval,
            agreement=self.logits.agreement,
            changed=self.logits.changed,
            bit_exact=self._differing == 0,
            differing_sums=self._differing,
            largest_difference=self._largest,
            reclassified=self._reclassified,
            logits_sqnr_db=self.logits.sqnr_db,
            latency_ms=percentiles(latency),
            images_per_s=1000 / float(latency.mean()),
            model_bytes=model_bytes,
            left_out=left_out,
            unreadable=unreadable,
            others=self.others,
            metrics=dict(self._metrics),
        )


def artifact_for(device: str, artifacts: Sequence[Artifact]) -> Artifact:
    """The artifact that a device runs.

    Raises:
        UsageError: none of them.
    """
    for artifact in artifacts:
        if device in artifact.target.devices:
            return artifact
    compiled = " and ".join(f"{artifact.path}: compiled for {artifact.target.name}" for artifact in artifacts)
    able = ", ".join(name for artifact in artifacts for name in artifact.target.devices)
    raise UsageError(f"{compiled}, which `device` {device} does not run; choose among: {able}")


def _check_reference(reference: Model, graph: IntegerGraph) -> None:
    if reference.float_logits is None:
        raise UsageError(f"{reference.name}: the reference is an integer graph; give the float network")
    if reference.classes != graph.classes or reference.preprocessing.size != graph.preprocessing.size:
        raise UsageError(
            f"the reference {reference.name} has {reference.classes} classes and input {reference.preprocessing.size}, "
            f"{graph.name} has {graph.classes} and {graph.preprocessing.size}; give the network that it was made of"
        )
