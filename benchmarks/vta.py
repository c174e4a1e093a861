"""The accelerator's cycle model: cycles and utilization of a network in both instruction sets.

    python -m benchmarks.vta squeezenet1_1 --weights FILE --data IMAGES -o FILE.json
    python -m benchmarks.vta efficientnet_lite0.onnx --data IMAGES -o FILE.json

Cycles come from the simulator (batch 1, DMA of 8 bytes a cycle and 64 cycles latency), from the first fetch to the last
store; utilization = multiply-accumulates of the network / those of the array in these cycles. Layers with groups are
also counted separately: a depthwise one can use 1 / block of the array (squeezeedge/targets/vta/lower/weights.py).
Published figures for comparison: a Vitis AI DPU of two B4096 cores (2,048 multiply-accumulates a cycle each, 300 MHz)
runs a SqueezeNet 1.1 with 351.7 M multiply-accumulates at 575 images/s with one thread and 1,500 with several.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import squeezeedge as sq
from benchmarks.report import note, print_table, write_report
from squeezeedge.calib.selection import calibration_images
from squeezeedge.evaluation.tables import number
from squeezeedge.graph.oracle import run
from squeezeedge.targets.vta import TARGET
from squeezeedge.targets.vta.isa.encoding import INSTRUCTION_SETS
from squeezeedge.targets.vta.isa.geometry import load_config

DPU_MACS, DPU_ARRAY, DPU_HZ = 351.7e6, 2048, 300e6
DPU_IMAGES_PER_S = {"1 thread, 1 core": (575, 1), "several threads, 2 cores": (1500, 2)}

TIMES = ("latency_ms", "pack_ms", "compile_s", "simulation_s_per_image")
"""Of these the latency is the cycles' and the packing's."""


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="as in `squeezeedge models`, or a file, also an .sqe")
    parser.add_argument("--weights", type=Path, help="checkpoint of a network given by name")
    parser.add_argument("--data", required=True, help="images, for calibration and to run")
    parser.add_argument("--config", default="pynq-z2", help="accelerator, as in `squeezeedge compile --target vta`")
    parser.add_argument("--images", type=int, default=8, help="images to run (default: 8)")
    parser.add_argument(
        "--untimed", action="store_true", help="leave out all times but the cycles; this machine is busy"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    model = sq.load(options.network, options.weights)
    if model.integer is None:
        model = sq.quantize(model, options.data)
    graph = model.integer
    assert graph is not None
    pixels = calibration_images(options.data, count=options.images).load(model.preprocessing)
    name, array = model.name, load_config(options.config).geometry.block ** 2
    names = {conv.name for conv in graph.convolutions if conv.groups > 1}
    results, rows = {}, []
    for instructions in INSTRUCTION_SETS:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            artifact = sq.compile(
                model,
                "vta",
                Path(folder) / "artifact",
                golden=pixels[:1],
                instructions=instructions,
                config=options.config,
            )
            compile_s = time.perf_counter() - start
            start = time.perf_counter()
            with artifact.open("vta-sim") as device:
                answer = device.run(pixels)
            simulation_s = (time.perf_counter() - start) / len(pixels)
            profile = TARGET.profile(artifact.path, pixels[0])
        grouped = [layer for layer in profile.layers if layer.name.partition("+")[0] in names]
        cycles, macs = sum(layer.time for layer in grouped), sum(layer.macs for layer in grouped)
        results[instructions] = {
            **answer.metrics,
            "latency_ms": float(np.median(answer.latency_ms)),
            "bit_exact": bool((answer.sums == run(graph, pixels)).all()),
            "compile_s": compile_s,
            "artifact_bytes": artifact.model_bytes,
            "simulation_s_per_image": simulation_s,
            "grouped": {"cycles": cycles, "macs": macs, "utilization": macs / array / max(cycles, 1)},
            "layers": {layer.name: [profile.utilization(layer), layer.figures["bound"]] for layer in profile.layers},
        }
        if options.untimed:
            for key in TIMES:
                del results[instructions][key]
        rows.append(
            [
                instructions,
                f"{results[instructions]['cycles']:,}",
                number(100 * answer.metrics["gemm_utilization"]),
                f"{cycles:,}",
                number(100 * macs / array / max(cycles, 1)),
                number(answer.metrics["dram_bytes"] / 1e6),
                number(results[instructions].get("latency_ms")),
                number(results[instructions].get("pack_ms")),
                "yes" if results[instructions]["bit_exact"] else "no",
                number(results[instructions].get("compile_s")),
                number(artifact.model_bytes / 1e6),
                number(results[instructions].get("simulation_s_per_image"), 3),
            ]
        )
    print_table(
        f"{name} on {options.config} (simulator), batch 1",
        [
            *("instructions", "cycles", "utilization %", "of it with groups: cycles", "utilization %", "DRAM MB"),
            *("ms at 100 MHz", "of it packing", "bit-exact"),
            *("compile s", "MB", "simulator s / image"),
        ],
        rows,
    )
    published = {how: rate * DPU_MACS / (cores * DPU_ARRAY) / DPU_HZ for how, (rate, cores) in DPU_IMAGES_PER_S.items()}
    for how, share in published.items():
        note(f"published for the DPU on SqueezeNet 1.1, {how}: {100 * share:.0f} % of the peak")
    write_report(
        options.out,
        "vta",
        network=name,
        config=options.config,
        images=len(pixels),
        macs=graph.macs,
        instructions=results,
        dpu_published_utilization=published,
    )


if __name__ == "__main__":
    main()
