"""FAKE device: class sums are sums of pixels. FAKE_FAULT makes it fail."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squeezeedge.targets.device.run import Artifact

FAULT = os.environ.get("FAKE_FAULT", "")
FILES = ("weights*.bin",)
REQUIRED = (("weights.bin", "missing, the FAKE device needs it"),)


class Unavailable(Exception):
    """The device is not here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gain", type=int, default=1, help="a factor")
    parser.add_argument("--measure", type=int)


class Network:
    """Class c has the weight c + 1."""

    tolerance = float(os.environ.get("FAKE_TOLERANCE", 0))

    def __init__(self, artifact: Artifact, gain: int = 1) -> None:
        if FAULT == "unavailable":
            raise Unavailable("there is no FAKE device;\n plug it in")
        self._weight = np.frombuffer(artifact.read("weights.bin"), np.int32)
        self._gain, self._offset = gain, int(FAULT == "near")

    def run(self, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if FAULT == "broken" or (FAULT == "breaks" and len(images) == 1):
            raise RuntimeError("the FAKE device is on fire")
        if FAULT == "hangs" and len(images) == 1:
            time.sleep(1000)
        if FAULT == "interrupt":
            raise KeyboardInterrupt
        totals = images.astype(np.int32).sum((1, 2, 3))
        sums = self._gain * totals[:, None] * self._weight + self._offset
        latency = 1.0 + np.arange(len(images))
        return sums.astype(np.int32), {"latency_ms": latency, "fake_ms": latency / 2}

    def trace(self, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        if FAULT == "no-trace":
            raise RuntimeError("the FAKE device shows nothing")
        yield "blocks/1", image ^ np.uint8(255)
        yield "head", self.run(image[None])[0][0]

    def unseen(self) -> dict[str, str]:
        return {"blocks/2": "it is a FAKE"}

    def about(self) -> dict[str, Any]:
        return {"gain": self._gain, "fake": True}

    def close(self) -> None:
        print("closed", flush=True)


def measure(network: Network, artifact: Artifact, options: argparse.Namespace) -> dict[str, Any] | None:
    return {"measured": options.measure, "shape": list(artifact.golden()[0].shape)} if options.measure else None
