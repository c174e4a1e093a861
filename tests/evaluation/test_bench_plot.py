"""The picture of a device's speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from squeezeedge.evaluation.bench_plot import plot_bench
from tests.evaluation.test_bench import REPORT, ROW


@pytest.mark.parametrize("kind", ["hardware", "simulator"])
def test_the_picture(tmp_path: Path, kind: str) -> None:
    report = replace(REPORT, kind=kind, rows=(ROW, replace(ROW, threads=None, p50=3.0, p99=4.0)))  # type: ignore[arg-type]
    plot_bench(report, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 4
