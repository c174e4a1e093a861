"""A device's report, made up; tests change what they are about."""

from __future__ import annotations

from squeezeedge.evaluation.reports import DeviceReport

__all__ = ["REPORT"]

REPORT = DeviceReport(
    model="net",
    device="cpu",
    kind="hardware",
    images=200,
    top1=70.0,
    top5=90.5,
    fp32_top1=71.0,
    fp32_top5=91.0,
    agreement=95.0,
    bit_exact=True,
    differing_sums=0,
    logits_sqnr_db=31.25,
    latency_ms={"p50": 1.5, "p90": 2.25, "min": 1.25},
    images_per_s=612.4,
    model_bytes=1_250_000,
    metrics={"threads": 2},
)
