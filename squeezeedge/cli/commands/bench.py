"""``squeezeedge bench``: latency, throughput and energy of an artifact on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.options import (
    ArtifactDevice,
    ArtifactFolder,
    Board,
    Json,
    Timeout,
    check_picture,
    check_timeout,
    whole_numbers,
)

__all__ = ["bench_command", "register"]


def bench_command(
    artifact: ArtifactFolder,
    device: ArtifactDevice = None,
    board: Board = None,
    timeout: Timeout = None,
    batch: Annotated[str, typer.Option(metavar="N,...", help="Images a batch; several are measured in turn.")] = "1",
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Threads that compute, where the device has a choice; several are measured in turn.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="Measure each combination for so long.")] = 2.0,
    warm_up: Annotated[float, typer.Option(min=0, max=3600, help="Seconds that it runs before.")] = 0.5,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (.png, .svg, .pdf).", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Measure an artifact on a device: percentiles of the latency, images a second, and energy.

    The golden inputs run; class sums that differ from the golden ones are exit code 4. Times are of a whole batch, from
    the images in memory to their class sums there. Energy is read where the machine has a meter: of the processor
    (RAPL), an NVIDIA GPU (NVML) or a Jetson board (INA3221), all that runs on it included.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.cli.output import emit_json, emit_table, note, progress
    from squeezeedge.evaluation.bench import bench

    check_picture(plot)
    check_timeout(timeout, board)
    batches = whole_numbers("--batch", batch)
    counts = whole_numbers("--threads", threads) if threads is not None else ()
    opened = open_artifact(artifact)
    with progress("bench", len(batches) * max(1, len(counts))) as advance:
        report = bench(
            opened,
            device,
            board=board,
            timeout=timeout,
            batches=batches,
            threads=counts,
            seconds=seconds,
            warm_up=warm_up,
            on_progress=advance,
        )
    if plot is not None:
        from squeezeedge.evaluation.bench_plot import plot_bench

        plot_bench(report, plot)
    if json:
        emit_json(report.to_json())
    else:
        emit_table(*report.table())
    for remark in report.remarks:
        note(remark)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench_command)
