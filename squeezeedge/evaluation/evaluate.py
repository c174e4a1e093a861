"""Evaluate one integer graph on several devices beside fp32 and the oracle, in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import GateError
from squeezeedge.evaluation.metrics import agreement, sqnr_db, topk_accuracy
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.protocol import Kind, Runner, RunResult, summary

__all__ = ["Device", "DeviceReport", "Gates", "evaluate"]


@dataclass(frozen=True)
class Device:
    """Something that answers images with class sums.

    Attributes:
        name: as in ``--device``.
        kind: what it really is.
        model_bytes: size of what it loads.
        open: makes it ready.
    """

    name: str
    kind: Kind
    model_bytes: int
    open: Callable[[], AbstractContextManager[Runner]]


@dataclass(frozen=True)
class DeviceReport:
    """Parity of one device; the fields are the JSON keys of ``eval --json`` (accuracies in percent).

    ``None``: not known (no labels, no float network).
    """

    model: str
    device: str
    kind: Kind
    images: int
    top1: float | None
    top5: float | None
    fp32_top1: float | None
    fp32_top5: float | None
    agreement: float | None
    bit_exact: bool
    differing_sums: int
    logits_sqnr_db: float | None
    latency_ms: dict[str, float]
    images_per_s: float
    model_bytes: int
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Stable keys; a device's own metrics follow at the same level."""
        values = {key: value for key, value in vars(self).items() if key != "metrics"}
        return values | self.metrics


@dataclass(frozen=True)
class Gates:
    """What a device must reach; ``None`` or ``False``: not asked for.

    Attributes:
        max_drop: most points of top-1 accuracy below fp32.
        min_agreement: least percentage of images with fp32's class.
        require_bit_exact: every class sum equals the oracle's.
    """

    max_drop: float | None = None
    min_agreement: float | None = None
    require_bit_exact: bool = False

    def check(self, reports: Iterable[DeviceReport]) -> None:
        """Raise if a report misses a gate.

        Raises:
            GateError: names every device, figure and gate that failed, or could not be judged.
        """
        failed = [text for report in reports for text in self._failures(report)]
        if failed:
            raise GateError("; ".join(failed))

    def _failures(self, report: DeviceReport) -> Iterable[str]:
        if self.require_bit_exact and not report.bit_exact:
            yield f"{report.device}: {report.differing_sums} class sums differ from the oracle"
        if self.min_agreement is not None:
            if report.agreement is None:
                yield f"{report.device}: agreement unknown without a float network"
            elif report.agreement < self.min_agreement:
                yield f"{report.device}: agreement {report.agreement:.2f} % < {self.min_agreement:g} %"
        if self.max_drop is not None:
            if report.top1 is None or report.fp32_top1 is None:
                yield f"{report.device}: accuracy drop unknown without labels and a float network"
            elif report.fp32_top1 - report.top1 > self.max_drop:
                drop = report.fp32_top1 - report.top1
                yield f"{report.device}: top-1 is {drop:.2f} points below fp32, {self.max_drop:g} allowed"


def evaluate(
    graph: IntegerGraph,
    devices: Sequence[Device],
    batches: Iterable[NDArray[np.uint8]],
    labels: NDArray[np.int64] | None,
    float_logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[DeviceReport]:
    """Run all images on fp32, the oracle and every device.

    Args:
        graph: the integer graph.
        devices: at least one.
        batches: uint8 [B, H, W, 3] each; memory holds one batch at a time.
        labels: int64 [N] or ``None``.
        float_logits: the float network on a batch -> float32 [B, classes], or ``None``.
        on_progress: called with the number of images done since the last call.

    Returns:
        One report a device, in their order.
    """
    expected: list[NDArray[np.int32]] = []
    reference: list[NDArray[np.float32]] = []
    answers: list[list[RunResult]] = [[] for _ in devices]
    with ExitStack() as stack:
        runners = [stack.enter_context(device.open()) for device in devices]
        for images in batches:
            expected.append(run(graph, images))
            if float_logits is not None:
                reference.append(float_logits(images))
            for runner, results in zip(runners, answers, strict=True):
                results.append(runner(images))
            on_progress(len(images))
    oracle = np.concatenate(expected)
    fp32 = np.concatenate(reference) if reference else None
    return [
        _report(graph, device, results, oracle, fp32, labels) for device, results in zip(devices, answers, strict=True)
    ]


def _report(
    graph: IntegerGraph,
    device: Device,
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
        latency_ms=summary(latency),
        images_per_s=1000 / float(latency.mean()),
        model_bytes=device.model_bytes,
        metrics=dict(results[-1].metrics),
    )
