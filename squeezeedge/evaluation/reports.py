"""The result of an evaluation: figures of every device, as JSON values and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeezeedge.calib.datasets import Dataset
from squeezeedge.errors import counted
from squeezeedge.evaluation.answers import Answers
from squeezeedge.evaluation.metrics import Interval
from squeezeedge.evaluation.tables import Table, interval, number
from squeezeedge.targets.protocol import Kind
from squeezeedge.trial import Suspicion

__all__ = ["FIVE", "Beside", "DeviceReport", "Report"]

DIFFERENCES = ("differing class sums", "largest difference", "other class than oracle")
"""Rows where class sums differ from the oracle's."""
ROWS = (
    *("top-1 %", "95 % interval", "top-1 above fp32, points", "95 % interval, paired", "top-5 %"),
    *("same class as fp32 %", "other class than fp32", "SQNR dB", "bit-exact", *DIFFERENCES),
    *("p50 ms", "p90 ms", "images/s", "MB"),
)
FIVE = 5
"""Of so many classes or fewer, the first five say nothing."""


@dataclass(frozen=True)
class Beside:
    """A device's answers compared with another device's, for the same images.

    Attributes:
        agreement: percent of images with the same class.
        changed: how many images get another class.
        top1_difference: points of ``top1`` above the other's; ``None`` without labels.
        top1_difference_interval: of it, 95 %, from pairs of answers to the same image.
    """

    agreement: float | None
    changed: int | None
    top1_difference: float | None
    top1_difference_interval: Interval | None


