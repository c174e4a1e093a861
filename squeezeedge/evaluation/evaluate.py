"""Evaluate artifacts of one integer graph on devices, beside fp32 and the oracle, in one pass over the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact, open_artifact
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.selection import Selection, evaluation_images
from squeezeedge.calib.sources import ImageSource
from squeezeedge.errors import UsageError
from squeezeedge.evaluation.metrics import agreement, percentiles, sqnr_db, topk_accuracy
from squeezeedge.evaluation.reports import DeviceReport, Report
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.model import Model
from squeezeedge.targets.protocol import Kind, RunResult
from squeezeedge.targets.registry import device_target

__all__ = ["Runner", "artifact_for", "check_board", "evaluate", "run_devices"]


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
    reference: Model | None = None,
    classes: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
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
        reference: a model with the float network; ``None``: the embedded one, if the artifact was made of that.
        classes: class list of the data, in the order of the network's classes; ``None``: classes are found by name.
        limit: at most so many images, drawn by the seed.
        seed: of the choice.
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
    artifacts = [artifact] if isinstance(artifact, Artifact) else list(artifact)
    if not artifacts:
        raise UsageError("no artifact was given")
    graph = artifacts[0].graph
    for other in artifacts[1:]:
        if other.graph.digest() != graph.digest():
            raise UsageError(f"{other.path}: holds another integer graph than {artifacts[0].path}")
    if device is None:
        device = [next(iter(each.target.devices)) for each in artifacts]
    names = [device] if isinstance(device, str) else list(device)
    if not names:
        raise UsageError("no device was given")
    check_board(names, board)
    chosen = [artifact_for(name, artifacts) for name in names]
    if data is None:
        data = Model.of_graph(graph).dataset
    if data is None:
        raise UsageError(f"{graph.name}: images to evaluate on are needed: give some (--data)")
    images = evaluation_images(data, graph.classes, graph.labels, limit=limit, seed=seed, classes=classes)
    reference = reference or artifacts[0].reference()
    if reference is not None:
        _check_reference(reference, graph)
    with ExitStack() as stack:
        runners = [
            stack.enter_context(each.open(name, board if name in each.target.remote else None, timeout))
            for each, name in zip(chosen, names, strict=True)
        ]
        reports = run_devices(
            graph,
            runners,
            [each.model_bytes for each in chosen],
            images.batches(graph.preprocessing),
            images.labels,
            None if reference is None else reference.float_logits,
            on_progress,
            frozenset().union(*(each.calibrated_on for each in artifacts)),
        )
    left_out, remarks = reports[0].left_out, images.remarks
    if left_out:
        remarks += (
            f"{images.dataset.name}: {left_out} images are left out, because {graph.name} was quantized on them",
        )
    return Report(images.dataset.name, tuple(reports), remarks)


def check_board(devices: Sequence[str], board: str | None) -> None:
    """Refuse a board that none of the devices can be on.

    Raises:
        UsageError: it is named, and all of them are on this machine only.
    """
    if board is not None and not any(name in device_target(name).remote for name in devices):
        raise UsageError(f"--board: {' and '.join(devices)} does not run on another machine")


def run_devices(
    graph: IntegerGraph,
    devices: Sequence[Runner],
    model_bytes: Sequence[int],
    batches: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64] | None,
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None,
    on_progress: Callable[[int], None] = lambda done: None,
    without: frozenset[str] = frozenset(),
) -> list[DeviceReport]:
    """Run all images on fp32, the oracle and every device.

    Args:
        graph: the integer graph.
        devices: at least one.
        model_bytes: size of what each of them loads.
        batches: uint8 [B, H, W, 3] each, at least one; memory holds one batch at a time.
        labels: int64 [N] or ``None``.
        float_logits: the float network on a batch -> float32 [B, classes], or ``None``.
        on_progress: called with the number of images done since the last call.
        without: fingerprints of images that are left out.

    Returns:
        One report a device, in their order.

    Raises:
        UsageError: no image is left.
    """
    kept: list[NDArray[np.bool_]] = []
    expected: list[NDArray[np.int32]] = []
    fp32: list[NDArray[np.float32]] = []
    answers: list[list[RunResult]] = [[] for _ in devices]
    for batch in batches:
        keep = np.ones(len(batch), np.bool_)
        if without:
            keep[:] = [fingerprint not in without for fingerprint in fingerprints(batch)]
        kept.append(keep)
        images = batch[keep]
        if len(images):
            expected.append(run(graph, images))
            if float_logits is not None:
                fp32.append(float_logits(images))
            for device, results in zip(devices, answers, strict=True):
                results.append(device.run(images))
        on_progress(len(batch))
    used = np.concatenate(kept)
    if not used.any():
        raise UsageError(
            f"{graph.name}: was quantized on all {len(used)} images, none is left to evaluate on; give others "
            "(--data), or quantize again on fewer (--calib-images) or on others (--calib)"
        )
    labels, left_out = None if labels is None else labels[used], int((~used).sum())
    oracle, reference = np.concatenate(expected), np.concatenate(fp32) if fp32 else None
    return [
        replace(_report(graph, device, size, results, oracle, reference, labels), left_out=left_out)
        for device, size, results in zip(devices, model_bytes, answers, strict=True)
    ]


def _report(
    graph: IntegerGraph,
    device: Runner,
    model_bytes: int,
    results: Sequence[RunResult],
    oracle: NDArray[np.int32],
    fp32: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
) -> DeviceReport:
    sums = np.concatenate([result.sums for result in results])
    latency = np.concatenate([result.latency_ms for result in results])
    logits = graph.logits(sums)
    differing = int((sums != oracle).sum())
    return DeviceReport(
        model=graph.name,
        device=device.name,
        kind=device.kind,
        images=len(sums),
        top1=topk_accuracy(logits, labels, 1),
        top5=topk_accuracy(logits, labels, 5),
        fp32_top1=topk_accuracy(fp32, labels, 1),
        fp32_top5=topk_accuracy(fp32, labels, 5),
        agreement=None if fp32 is None else agreement(logits, fp32),
        bit_exact=differing == 0,
        differing_sums=differing,
        logits_sqnr_db=None if fp32 is None else sqnr_db(fp32, logits),
        latency_ms=percentiles(latency),
        images_per_s=1000 / float(latency.mean()),
        model_bytes=model_bytes,
        metrics=dict(results[-1].metrics),
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
    raise UsageError(f"{compiled}, which --device {device} does not run")


def _check_reference(reference: Model, graph: IntegerGraph) -> None:
    if reference.float_logits is None:
        raise UsageError(f"{reference.name}: the reference is an integer graph; give the float network")
    if reference.classes != graph.classes or reference.preprocessing.size != graph.preprocessing.size:
        raise UsageError(
            f"the reference {reference.name} has {reference.classes} classes and input {reference.preprocessing.size}, "
            f"{graph.name} has {graph.classes} and {graph.preprocessing.size}; give the network that it was made of"
        )
