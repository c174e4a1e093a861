"""Latency and throughput on this machine's processor beside other runtimes of the same float network.

    python -m benchmarks.cpu squeezenet1_1 --weights FILE --data IMAGES -o FILE.json
    python -m benchmarks.cpu efficientnet_lite0 --weights FILE.onnx --data IMAGES --threads 1 -o FILE.json
    python -m benchmarks.cpu squeezenet1_1 --weights FILE --data IMAGES --work FOLDER --prepare-only
    python -m benchmarks.cpu --work FOLDER -o FILE.json

Ours is compiled for every instruction set that this processor has. OpenVINO runs as it is, and once more for each
further set, held to its instructions by ONEDNN_MAX_CPU_ISA. Every row runs in a process of its own; they take turns,
many times, so that all see the same machine. A row that cannot run here is left out, and a line says why. The limit of
a row is the network's multiply-accumulates by the measured peak of its instruction set (targets/peak.py), times the
threads. With --work, what was prepared is kept, and a later run measures it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import squeezeedge as sq
from benchmarks.cpu_plot import plot_cpu
from benchmarks.quantization import PREPROCESSING, source_model
from benchmarks.report import note, report, versions
from benchmarks.runtimes import BATCH, OWN, RUNTIMES, Job
from benchmarks.worker import Worker, WorkerError
from squeezeedge.calib.selection import calibration_images
from squeezeedge.cli.output import progress
from squeezeedge.evaluation.tables import Table, number
from squeezeedge.files import write_file
from squeezeedge.targets.cpu.options import FEATURES, CpuOptions, architecture, host_features

HELD = {
    "amx": "AVX512_CORE_AMX",
    "avx512-vnni": "AVX512_CORE_VNNI",
    "avx-vnni": "AVX2_VNNI",
    "avx512bw": "AVX512_CORE",
    "avx2": "AVX2",
}
"""Instruction set -> oneDNN's name of the comparable one."""
LEAST = "SSE41"
"""What it can be held to at least."""

ROUNDS, SECONDS, SHARE_S = 30, 0.015, 0.04
"""Rounds; seconds of a cell's calls in a round; what a cell with longer calls may take of a round on average."""
REST_S = 0.02
"""After several threads ran: those of some runtimes wait for work in a loop for a while."""
PREPARED, IMAGES = "prepared.json", "images.npz"


@dataclass(frozen=True)
class Row:
    """What is measured.

    Attributes:
        name: of the row; of ours, its instruction set.
        runtime: a key of :data:`benchmarks.runtimes.RUNTIMES`.
        folder: what was prepared for it, within the work folder.
        isa: the instruction set of ours that it is compared with.
        environment: variables of its process.
    """

    name: str
    runtime: str
    folder: str
    isa: str
    environment: dict[str, str]


def instruction_sets() -> list[str]:
    """Those that this processor has, best first."""
    known, has = architecture(CpuOptions()), host_features()
    return [name for name, (needed, features) in FEATURES.items() if needed in ("", known) and has.issuperset(features)]


def planned(sets: Sequence[str], held: bool) -> list[Row]:
    """The rows for these instruction sets, best first; ``held``: whether OpenVINO can be held to lesser ones here."""
    rows = []
    seen = set()
    for isa in sets:
        rows.append(Row(isa, OWN, f"{OWN}-{isa}", isa, {}))
        hold = HELD.get(isa, LEAST)
        if isa == sets[0]:
            rows.append(Row("OpenVINO", "OpenVINO", "OpenVINO", isa, {}))
        elif held and hold not in seen:
            rows.append(Row(f"OpenVINO {isa}", "OpenVINO", "OpenVINO", isa, {"ONEDNN_MAX_CPU_ISA": hold}))
        seen.add(hold)
    return rows + [Row(name, name, name, sets[0], {}) for name in RUNTIMES if name not in (OWN, "OpenVINO")]


