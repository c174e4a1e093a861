"""Trained networks beside each other: accuracy, size, cycles of the accelerator, time on this processor.

    python -m benchmarks.variants RUN1/best.safetensors RUN2/best.safetensors --data IMAGES -o FILE.json

Each network is quantized on images of the part `train`, compiled for cpu and vta and compared with the oracle: on cpu
all test images, on the accelerator's simulator a few. Time is the median of single images with one thread; the networks
take turns. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import write_report
from squeezeedge.artifact import Artifact, write_artifact
from squeezeedge.cli.output import emit_table, note, number, progress
from squeezeedge.cli.pipeline import DataOptions, calibration_images, evaluation_images, to_integer
from squeezeedge.cli.source import Source, load_source
from squeezeedge.evaluation.evaluate import Device, evaluate
from squeezeedge.targets.cpu.run import THREADS_VARIABLE
from squeezeedge.targets.registry import get_target

DEVICES = {"cpu": "cpu", "vta": "vta-sim"}
"""Target -> device."""
THREADS = 1


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="as `squeezeedge train` writes them")
    parser.add_argument("--data", required=True, help="images with the parts train and test")
    parser.add_argument("--simulated", type=int, default=32, help="images for the simulator (default: 32)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing (default: 5)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    os.environ[THREADS_VARIABLE] = str(THREADS)
    data = DataOptions(data=options.data)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        runners = {}
        for path in options.checkpoints:
            source = load_source(str(path))
            artifacts = _compile(source, data, Path(scratch) / source.name)
            results[source.name] = _compare(source, artifacts, data, options.simulated)
            runners[source.name] = stack.enter_context(get_target("cpu").open(artifacts["cpu"].path, "cpu"))
            pixels = calibration_images(source, data).load(source.preprocessing)
        times: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(options.rounds):
            for name, runner in runners.items():
                times[name].extend(runner(pixels).latency_ms)
    for name, values in times.items():
        results[name]["cpu_ms"] = float(np.median(values))
    columns = ["network", "parameters", "million MACs", "fp32 %", "int8 %", "VTA cycles", "utilization %", "CPU ms"]
    rows = [
        [
            name,
            f"{result['parameters']:,}",
            number(result["macs"] / 1e6),
            number(result["fp32_top1"]),
            number(result["int8_top1"]),
            f"{result['cycles']:,}",
            number(100 * result["gemm_utilization"]),
            number(result["cpu_ms"], 3),
        ]
        for name, result in results.items()
    ]
    emit_table(f"on {options.data}", columns, rows)
    write_report(options.out, "variants", threads=THREADS, images=options.data.rpartition("/")[2], networks=results)
    note(f"written: {options.out}")


def _compile(source: Source, data: DataOptions, folder: Path) -> dict[str, Artifact]:
    """One artifact for each target, of the same integer graph."""
    graph, calibrated_on = to_integer(source, data)
    assert calibrated_on is not None
    golden = calibrated_on.dataset.load(graph.preprocessing, calibrated_on.indices[:1])
    folder.mkdir()
    artifacts = {}
    for name in DEVICES:
        target = get_target(name)
        artifacts[name] = write_artifact(
            graph, target, target.options(), folder / name, golden=golden, source=source.origin
        )
    return artifacts


def _compare(source: Source, artifacts: dict[str, Artifact], data: DataOptions, simulated: int) -> dict[str, Any]:
    """Accuracy and exactness."""
    images = evaluation_images(source, data, None)
    graph = artifacts["cpu"].graph
    reports = {}
    for (name, device), count in zip(DEVICES.items(), (len(images.indices), simulated), strict=True):
        artifact = artifacts[name]
        opened = Device(
            device,
            artifact.target.devices[device],
            artifact.model_bytes,
            partial(artifact.target.open, artifact.path, device),
        )
        some, labels = images.indices[:count], images.labels
        assert labels is not None
        with progress(f"{source.name} on {device}", count) as advance:
            batches = images.dataset.batches(graph.preprocessing, 64, some)
            (reports[name],) = evaluate(graph, [opened], batches, labels[:count], source.float_logits, advance)
    cpu, vta = reports["cpu"], reports["vta"]
    assert source.module is not None
    return {
        "input": list(graph.input_shape),
        "parameters": sum(parameter.numel() for parameter in source.module.parameters()),
        "macs": graph.macs,
        "images": cpu.images,
        "fp32_top1": cpu.fp32_top1,
        "int8_top1": cpu.top1,
        "bit_exact": {device: reports[name].bit_exact for name, device in DEVICES.items()},
        "cycles": vta.metrics["cycles"],
        "gemm_utilization": vta.metrics["gemm_utilization"],
    }


if __name__ == "__main__":
    main()
