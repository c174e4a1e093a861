"""What an evaluation found: figures of every device, as JSON values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from squeezeedge.errors import counted
from squeezeedge.targets.protocol import Kind
from squeezeedge.trial import Suspicion

__all__ = ["DeviceReport", "Report", "Table", "number"]

COLUMNS = (
    *("device", "kind", "top-1 %", "top-5 %", "agreement %", "SQNR dB", "bit-exact"),
    *("p50 ms", "p90 ms", "images/s", "MB"),
)


class Table(NamedTuple):
    """Figures for people; the first column is text, the others are numbers.

    Attributes:
        title: one line.
        columns: their names.
        rows: one text a column each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title]
        for first, *rest in (self.columns, *self.rows):
            cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def number(value: float | None, digits: int = 2) -> str:
    """A figure for a table; a dash where it is unknown."""
    return "-" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True)
class DeviceReport:
    """Parity of one device; the fields are the JSON keys of ``eval --json`` (accuracies in percent).

    ``None``: not known (no labels, no float network). ``left_out``: images that are not among ``images``, because the
    network was quantized on them; ``unreadable``: because they cannot be read.
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
    left_out: int = 0
    unreadable: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Stable keys; a device's own metrics follow at the same level."""
        values = {key: value for key, value in vars(self).items() if key != "metrics"}
        return values | self.metrics


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        data: name of the images.
        devices: one report a device, in the order asked for.
        remarks: what people should know of the images.
        suspicion: why the network's preprocessing is suspect, if it is.
    """

    data: str
    devices: tuple[DeviceReport, ...]
    remarks: tuple[str, ...] = ()
    suspicion: Suspicion | None = None

    def to_json(self) -> list[dict[str, Any]]:
        """One object a device, see :meth:`DeviceReport.to_json`."""
        return [report.to_json() for report in self.devices]

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.remarks, *([] if self.suspicion is None else [str(self.suspicion)])])

    def table(self) -> Table:
        """The devices beside fp32, and the differences of the others from the first."""
        first, *others = self.devices
        rows = [["fp32", "reference", number(first.fp32_top1), number(first.fp32_top5), *["-"] * 7]]
        rows += [_row(report) for report in self.devices]
        for other in others:
            differences = [_difference(first.top1, other.top1), _difference(first.top5, other.top5)]
            rows.append([f"{other.device} - {first.device}", "difference", *differences, *["-"] * 7])
        return Table(f"{first.model}, {counted(first.images, 'image')} of {self.data}", COLUMNS, rows)


def _row(report: DeviceReport) -> list[str]:
    return [
        report.device,
        report.kind,
        number(report.top1),
        number(report.top5),
        number(report.agreement),
        number(report.logits_sqnr_db, 1),
        "yes" if report.bit_exact else f"no: {report.differing_sums}",
        number(report.latency_ms["p50"], 3),
        number(report.latency_ms["p90"], 3),
        number(report.images_per_s, 0),
        number(report.model_bytes / 1e6),
    ]


def _difference(first: float | None, other: float | None) -> str:
    """Points between two devices."""
    return "-" if first is None or other is None else f"{other - first:+.2f}"
