"""Latency at batch 1 beside ONNX Runtime and OpenVINO, interleaved in one process.

    python -m benchmarks.latency squeezenet1_1 --weights FILE --data IMAGES --threads 1 -o FILE.json
    python -m benchmarks.latency efficientnet_lite0 --weights FILE.onnx --data IMAGES -o FILE.json

Prints a table and writes a JSON file; ratios are peer time / own time, of the minima.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import squeezeedge as sq
from benchmarks.peers import PEERS, float_onnx
from benchmarks.quantization import PREPROCESSING, source_model
from benchmarks.report import note, print_table, versions, write_report
from squeezeedge.calib.selection import calibration_images
from squeezeedge.evaluation.tables import number
from squeezeedge.targets.cpu.device import Network
from squeezeedge.targets.cpu.options import CpuOptions, choose_isa
from squeezeedge.targets.device.run import Artifact as DeviceArtifact

ROUNDS, REPEATS = 15, 40


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"as in `squeezeedge models`, or {', '.join(PREPROCESSING)}")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="calibration images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quantized", type=Path, help=".sqe of the network; else it is quantized")
    parser.add_argument("--isa", default="auto,avx512-vnni", help="instruction sets, separated by commas")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    source = source_model(options.network, options.weights)
    assert source.floating is not None
    pixels = calibration_images(options.data).load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)
    model = sq.quantize(source, options.data) if options.quantized is None else sq.load(options.quantized)
    runs: dict[str, Callable[[], object]] = {}
    notes: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for isa in dict.fromkeys(choose_isa(CpuOptions(isa=name)) for name in options.isa.split(",")):
            artifact = sq.compile(model, "cpu", Path(folder) / isa, isa=isa)
            network = Network(DeviceArtifact(artifact.path), options.threads)
            runs[f"squeezeedge {isa}"] = partial(network.run, pixels[:1])
        floating = float_onnx(source.floating)
        for name, peer in PEERS.items():
            found = versions(peer.packages)
            notes[name] = found or "not installed"
            if found:
                runs[name] = partial(peer.make(floating, normalized, options.threads), normalized[:1])
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, call in runs.items():
                call()
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    call()
                    best[name] = min(best[name], (time.perf_counter() - start) * 1e3)
    own = {name: value for name, value in best.items() if name.startswith("squeezeedge")}
    rows = [[name, number(best[name], 3), *(number(best[name] / value) for value in own.values())] for name in best]
    print_table(
        f"{options.network}, batch 1, {options.threads} thread(s), milliseconds (minimum)",
        ["", "ms", *(f"/ {name.removeprefix('squeezeedge ')}" for name in own)],
        rows,
    )
    for name, text in notes.items():
        note(f"{name}: {text}")
    write_report(
        options.out,
        "latency",
        network=options.network,
        threads=options.threads,
        environment={key: value for key, value in os.environ.items() if key.startswith("ONEDNN_")},
        peers=notes,
        ms=best,
        ratio={peer: {name: best[peer] / value for name, value in own.items()} for peer in PEERS if peer in best},
    )


if __name__ == "__main__":
    main()
