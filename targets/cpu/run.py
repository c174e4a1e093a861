#!/usr/bin/env python3
"""Device side of a CPU artifact: needs Python 3.8+ and numpy; Pillow too, to read image files.

    python run.py                      check the library on the golden inputs
    python run.py cat.jpg images.npy   classify image files, or uint8 [N, height, width, 3] arrays

Prints one JSON object a line. Exit codes: 0 done, 1 a known failure, 3 this machine can't run the library, 4 the
golden inputs gave wrong sums.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = "libmodel.so"
THREADS_VARIABLE = "SQUEEZEEDGE_THREADS"


class Unavailable(Exception):
    """This machine can't run the library; the text says why."""


class Network:
    """The library of an artifact, opened."""

    def __init__(self, artifact: Path, threads: int) -> None:
        try:
            self._library = ctypes.CDLL(str((artifact / LIBRARY).resolve()))
        except OSError as error:
            raise Unavailable(f"{artifact / LIBRARY}: can't be loaded here: {error}") from error
        self._library.squeezeedge_open.restype = ctypes.c_char_p
        self._library.squeezeedge_error.restype = ctypes.c_char_p
        self._library.squeezeedge_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        failure = self._library.squeezeedge_open(ctypes.c_int32(threads))
        if failure is not None:
            raise Unavailable(f"{artifact / LIBRARY}: {failure.decode()}")
        self.threads = threads
        self.shape = tuple((ctypes.c_int32 * 3).in_dll(self._library, "squeezeedge_input"))
        self.classes = ctypes.c_int32.in_dll(self._library, "squeezeedge_classes").value

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], milliseconds float64 [N])."""
        images = np.ascontiguousarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, self.shape))}]")
        sums = np.empty((len(images), self.classes), np.int32)
        latency = np.empty(len(images))
        for i, image in enumerate(images):
            start = time.perf_counter()
            failed = self._library.squeezeedge_run(image.ctypes.data, sums[i].ctypes.data)
            latency[i] = (time.perf_counter() - start) * 1e3
            if failed:
                raise RuntimeError(f"the library failed: {self._library.squeezeedge_error().decode()}")
        return sums, latency

    def close(self) -> None:
        """Stop its threads."""
        self._library.squeezeedge_close()


def default_threads() -> int:
    """Threads to use: the environment's choice, else the processors that this process may use, at most 8."""
    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen is not None:
        return int(chosen)
    return min(len(os.sched_getaffinity(0)), 8)


def read_images(path: Path, record: dict[str, Any]) -> np.ndarray:
    """Images of a file as the manifest's preprocessing record says: uint8 [N, height, width, 3]."""
    if path.suffix == ".npy":
        return np.asarray(np.load(str(path), allow_pickle=False))
    from PIL import Image

    height, width = record["size"]
    resample = getattr(Image, record["interpolation"].upper())
    with Image.open(str(path)) as file:
        if file.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: pixels have more than 8 bits a channel; convert the image to RGB")
        transparent = file.mode == "P" and "transparency" in file.info
        rgb = (file.convert("RGBA") if transparent else file).convert("RGB")
    if record["resize"] is None:
        return np.asarray(rgb.resize((width, height), resample))[None]
    short = min(rgb.size)
    if short != record["resize"]:
        rgb = rgb.resize((rgb.width * record["resize"] // short, rgb.height * record["resize"] // short), resample)
    left, top = round((rgb.width - width) / 2), round((rgb.height - height) / 2)
    return np.asarray(rgb.crop((left, top, left + width, top + height)))[None]


def _answers(
    path: Path, sums: np.ndarray, latency: np.ndarray, manifest: dict[str, Any], top: int
) -> Iterator[dict[str, Any]]:
    logits = sums * np.asarray(manifest["logit_scale"], np.float32)
    labels = manifest["labels"]
    for index, row in enumerate(logits):
        best = np.argsort(-row, kind="stable")[:top]
        yield {
            "image": str(path),
            "index": index,
            "classes": [int(c) for c in best],
            "labels": [labels[c] for c in best] if labels else None,
            "logits": [float(row[c]) for c in best],
            "latency_ms": float(latency[index]),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description="Run the compiled network on images, or check it.")
    parser.add_argument("images", nargs="*", type=Path, help="image files or .npy arrays; none: check the library")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads (default: %(default)s)")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default: 5)")
    options = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text())
    try:
        network = Network(folder, options.threads)
        with np.load(str(folder / "golden.npz"), allow_pickle=False) as golden:
            sums, latency = network.run(golden["images"])
            wrong = int((sums != golden["sums"]).sum())
        print(json.dumps({"golden": len(sums), "differing_sums": wrong, "latency_ms": float(np.median(latency))}))
        if wrong:
            print(f"run.py: error: {wrong} class sums differ from the golden ones", file=sys.stderr)
            return 4
        for path in options.images:
            images = read_images(path, manifest["preprocessing"])
            sums, latency = network.run(images)
            for answer in _answers(path, sums, latency, manifest, options.top):
                print(json.dumps(answer))
    except Unavailable as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 3
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"run.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
