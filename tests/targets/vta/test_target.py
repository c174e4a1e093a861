"""Graphs through the target's protocol: the simulator's class sums equal the oracle's."""

import json
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError, UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.vta import TARGET, VtaOptions
from squeezeedge.targets.vta.geometry import CONFIGS
from tests.graphs import TOPOLOGIES, random_graph, random_images, squeezenet_graph
from tests.targets.devices import answers


def simulate(graph: IntegerGraph, folder: Path, count: int) -> dict[str, object]:
    """Compile for vta-x, run, compare; returns the run's metrics."""
    options = VtaOptions()
    compiled = TARGET.compile(graph, options, folder)
    (folder / "manifest.json").write_text(json.dumps({"options": vars(options), "compiled": compiled}))
    images = random_images(graph, count, 0)
    result = answers(TARGET, folder, images, "vta-sim")
    np.testing.assert_array_equal(result.sums, run(graph, images))
    assert len(result.latency_ms) == count
    return result.metrics


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    simulate(random_graph(seed), tmp_path, 2)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies(name: str, tmp_path: Path) -> None:
    simulate(squeezenet_graph(name, 96, 10), tmp_path, 1)


def test_utilization_of_squeezenet_1_1(tmp_path: Path) -> None:
    graph = squeezenet_graph("squeezenet1_1")
    metrics = simulate(graph, tmp_path, 1)
    assert metrics["gemm_utilization"] == graph.macs / 256 / metrics["cycles"]  # type: ignore[operator]
    assert metrics["gemm_utilization"] > 0.9  # type: ignore[operator]


def test_wrong_options() -> None:
    with pytest.raises(UsageError, match="not known; there are: vta-x, vta"):
        TARGET.check_options(VtaOptions(instructions="vta-y"))
    with pytest.raises(UsageError, match="10..500 MHz".replace(".", r"\.")):
        TARGET.check_options(VtaOptions(clock=0))


def test_a_layer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = json.loads((CONFIGS / "pynq-z2.json").read_text())
    config["geometry"]["wgt_buffer"] = 4096
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"wgt|weight"):
        TARGET.check(squeezenet_graph("squeezenet1_1", 96, 10), VtaOptions(config=str(path)))
