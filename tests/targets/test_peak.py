"""The measured peak: a network of convolutions, and the fastest run of the fastest of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.peak import RUNS, measured_rate, suitable
from squeezeedge.targets.registry import get_target
from tests.targets.device.target import TARGET


def test_the_network() -> None:
    """Nothing of it is constant for all images, or dead."""
    graph = suitable(6, (8, 4))
    assert graph.input_shape == (6, 6, 3) and [node.weight.shape[0] for node in graph.convolutions] == [8, 4, 1]
    assert graph.macs == 36 * (9 * 3 * 8 + 9 * 8 * 4 + 4)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)
    first, second = run(graph, images)
    assert (first != second).all()


class Written:
    """Writes what the layers are; ``lower`` returns it."""

    def __init__(self, graph: IntegerGraph) -> None:
        self.graph = graph

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "file").write_text("what was compiled")
        return {"layers": [{"macs": macs} for macs in (0, 1000, 900)]}


class Clocked:
    """Its second kernel takes 5 ms, and once 2; its third 3."""

    closed = 0

    def __init__(self, artifact: Artifact) -> None:
        assert artifact.read("file") == b"what was compiled" and artifact.has("file") and not artifact.has("other")
        assert (artifact.shape, artifact.classes) == ((4, 4, 3), 1)

    def kernel_times(self, image: NDArray[np.uint8], runs: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        assert image.shape == (4, 4, 3)
        clock = np.tile([0.0, 1, 6, 9], (runs, 1))
        clock[runs // 2] = [0, 1, 3, 6] if runs == RUNS else [0, 0.1, 0.2, 0.3]
        return np.zeros(1, np.int32), clock

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Mapping[str, NDArray[np.float64]]]:
        raise NotImplementedError

    def about(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        type(self).closed += 1


def test_the_fastest_run_of_the_fastest_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs before those that count do not."""
    monkeypatch.setattr(TARGET, "lower", lambda graph, options: Written(graph), raising=False)
    monkeypatch.setattr(Clocked, "closed", 0)
    assert measured_rate(TARGET, None, suitable(4, (8,)), Clocked) == 1000 / 2 and Clocked.closed == 1

    def fails(*_: object) -> None:
        raise RuntimeError("the device is on fire")

    monkeypatch.setattr(Clocked, "kernel_times", fails)
    with pytest.raises(SqueezeEdgeError, match="on fire"):
        measured_rate(TARGET, None, suitable(4, (8,)), Clocked)
    assert Clocked.closed == 2


@pytest.mark.slow
def test_on_this_processor() -> None:
    from squeezeedge.targets.cpu import CpuOptions
    from squeezeedge.targets.cpu.device import Network

    graph = suitable(8, (8,))
    rate = measured_rate(get_target("cpu"), CpuOptions(isa="generic"), graph, Network)
    assert 0 < rate < 1e12 and json.dumps(rate)
