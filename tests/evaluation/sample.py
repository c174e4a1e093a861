"""A device's report, made up; tests change what they are about."""

from __future__ import annotations

from squeezeedge.evaluation.reports import DeviceReport

__all__ = ["REPORT"]

REPORT = DeviceReport(
    model="net",
    device="cpu",
    kind="hardware",
    classes=10,
    images=200,
    top1=70.0,
    top1_interval=(63.31, 75.92),
    top5=90.5,
    fp32_top1=71.0,
    fp32_top1_interval=(64.36, 76.84),
    fp32_top5=91.0,
    top1_difference=-1.0,
    top1_difference_interval=(-3.25, 1.27),
    agreement=95.0,
    changed=10,
    bit_exact=True,
    differing_sums=0,
    largest_difference=0,
    reclassified=0,
    logits_sqnr_db=31.25,
    latency_ms={"p50": 1.5, "p90": 2.25, "min": 1.25},
    images_per_s=612.4,
    model_bytes=1_250_000,
    metrics={"threads": 2},
)
