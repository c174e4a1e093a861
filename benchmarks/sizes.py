"""The bytes of trained networks: in fp32, in int8, and as .sqe files.

    python -m benchmarks.sizes squeezenet1_0=WEIGHTS.pth squeezenet1_1=WEIGHTS.pth --data IMAGES -o FILE.json

Each network is quantized on images of --data. Prints a table and writes a JSON file. `raw` are the integer graph's
unencoded arrays. `.sqe` is the whole file that `squeezeedge quantize` writes; `graph alone` is the same without the
record (an artifact's model.sqe). Decoding is the least processor time of three runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import squeezeedge as sq
from benchmarks.report import note, print_table, write_report
from squeezeedge.graph.sqe import read_sqe, write_sqe

ALEXNET_BYTES = 240_000_000
"""fp32, as table 2 of the SqueezeNet paper has it (Iandola et al., 2016; arXiv:1602.07360)."""
PUBLISHED = {
    "SqueezeNet 1.0, Deep Compression: as claimed": 470_000,
    "SqueezeNet 1.0, Deep Compression: the published file": 660_000,
    "SqueezeNet 1.0, NNCodec 2.1.3, top-1 - 1.3 points": 410_732,
    "SqueezeNet 1.1, NNCodec 2.1.3, no loss": 646_330,
    "SqueezeNet 1.1, NNCodec 2.1.3, top-1 - 3 points": 504_646,
}
"""Sizes of others in bytes; NNCodec computes in fp32."""


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK=WEIGHTS", help="networks with their checkpoints")
    parser.add_argument("--data", required=True, help="calibration images")
    parser.add_argument("--classes", type=Path, help="the data's class list")
    parser.add_argument("--calib-images", type=int, default=64, help="how many images (default: 64)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    results = {}
    for text in options.networks:
        name, _, weights = text.partition("=")
        note(f"quantizing {name}")
        model = sq.quantize(sq.load(name, weights), options.data, count=options.calib_images, classes=options.classes)
        results[name] = _sizes(model)
    rows = [
        [
            name,
            *(f"{result[key]:,}" for key in ("fp32", "raw", "sqe", "graph_alone")),
            f"{ALEXNET_BYTES / result['sqe']:.0f}",
            f"{result['decode_s']:.2f}",
        ]
        for name, result in results.items()
    ]
    columns = ["network", "fp32", "int8 raw", ".sqe", "graph alone", "AlexNet / .sqe", "decode s"]
    print_table("bytes", columns, rows)
    print_table("others", ["network", "bytes"], [[name, f"{size:,}"] for name, size in PUBLISHED.items()])
    write_report(options.out, "sizes", alexnet=ALEXNET_BYTES, published=PUBLISHED, networks=results)
    note(f"written: {options.out}")


def _sizes(model: sq.Model) -> dict[str, Any]:
    """Bytes of one network, and how long its file takes to read."""
    graph = model.integer
    assert graph is not None and model.module is not None
    with tempfile.TemporaryDirectory() as scratch:
        whole, alone = Path(scratch, "whole.sqe"), Path(scratch, "alone.sqe")
        model.save(whole)
        write_sqe(graph, alone)
        times = []
        for _ in range(3):
            begin = time.process_time()
            read = read_sqe(whole)
            times.append(time.process_time() - begin)
        assert read.digest() == graph.digest()
        return {
            "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
            "fp32": 4 * sum(parameter.numel() for parameter in model.module.parameters()),
            "raw": sum(array.nbytes for array in graph.to_parts()[1].values()),
            "sqe": whole.stat().st_size,
            "graph_alone": alone.stat().st_size,
            "decode_s": round(min(times), 3),
        }


if __name__ == "__main__":
    main()
