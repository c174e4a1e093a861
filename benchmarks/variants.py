"""Compares trained networks: accuracy, size, cycles of the accelerator, time on this processor.

    python -m benchmarks.variants RUN1/best.safetensors RUN2/best.safetensors --data IMAGES -o FILE.json

Each network is quantized on images of the part `train`, compiled for cpu and vta and compared with the oracle: on all
test images on cpu, on a few on the accelerator's simulator. Time is the median of single images with one thread; the
networks take turns. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import squeezeedge as sq
from benchmarks.report import note, print_table, write_report
from squeezeedge.calib.selection import Selection, evaluation_images
from squeezeedge.evaluation.tables import number
from squeezeedge.targets.cpu.device import THREADS_VARIABLE

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
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        devices = {}
        for path in options.checkpoints:
            model = sq.quantize(sq.load(path), options.data)
            folder = Path(scratch) / model.name
            folder.mkdir()
            artifacts = {target: sq.compile(model, target, folder / target) for target in DEVICES}
            results[model.name] = _compare(model, artifacts, options.data, options.simulated)
            devices[model.name] = stack.enter_context(artifacts["cpu"].open("cpu"))
            assert model.calibration is not None
            pixels = model.calibration.load(model.preprocessing)
        times: dict[str, list[float]] = {name: [] for name in devices}
        for _ in range(options.rounds):
            for name, device in devices.items():
                times[name].extend(device.run(pixels).latency_ms)
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
    print_table(f"on {options.data}", columns, rows)
    write_report(options.out, "variants", threads=THREADS, images=options.data.rpartition("/")[2], networks=results)
    note(f"written: {options.out}")


def _compare(model: sq.Model, artifacts: dict[str, sq.Artifact], data: str, simulated: int) -> dict[str, Any]:
    """Accuracy and exactness."""
    images = evaluation_images(data, model.classes, model.labels)
    graph = artifacts["cpu"].graph
    reports = {}
    for (target, device), count in zip(DEVICES.items(), (len(images), simulated), strict=True):
        some = Selection(images.dataset, images.indices[:count])
        note(f"{model.name} on {device}: {len(some)} images")
        (reports[target],) = sq.evaluate(artifacts[target], some, device, reference=model).devices
    cpu, vta = reports["cpu"], reports["vta"]
    assert model.module is not None
    return {
        "input": list(graph.input_shape),
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
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
