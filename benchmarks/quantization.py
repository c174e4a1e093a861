"""Accuracy after quantization beside ONNX Runtime and NNCF: the same float network, calibration and test images.

    python -m benchmarks.quantization squeezenet1_0 --weights FILE --data IMAGES -o FILE.json

Calibrates on 64 of the images and compares on the others: top-1, top-5, share of images with fp32's class, logits
SQNR. Prints a table and writes a JSON file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

import squeezeedge as sq
from benchmarks.peers import PEERS, float_onnx
from benchmarks.report import note, print_table, versions, write_report
from squeezeedge.calib.selection import calibration_images, evaluation_images
from squeezeedge.evaluation.metrics import agreement, sqnr_db, topk_accuracy
from squeezeedge.evaluation.reports import number
from squeezeedge.graph.oracle import run
from squeezeedge.quantization.pipeline import quantize

THREADS = 2


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="as in `squeezeedge models`")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--seed", type=int, default=0, help="draws the calibration images")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    torch.set_num_threads(THREADS)
    source = sq.load(options.network, options.weights)
    assert source.floating is not None and source.float_logits is not None
    calibration = calibration_images(options.data, seed=options.seed)
    test = evaluation_images(options.data, source.classes, source.labels, without=calibration)
    pixels, images = calibration.load(source.preprocessing), test.load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)

    logits = {"fp32": np.concatenate([source.float_logits(batch) for batch in np.array_split(images, 10)])}
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    graph = quantize(source.floating, source.preprocessing, pixels, name=source.name)
    seconds["squeezeedge"] = time.perf_counter() - start
    logits["squeezeedge"] = graph.logits(run(graph, images))
    model, notes = float_onnx(source.floating), {}
    for name, (packages, make) in PEERS.items():
        notes[name] = versions(packages) or "not installed"
        if notes[name] == "not installed":
            continue
        start = time.perf_counter()
        network = make(model, normalized, THREADS)
        seconds[name] = time.perf_counter() - start
        answers: list[NDArray[np.float32]] = []
        for image in track(images, name, transient=True):
            answers.append(network(source.preprocessing.normalize(image[None])).copy())
        logits[name] = np.concatenate(answers)
    results = {name: _figures(values, logits["fp32"], test.labels) for name, values in logits.items()}
    for name, value in seconds.items():
        results[name]["seconds"] = value
    columns = ["top1", "top5", "agreement", "logits_sqnr_db", "seconds"]
    print_table(
        f"{options.network}: {len(pixels)} calibration images, {len(images)} others",
        ["", *columns],
        [[name, *(number(figures.get(column)) for column in columns)] for name, figures in results.items()],
    )
    for name, found in notes.items():
        note(f"{name}: {found}")
    write_report(
        options.out,
        "quantization",
        network=options.network,
        seed=options.seed,
        images={"calibration": len(pixels), "test": len(images)},
        threads=THREADS,
        peers=notes,
        results=results,
    )


def _figures(
    logits: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64] | None
) -> dict[str, Any]:
    same = logits is reference
    return {
        "top1": topk_accuracy(logits, labels, 1),
        "top5": topk_accuracy(logits, labels, 5),
        "agreement": None if same else agreement(logits, reference),
        "logits_sqnr_db": None if same else sqnr_db(reference, logits),
    }


if __name__ == "__main__":
    main()
