"""Accuracy after quantization beside other toolkits: the same float network, calibration and test images.

    python -m benchmarks.quantization squeezenet1_0 --weights FILE --data IMAGES -o FILE.json
    python -m benchmarks.quantization efficientnet_lite0 --weights FILE.onnx --data IMAGES -o FILE.json
    python -m benchmarks.quantization squeezenet1_0 --ablation --only squeezeedge ...
    python -m benchmarks.quantization squeezenet1_0 --calib-images 256 ...

Calibrates on some of the images (64) and compares on the others: top-1, top-5, share of images with fp32's class,
logits SQNR, and processor time of quantization, of all threads. There are several draws, because agreement varies by
more than a point between draws. The peers' answers use exact sums, whatever this processor's 8-bit instructions do
(benchmarks/peers.py). With ``--ablation``, our quantizer also runs with each of its passes left out. Prints a table of
the means and writes a JSON file of all draws, anew after every draw.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

import squeezeedge as sq
from benchmarks.peers import QUANTIZERS, Quantizer, float_onnx
from benchmarks.report import note, print_table, versions, write_report
from benchmarks.torch_peers import TORCH_QUANTIZERS
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.selection import Selection, calibration_images, evaluation_images
from squeezeedge.evaluation.metrics import agreement, sqnr_db, topk_accuracy
from squeezeedge.evaluation.tables import number
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.oracle import run
from squeezeedge.quantization.effort import EFFORTS, Effort
from squeezeedge.quantization.pipeline import quantize

PREPROCESSING = {
    "efficientnet_lite0": Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic")
}
"""Networks that are ONNX files of ImageNet -> what the files do not say."""
OURS: dict[str, Effort] = {"squeezeedge": EFFORTS["fast"], "squeezeedge best": EFFORTS["best"]}
ABLATION: dict[str, Effort] = {
    "without compensate": Effort(compensate=False),
    "without ridge": Effort(ridge=0),
    "without search": Effort(search=False),
    "without gptq": Effort(gptq=False),
    "best without mirror": replace(EFFORTS["best"], mirror=False),
    "best without extra_macs": replace(EFFORTS["best"], extra_macs=0),
}
"""Ours with one of its passes left out: of the effort ``fast``, except where it says ``best``."""
OTHERS: dict[str, Quantizer] = QUANTIZERS | TORCH_QUANTIZERS
OURS_AND_PEERS = (*OURS, *ABLATION, *OTHERS)
COLUMNS = ("top1", "top5", "agreement", "logits_sqnr_db", "cpu_seconds")


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"as in `squeezeedge models`, or {', '.join(PREPROCESSING)}")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--draws", type=int, default=3, help="sets of calibration images, by the seeds 0, 1, 2, ...")
    parser.add_argument("--calib-images", type=int, default=64, help="images in each of them (default: 64)")
    parser.add_argument("--threads", type=int, default=2, help="of everything (default: 2)")
    parser.add_argument(
        "--quantized",
        type=Path,
        nargs="+",
        default=[],
        help=".sqe of the first draws, of `squeezeedge quantize --seed`",
    )
    parser.add_argument("--ablation", action="store_true", help="also ours with each of its passes left out")
    parser.add_argument("--only", nargs="+", choices=OURS_AND_PEERS, default=(*OURS, *OTHERS), help="what is compared")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file; its figures of others are kept")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    source = source_model(options.network, options.weights)
    found = {name: versions(peer.packages) for name, peer in OTHERS.items()}
    notes = {
        name: "not installed"
        if found[name] is None
        else {"versions": found[name], "settings": peer.settings, "arithmetic": peer.arithmetic}
        for name, peer in OTHERS.items()
    }
    draws: list[dict[str, dict[str, Any]]] = []
    only = {*options.only, *(ABLATION if options.ablation else ())}
    before = _before(options.out, options.network, options.calib_images)
    for seed in range(options.draws):
        calibration = calibration_images(options.data, count=options.calib_images, seed=seed)
        quantized = options.quantized[seed] if seed < len(options.quantized) else None
        kept = before[seed] if seed < len(before) else {}
        figures = kept | _draw(source, options.data, calibration, options.threads, quantized, only)
        draws.append({name: figures[name] for name in ("fp32", *OURS_AND_PEERS) if name in figures})
        everywhere = [name for name in draws[0] if all(name in draw for draw in draws)]
        means = {name: {column: _mean(draws, name, column) for column in COLUMNS} for name in everywhere}
        write_report(
            options.out,
            "quantization",
            network=options.network,
            calibration_images=options.calib_images,
            threads=options.threads,
            peers=notes,
            results=means,
            draws=draws,
        )
    print_table(
        f"{options.network}: means of {len(draws)} draws of {options.calib_images} images, tested on the others",
        ["", *COLUMNS],
        [[name, *(number(figures[column]) for column in COLUMNS)] for name, figures in means.items()],
    )
    for name, about in notes.items():
        note(f"{name}: {about}")


def _before(path: Path, network: str, calibration: int) -> list[dict[str, dict[str, Any]]]:
    """The draws that a file has, if there is one."""
    if not path.exists():
        return []
    values = json.loads(path.read_bytes())
    if (values["network"], values["calibration_images"]) != (network, calibration):
        raise SystemExit(f"{path}: is of another network or number of images; give another file with -o")
    draws: list[dict[str, dict[str, Any]]] = values["draws"]
    return draws


def source_model(network: str, weights: Path) -> sq.Model:
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


def _draw(
    source: sq.Model, data: str, calibration: Selection, threads: int, quantized: Path | None, only: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Figures of the requested and installed quantizers on these images; ``quantized`` replaces a run of ours."""
    assert source.floating is not None and source.float_logits is not None
    test = evaluation_images(data, source.classes, source.labels, without=calibration)
    pixels, images = calibration.load(source.preprocessing), test.load(source.preprocessing)
    normalized = source.preprocessing.normalize(pixels)
    logits = {"fp32": source.float_logits(images)}
    seconds: dict[str, float] = {}
    for name, effort in (OURS | ABLATION).items():
        if name not in only:
            continue
        if name == "squeezeedge" and quantized is not None:
            graph = _quantized_before(quantized, pixels)
        else:
            start = time.process_time()
            graph = quantize(source.floating, source.preprocessing, pixels, name=source.name, effort=effort)
            seconds[name] = time.process_time() - start
        logits[name] = graph.logits(run(graph, images))
    model = float_onnx(source.floating)
    for name, peer in OTHERS.items():
        if name not in only or versions(peer.packages) is None:
            continue
        start = time.process_time()
        network = peer.make(model, normalized, threads)
        seconds[name] = time.process_time() - start
        answers: list[NDArray[np.float32]] = []
        for image in track(images, name, transient=True):
            answers.append(network(source.preprocessing.normalize(image[None])).copy())
        logits[name] = np.concatenate(answers)
    results = {name: _figures(values, logits["fp32"], test.labels) for name, values in logits.items()}
    for name, value in seconds.items():
        results[name]["cpu_seconds"] = value
    return results


def _quantized_before(path: Path, pixels: NDArray[np.uint8]) -> IntegerGraph:
    """The integer graph of a file, if it was quantized on these images."""
    model = sq.load(path)
    if model.integer is None or model.calibrated_on != frozenset(fingerprints(pixels)):
        raise SystemExit(f"{path}: was quantized on other images than this draw's; give another .sqe")
    return model.integer


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