def prepare(network: str, weights: Path, data: str, quantized: Path | None, work: Path) -> None:
    """Write what is measured into a folder; what cannot be prepared is told and left out."""
    source = source_model(network, weights)
    assert source.floating is not None and source.float_logits is not None
    pixels = calibration_images(data, count=BATCH).load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)
    model = sq.quantize(source, data) if quantized is None else sq.load(quantized)
    assert model.integer is not None
    rows = planned(sets := instruction_sets(), held=architecture(CpuOptions()) == "x86_64")
    skipped: dict[str, str] = {}
    folders = {row.folder: row for row in rows}
    with progress("preparing", len(folders)) as advance:
        for folder, row in folders.items():
            advance(0, folder)
            runtime = RUNTIMES[row.runtime]
            if versions(runtime.packages) is None:
                skipped[folder] = f"needs {' and '.join(runtime.packages)}"
            else:
                (work / folder).mkdir(parents=True)
                try:
                    runtime.prepare(Job(model.integer, source.floating, normalized, row.isa), work / folder)
                except (Exception, SystemExit) as error:
                    if row.runtime == OWN:
                        raise
                    skipped[folder] = _reason(error)
            advance()
    np.savez(work / IMAGES, pixels=pixels, normalized=normalized)
    layers = json.loads((work / f"{OWN}-{sets[0]}" / OWN / "manifest.json").read_bytes())["compiled"]["layers"]
    prepared = {
        "network": network,
        "graph_sha256": model.integer.digest(),
        "macs": sum(layer["macs"] for layer in layers),
        "classes": source.float_logits(pixels).argmax(1).tolist(),
        "rows": [vars(row) for row in rows],
        "skipped": skipped,
    }
    write_file(work / PREPARED, json.dumps(prepared, indent=1).encode())


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def measure(work: Path, threads: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure what was prepared; the values of the JSON file."""
    prepared = json.loads((work / PREPARED).read_bytes())
    rows = [Row(**row) for row in prepared["rows"]]
    skipped = {row.name: prepared["skipped"][row.folder] for row in rows if row.folder in prepared["skipped"]}
    rows = [row for row in rows if row.name not in skipped]
    times: dict[tuple[str, int, int], list[float]] = {}
    peaks: dict[str, float] = {}
    about: dict[str, dict[str, Any]] = {}
    with _workers(work, rows) as workers, progress("measuring", rounds * len(rows)) as advance:
        for turn in range(rounds):
            for row in list(rows):
                advance(1, row.name)
                try:
                    if turn == 0:
                        about[row.name] = _open(workers[row.name], row, threads, prepared["classes"])
                    for cell in _cells(row, threads):
                        found = times.setdefault((row.name, *cell), [])
                        if sum(found) <= 1e3 * SHARE_S * turn:
                            found += workers[row.name].ask(
                                do="measure", threads=cell[0], batch=cell[1], seconds=SECONDS
                            )["ms"]
                            time.sleep(REST_S * (cell[0] > 1))
                    if row.runtime == OWN:
                        peaks[row.isa] = max(peaks.get(row.isa, 0), workers[row.name].ask(do="peak")["rate"])
                except WorkerError as error:
                    if row.runtime == OWN:
                        raise SystemExit(f"{row.name}: {error}") from error
                    skipped[row.name] = str(error)
                    rows.remove(row)
    results = []
    for row in rows:
        for cell in _cells(row, threads):
            calls = times[row.name, *cell]
            own = min(times[row.isa, *cell])
            results.append(_result(row, *cell, calls, own, prepared["macs"] / peaks[row.isa]))
    return report(
        "cpu",
        network=prepared["network"],
        graph_sha256=prepared["graph_sha256"],
        macs=prepared["macs"],
        rounds=rounds,
        peaks={isa: {"gmacs_per_s": rate / 1e6} for isa, rate in peaks.items()},
        rows={row.name: about[row.name] for row in rows},
        skipped=skipped,
        results=results,
    )


@contextmanager
def _workers(work: Path, rows: Sequence[Row]) -> Iterator[dict[str, Worker]]:
    """The processes of the rows."""
    workers: dict[str, Worker] = {}
    try:
        for row in rows:
            workers[row.name] = Worker(row.runtime, work / row.folder, work / IMAGES, row.environment)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def _cells(row: Row, threads: Sequence[int]) -> list[tuple[int, int]]:
    """(threads, batch) of a row's measurements; fewer threads first."""
    runtime = RUNTIMES[row.runtime]
    counts = sorted(threads) if runtime.threaded else [count for count in threads if count == 1]
    return [(count, batch) for count in counts for batch in ((1, BATCH) if runtime.batched else (1,))]


def _open(worker: Worker, row: Row, threads: Sequence[int], classes: Sequence[int]) -> dict[str, Any]:
    """Open all of a row's networks; what is said of the row."""
    runtime = RUNTIMES[row.runtime]
    agreeing: list[tuple[int, int]] = []
    kernels: set[str] = set()
    for count, batch in _cells(row, threads):
        opened = worker.ask(do="open", threads=count, batch=batch)
        same = sum(a == b for a, b in zip(opened["classes"], classes, strict=False))
        agreeing.append((len(opened["classes"]), same))
        kernels.update(opened["kernels"])
    return {
        "runtime": row.runtime,
        "what": runtime.what,
        "versions": versions(runtime.packages),
        "environment": row.environment,
        "compared_with": row.isa,
        "classes_as_fp32": min(same for images, same in agreeing if images == max(agreeing)[0]),
        "images": max(agreeing)[0],
        "kernels": sorted(kernels),
    }


def _result(row: Row, threads: int, batch: int, calls: Sequence[float], own: float, alone: float) -> dict[str, Any]:
    """The values of one cell; ``own``: our milliseconds; ``alone``: those of an image at the peak of one thread."""
    best, limit = min(calls), alone * batch / threads
    return {
        "row": row.name,
        "threads": threads,
        "batch": batch,
        "calls": len(calls),
        "min_ms": best,
        "median_ms": float(np.median(calls)),
        "images_per_s": 1e3 * batch / best,
        "limit_ms": limit,
        "of_peak": limit / best,
        "over_own": best / own,
    }


def tables(values: Mapping[str, Any]) -> list[Table]:
    """A table for each number of threads, of times in milliseconds an image."""
    found = []
    for threads in sorted({result["threads"] for result in values["results"]}):
        cells = {(cell["row"], cell["batch"]): cell for cell in values["results"] if cell["threads"] == threads}
        rows = []
        for name in values["rows"]:
            figures = []
            for batch in (1, BATCH):
                cell = cells.get((name, batch))
                figures += (
                    ["-"] * 4
                    if cell is None
                    else [
                        number(cell["min_ms"] / batch, 3 if cell["min_ms"] < 100 * batch else 0),
                        number(cell["median_ms"] / batch, 3 if cell["min_ms"] < 100 * batch else 0),
                        f"{100 * cell['of_peak']:.{0 if cell['of_peak'] >= 0.01 else 1}f} %",
                        "-" if values["rows"][name]["runtime"] == OWN else number(cell["over_own"]),
                    ]
                )
            rows.append([name, *figures])
        title = (
            f"{values['network']}, {threads} thread{'s' * (threads > 1)}: ms an image at batch 1, and at batch {BATCH}"
        )
        found.append(Table(title, ["", *("best", "median", "peak", "/ own") * 2], rows))
    return found


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", help=f"as in `squeezeedge models`, or {', '.join(PREPROCESSING)}")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", help="calibration images")
    parser.add_argument("--quantized", type=Path, help=".sqe of the network; else it is quantized")
    parser.add_argument("--work", type=Path, help="folder for what is prepared; measured anew if it is there")
    parser.add_argument("--prepare-only", action="store_true", help="measure nothing yet")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    parser.add_argument("--plot", type=Path, help="picture; its ending chooses the format")
    parser.add_argument("--json", action="store_true", help="print the values instead of tables")
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    options = parser.parse_args()

    if options.prepare_only and options.work is None:
        parser.error("--prepare-only needs --work")
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        if not (work / PREPARED).exists():
            if None in (options.network, options.weights, options.data):
                parser.error("nothing is prepared: NETWORK, --weights and --data are needed")
            if work.is_dir() and any(work.iterdir()):
                parser.error(f"{work}: was not prepared to the end; remove it, or choose another folder")
            prepare(options.network, options.weights, options.data, options.quantized, work)
        if options.prepare_only:
            return
        values = measure(work, options.threads, options.rounds)
    print(json.dumps(values) if options.json else "\n\n".join(map(str, tables(values))))
    for isa, peak in values["peaks"].items():
        note(f"peak of {isa}: {peak['gmacs_per_s']:.1f} billion multiply-accumulates a second on one thread")
    for name, reason in values["skipped"].items():
        note(f"{name}: left out: {reason}")
    if options.out is not None:
        write_file(options.out, f"{json.dumps(values, indent=1)}\n".encode())
    if options.plot is not None:
        plot_cpu(values, options.plot)


if __name__ == "__main__":
    main()
