"""Device side of a CPU artifact: the network's shared library through ctypes. It needs Linux and nothing else."""

from __future__ import annotations

import argparse
import ctypes
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from squeezeedge.targets.device.run import Artifact

__all__ = ["FILES", "REQUIRED", "THREADS_VARIABLE", "Network", "Unavailable", "add_arguments"]

LIBRARY = "libmodel.so"
FILES = (LIBRARY,)
REQUIRED: tuple[tuple[str, str], ...] = ()

THREADS_VARIABLE = "SQUEEZEEDGE_THREADS"
DEFAULT_THREADS, MAX_THREADS = 8, 64


class Unavailable(Exception):
    """This machine can't run the library; the text says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The device's own options."""
    text = f"threads (default: ${THREADS_VARIABLE}, else the processors of this process, at most {DEFAULT_THREADS})"
    parser.add_argument("--threads", type=_threads, help=text)


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_THREADS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads: 1 to {MAX_THREADS}")
    return int(text)


def default_threads() -> int:
    """Threads to use: the environment's choice, else the processors that this process may use, at most 8.

    Raises:
        ValueError: the environment's choice is none.
    """
    chosen = os.environ.get(THREADS_VARIABLE)
    if chosen is None:
        return min(len(os.sched_getaffinity(0)), DEFAULT_THREADS)
    try:
        return _threads(chosen)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"environment variable {THREADS_VARIABLE}: {error}") from None


class Network:
    """The library of an artifact, loaded into this process.

    Args:
        artifact: its files.
        threads: how many compute; ``None``: :func:`default_threads`.

    Raises:
        Unavailable: this processor does not have what the library was compiled for.
        ValueError: a damaged file, the library of another network, or a wrong number of threads.
    """

    tolerance = 0.0

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        self._threads = default_threads() if threads is None else threads
        path = artifact.path(LIBRARY)
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise Unavailable(f"{path}: can't be loaded here: {error}") from error
        self._library.squeezeedge_open.restype = ctypes.c_char_p
        self._library.squeezeedge_error.restype = ctypes.c_char_p
        self._library.squeezeedge_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._shape = tuple((ctypes.c_int32 * 3).in_dll(self._library, "squeezeedge_input"))
        self._classes = ctypes.c_int32.in_dll(self._library, "squeezeedge_classes").value
        if (self._shape, self._classes) != (artifact.shape, artifact.classes):
            raise ValueError(f"{path}: the library of another network; compile the model again")
        failure = self._library.squeezeedge_open(ctypes.c_int32(self._threads))
        if failure is not None:
            raise Unavailable(f"{path}: {failure.decode()}")

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, H, W, 3] -> (int32 [N, classes], milliseconds float64 [N] of each image).

        Raises:
            ValueError: images of another shape or type.
            RuntimeError: the library failed.
        """
        images = np.ascontiguousarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(f"images must be uint8 [N, {', '.join(map(str, self._shape))}]")
        sums = np.empty((len(images), self._classes), np.int32)
        latency = np.empty(len(images))
        for i, image in enumerate(images):
            start = time.perf_counter()
            failed = self._library.squeezeedge_run(image.ctypes.data, sums[i].ctypes.data)
            latency[i] = (time.perf_counter() - start) * 1e3
            if failed:
                raise RuntimeError(f"the library failed: {self._library.squeezeedge_error().decode()}")
        return sums, {"latency_ms": latency}

    def about(self) -> dict[str, Any]:
        """How many threads compute."""
        return {"threads": self._threads}

    def close(self) -> None:
        """Stop its threads."""
        self._library.squeezeedge_close()
