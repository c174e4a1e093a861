"""Runs an Ascend artifact: on a device here, on one over ssh, or on the emulation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import execute
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL
from squeezeedge.targets.ascend.deploy import sum_scale
from squeezeedge.targets.ascend.emulate import Emulator, quantize
from squeezeedge.targets.ascend.run import GOLDEN, MANIFEST, MODEL, Artifact, Network, Unavailable
from squeezeedge.targets.protocol import Runner, RunResult
from squeezeedge.targets.remote import SCRIPT, open_remote

__all__ = ["differing_values", "model_lines", "open_emulation", "open_here", "open_there"]

GRAPH = "model.sqe"
BATCH = 8
COMPARED = 2


@contextmanager
def open_here(artifact: Path) -> Iterator[Runner]:
    """This machine's first device.

    Raises:
        UnavailableError: there is no device, runtime or converted model.
        SqueezeEdgeError: the device fails, or a file is damaged.
    """
    with _failures(artifact):
        network = Network(Artifact(artifact), 0)

    def run(images: NDArray[np.uint8]) -> RunResult:
        with _failures(artifact):
            return RunResult(*network.run(images), {"runtime": network.runtime})

    try:
        yield run
    finally:
        with _failures(artifact):
            network.close()


@contextmanager
def _failures(artifact: Path) -> Iterator[None]:
    """Failures of run.py as errors of ours."""
    try:
        yield
    except Unavailable as error:
        raise UnavailableError(f"{error}; or use --board user@host, or --emulate") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise SqueezeEdgeError(f"{artifact}: {error}") from error


@contextmanager
def open_there(artifact: Path, board: str) -> Iterator[Runner]:
    """Another machine's device over ssh; its login shell must set up CANN.

    Raises:
        UnavailableError: the model is not converted, or the machine does not answer or has no device.
        SqueezeEdgeError: see :func:`squeezeedge.targets.remote.open_remote`.
    """
    try:
        Artifact(artifact).model()
    except Unavailable as error:
        raise UnavailableError(str(error)) from None
    with open_remote(board, [artifact / name for name in (SCRIPT, MANIFEST, GOLDEN, MODEL)]) as remote:

        def run(images: NDArray[np.uint8]) -> RunResult:
            answers = remote(images)
            return RunResult(answers.sums, answers.latency_ms, {"runtime": str(answers.check.get("runtime"))})

        yield run


@contextmanager
def open_emulation(artifact: Path) -> Iterator[Runner]:
    """The deploy model with the device's arithmetic; latency is this machine's.

    The metric ``differing_values`` is, for each layer, the percentage of values that differ from the oracle's (R3),
    over the first two images.
    """
    graph, emulator = read_sqe(artifact / GRAPH), Emulator(_read_model(artifact))
    scale, limit = sum_scale(graph), np.iinfo(np.int32)
    metrics: dict[str, Any] = {}

    def run(images: NDArray[np.uint8]) -> RunResult:
        sums, latency = np.empty((len(images), graph.classes), np.int32), np.empty(len(images))
        for begin in range(0, len(images), BATCH):
            part = slice(begin, begin + BATCH)
            start = time.perf_counter()
            means = emulator.run(images[part]).astype(np.float64).reshape(-1, 2, graph.classes).sum(1)
            latency[part] = (time.perf_counter() - start) * 1e3 / len(means)
            sums[part] = np.rint(means * scale).clip(limit.min, limit.max)
        if not metrics:
            metrics["differing_values"] = differing_values(graph, emulator, images[:COMPARED])
        return RunResult(sums, latency, metrics)

    yield run


def differing_values(graph: IntegerGraph, emulator: Emulator, images: NDArray[np.uint8]) -> dict[str, float]:
    """Percentage of values that differ from the oracle's, for each node but the head.

    Args:
        graph: the integer graph.
        emulator: its deploy model.
        images: uint8 [N, height, width, 3].
    """
    expected = [dict(execute(graph, image)) for image in images]
    shares = {}
    for name, value in emulator.tensors(images):
        if name in graph.tensors and name != graph.head.name:
            tensor = graph.tensors[name]
            kept = quantize(value[:, : tensor.channels], 1, tensor.zero_point - 128).numpy().transpose(0, 2, 3, 1)
            values = np.stack([result[name] for result in expected])
            shares[name] = 100 * float(np.mean(kept.astype(np.int16) + 128 != values))
    return shares


def model_lines(artifact: Path) -> Iterator[str]:
    """The deploy model's graph in ONNX's text form, without the constants' values."""
    graph = _read_model(artifact).graph
    del graph.initializer[:]
    yield from onnx.printer.to_text(graph).splitlines()


def _read_model(artifact: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model(artifact / DEPLOY_MODEL)
    except (OSError, DecodeError) as error:
        raise CorruptFileError(
            f"{artifact / DEPLOY_MODEL}: cannot be read ({error}); compile the model again"
        ) from error
