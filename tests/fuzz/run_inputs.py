"""What run.py is given: arrays in .npy form on the standard input and in files."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np

from squeezeedge.targets.device import run
from tests.fuzz import Files, Format
from tests.fuzz.containers import change_npy
from tests.fuzz.devices import Refused, of_device
from tests.fuzz.values import change_bytes
from tests.targets.device.artifact import PREPROCESSING, FakeArtifact

__all__ = ["ARRAYS"]

INPUT, PROGRAM = "input.npy", "run.py"


def _seeds() -> list[Files]:
    with tempfile.TemporaryDirectory() as place:
        artifact = FakeArtifact(Path(place, "artifact"))
        files = {path.name: path.read_bytes() for path in artifact.folder.iterdir()}
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)
    seeds: list[Files] = []
    for arrays in ([images], [images[0]], [images, images[:1]], [images[:0], images]):
        stream = io.BytesIO()
        for array in arrays:
            np.lib.format.write_array(stream, array)
        seeds.append({**files, INPUT: stream.getvalue()})
    return seeds


def _mutate(random: Random, files: Files) -> Files:
    change = change_npy if random.random() < 0.8 else change_bytes
    return {**files, INPUT: change(random, files[INPUT])}


def _main(folder: Path, source: str) -> None:
    """run.py of the folder; every exit code that it documents is an answer."""
    errors = io.StringIO()
    with mock.patch.dict(sys.modules), mock.patch("sys.stderr", errors):
        with mock.patch.object(run, "__file__", str(folder / PROGRAM)):
            code = run.main([source])
    if code not in (run.DONE, run.FAILED, run.UNAVAILABLE, run.WRONG_SUMS):
        raise AssertionError(f"exit code {code}")
    lines = errors.getvalue().splitlines()
    if bool(lines) != (code != run.DONE) or not all(line.startswith("run.py: error: ") for line in lines):
        raise AssertionError(f"exit code {code}, standard error: {errors.getvalue()}")
    if code != run.DONE:
        raise Refused(lines[0])


def _standard_input(folder: Path) -> None:
    before = os.dup(0)
    try:
        with (folder / INPUT).open("rb") as file:
            os.dup2(file.fileno(), 0)
            _main(folder, "-")
    finally:
        os.dup2(before, 0)
        os.close(before)


def _read(folder: Path) -> object:
    with of_device(folder):
        return run.read_images(folder / INPUT, PREPROCESSING.to_json())


ARRAYS = Format(
    name="arrays",
    share=10,
    seeds=_seeds,
    mutate=_mutate,
    readers=(_standard_input, _read),
    rare=(lambda folder: _main(folder, str(folder / INPUT)),),
)
