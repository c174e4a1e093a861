"""Accuracy after quantization beside ONNX Runtime and NNCF: the same float network, calibration and test images.

    python -m benchmarks.quantization squeezenet1_0 --weights FILE --data IMAGES -o FILE.json
    python -m benchmarks.quantization efficientnet_lite0 --weights FILE.onnx --data IMAGES -o FILE.json

Calibrates on 64 of the images and compares on the others: top-1, top-5, share of images with fp32's class, logits
SQNR. Several draws of the 64, because agreement varies by more than a point from one to the next. Prints a table of the
means and writes a JSON file of all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

import squeezeedge as sq
from benchmarks.peers import PEERS, float_onnx
from benchmarks.report import note, print_table, versions, write_report
from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.selection import calibration_images, evaluation_images
from squeezeedge.evaluation.metrics import agreement, sqnr_db, topk_accuracy
from squeezeedge.evaluation.tables import number
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.oracle import run
from squeezeedge.quantization.pipeline import quantize

THREADS = 2
CALIBRATION = 64
PREPROCESSING = {
    "efficientnet_lite0": Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic")
}
"""Networks that are ONNX files of ImageNet -> what the files do not say."""
COLUMNS = ("top1", "top5", "agreement", "logits_sqnr_db", "seconds")


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"as in `squeezeedge models`, or {', '.join(PREPROCESSING)}")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--draws", type=int, default=3, help="sets of calibration images, by the seeds 0, 1, 2, ...")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    torch.set_num_threads(THREADS)
    source = _source(options.network, options.weights)
    notes = {name: versions(packages) or "not installed" for name, (packages, _) in PEERS.items()}
    draws = [_draw(source, options.data, seed, notes) for seed in range(options.draws)]
    means = {name: {column: _mean(draws, name, column) for column in COLUMNS} for name in draws[0]}
    print_table(
        f"{options.network}: means of {options.draws} draws of {CALIBRATION} calibration images, tested on the others",
        ["", *COLUMNS],
        [[name, *(number(figures[column]) for column in COLUMNS)] for name, figures in means.items()],
    )
    for name, found in notes.items():
        note(f"{name}: {found}")
    write_report(
        options.out,
        "quantization",
        network=options.network,
        calibration_images=CALIBRATION,
        threads=THREADS,
        peers=notes,
        results=means,
        draws=draws,
    )


def _source(network: str, weights: Path) -> sq.Model:
    """A network with its preprocessing."""
    if network not in PREPROCESSING:
        return sq.load(network, weights)
    model, preprocessing = sq.load(weights), PREPROCESSING[network]
    floating = model.floating
    assert floating is not None
    return replace(
        model,
        name=network,
        preprocessing=preprocessing,
        labels=imagenet_classes().names,
        float_logits=lambda images: run_float(floating, preprocessing.normalize(images)),
    )


def _draw(source: sq.Model, data: str, seed: int, notes: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Figures of everything that is here, calibrated on the images that a seed draws."""
    assert source.floating is not None and source.float_logits is not None
    calibration = calibration_images(data, count=CALIBRATION, seed=seed)
    test = evaluation_images(data, source.classes, source.labels, without=calibration)
    pixels, images = calibration.load(source.preprocessing), test.load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)
    logits = {"fp32": source.float_logits(images)}
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    graph = quantize(source.floating, source.preprocessing, pixels, name=source.name)
    seconds["squeezeedge"] = time.perf_counter() - start
    logits["squeezeedge"] = graph.logits(run(graph, images))
    model = float_onnx(source.floating)
    for name, (_, make) in PEERS.items():
        if notes[name] == "not installed":
            continue
        start = time.perf_counter()
        network = make(model, normalized, THREADS)
        seconds[name] = time.perf_counter() - start
        answers: list[NDArray[np.float32]] = []
        for image in track(images, f"{name}, draw {seed}", transient=True):
            answers.append(network(source.preprocessing.normalize(image[None])).copy())
        logits[name] = np.concatenate(answers)
    results = {name: _figures(values, logits["fp32"], test.labels) for name, values in logits.items()}
    for name, value in seconds.items():
        results[name]["seconds"] = value
    return results


def _mean(draws: Sequence[Mapping[str, Mapping[str, Any]]], name: str, column: str) -> float | None:
    values = [draw[name].get(column) for draw in draws]
    return None if None in values else float(np.mean([value for value in values if value is not None]))


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