@dataclass(frozen=True)
class DeviceReport:
    """Parity of one device; the fields are the JSON keys of ``eval --json`` (accuracies in percent).

    ``None``: not known (no labels, no float network). Intervals have a confidence of 95 % (see
    :mod:`squeezeedge.evaluation.metrics`).

    Attributes:
        model: name of the network.
        device: as in ``--device``.
        kind: what it really is.
        classes: how many the network has.
        images: how many were run.
        top1: percent with the right class first.
        top1_interval: of it, (lower end, upper end).
        top5: percent with the right class among the first five.
        fp32_top1: ``top1`` of the float network.
        fp32_top1_interval: of it.
        fp32_top5: ``top5`` of the float network.
        top1_difference: points of ``top1`` above fp32's.
        top1_difference_interval: of it, from pairs of answers to the same image.
        agreement: percent of images with fp32's class.
        changed: how many images get another class than fp32's.
        bit_exact: every class sum equals the oracle's.
        differing_sums: how many do not.
        largest_difference: of a class sum from the oracle's.
        reclassified: images that get another class than the oracle's.
        logits_sqnr_db: signal to quantization noise of the logits, beside fp32's.
        latency_ms: p50, p90 and min.
        images_per_s: images a second.
        model_bytes: size of what the device loads.
        left_out: images that are not among ``images``, because the network was quantized on them.
        unreadable: images that are not among them, because they cannot be read.
        others: each device before this one -> this one's answers beside its.
        metrics: a device's own.
    """

    model: str
    device: str
    kind: Kind
    classes: int
    images: int
    top1: float | None
    top1_interval: Interval | None
    top5: float | None
    fp32_top1: float | None
    fp32_top1_interval: Interval | None
    fp32_top5: float | None
    top1_difference: float | None
    top1_difference_interval: Interval | None
    agreement: float | None
    changed: int | None
    bit_exact: bool
    differing_sums: int
    largest_difference: int
    reclassified: int
    logits_sqnr_db: float | None
    latency_ms: dict[str, float]
    images_per_s: float
    model_bytes: int
    left_out: int = 0
    unreadable: int = 0
    others: Mapping[str, Beside] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Stable keys; a device's own metrics follow at the same level."""
        values = {key: value for key, value in vars(self).items() if key != "metrics"}
        return values | {"others": {name: vars(beside) for name, beside in self.others.items()}} | self.metrics


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        data: name of the images.
        devices: one report a device, in the order asked for.
        remarks: what people should know of the images.
        suspicion: why the network's preprocessing is suspect, if it is.
        dataset: the images, with the network's class indices as labels.
        answers: to each image, whose places are those in the data set.
    """

    data: str
    devices: tuple[DeviceReport, ...]
    remarks: tuple[str, ...] = ()
    suspicion: Suspicion | None = None
    dataset: Dataset | None = field(default=None, repr=False, compare=False)
    answers: Answers | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> list[dict[str, Any]]:
        """One object a device, see :meth:`DeviceReport.to_json`."""
        return [report.to_json() for report in self.devices]

    def __str__(self) -> str:
        return "\n".join(
            [
                "\n\n".join(map(str, self.tables())),
                *self.remarks,
                *([] if self.suspicion is None else [str(self.suspicion)]),
            ]
        )

    def tables(self) -> tuple[Table, ...]:
        """:meth:`table`, and of several devices :meth:`pairs`."""
        return (self.table(), self.pairs()) if any(report.others for report in self.devices) else (self.table(),)

    def pairs(self) -> Table:
        """Each device beside each one before it, a row each."""
        rows = [
            [
                f"{report.device} beside {other}",
                number(beside.agreement),
                "-" if beside.changed is None else str(beside.changed),
                "-" if beside.top1_difference is None else f"{beside.top1_difference:+.2f}",
                interval(beside.top1_difference_interval, signed=True),
            ]
            for report in self.devices
            for other, beside in report.others.items()
        ]
        columns = ["", "same class %", "other class", "top-1 points above", "95 % paired"]
        return Table("between the devices", columns, rows)

    def table(self) -> Table:
        """One column for fp32 and for each device, one row a figure; rows of differences only where there are any."""
        title, columns, rows = self.full_table()
        if all(report.bit_exact for report in self.devices):
            rows = [row for row in rows if row[0] not in DIFFERENCES]
        return Table(title, columns, rows)

    def full_table(self) -> Table:
        """The same with the rows of differences in any case."""
        first = self.devices[0]
        fp32 = [""] * len(ROWS)
        fp32[0], fp32[1] = number(first.fp32_top1), interval(first.fp32_top1_interval)
        fp32[4] = number(first.fp32_top5)
        columns = [fp32, *(_figures(report) for report in self.devices)]
        rows = [[name, *figures] for name, *figures in zip(ROWS, *columns, strict=True)]
        if first.classes <= FIVE:
            del rows[4]
        rows[-2:-2] = self._parts_of_latency()
        names = [f"{report.device} ({report.kind})" for report in self.devices]
        return Table(
            f"{first.model}, {counted(first.images, 'image')} of {self.data}", ["", "fp32 (reference)", *names], rows
        )

    def _parts_of_latency(self) -> list[list[str]]:
        """Rows of the times that devices tell apart, medians in milliseconds."""
        keys = dict.fromkeys(key for report in self.devices for key in report.metrics if key.endswith("_ms"))
        return [
            [key.replace("_", " "), "", *(number(report.metrics.get(key), 3) for report in self.devices)]
            for key in keys
        ]


def _figures(report: DeviceReport) -> list[str]:
    """A device's cells, in the order of :data:`ROWS`."""
    return [
        number(report.top1),
        interval(report.top1_interval),
        "-" if report.top1_difference is None else f"{report.top1_difference:+.2f}",
        interval(report.top1_difference_interval, signed=True),
        number(report.top5),
        number(report.agreement),
        "-" if report.changed is None else str(report.changed),
        number(report.logits_sqnr_db, 1),
        "yes" if report.bit_exact else "no",
        str(report.differing_sums),
        str(report.largest_difference),
        str(report.reclassified),
        number(report.latency_ms["p50"], 3),
        number(report.latency_ms["p90"], 3),
        number(report.images_per_s, 0),
        number(report.model_bytes / 1e6),
    ]
