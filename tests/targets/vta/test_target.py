"""Graphs through the target's protocol: the simulator's class sums equal the oracle's."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.errors import UnsupportedError, UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.device.run import meaning_sha256
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.session import open_session
from squeezeedge.targets.vta import VtaOptions
from squeezeedge.targets.vta.isa.geometry import CONFIGS
from tests.graphs import random_graph, random_images, squeezenet_graph

TARGET = get_target("vta")


def simulate(graph: IntegerGraph, folder: Path, count: int) -> Mapping[str, Any]:
    """Compile for the extended instructions, run, compare; returns the run's metrics."""
    compiled = TARGET.lower(graph, VtaOptions()).write(folder)
    height, width = graph.preprocessing.size
    manifest: dict[str, Any] = {
        "input": [height, width, 3],
        "compiled": compiled,
        "preprocessing": graph.preprocessing.to_json(),
        "labels": list(graph.labels),
        "logit_scale": graph.head.scale.tolist(),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in folder.iterdir()
        },
    }
    manifest["meaning_sha256"] = meaning_sha256(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    images = random_images(graph, count, 0)
    with open_session(folder, TARGET, "vta-sim") as session:
        result = session.run(images)
    np.testing.assert_array_equal(result.sums, run(graph, images))
    assert len(result.latency_ms) == count and (result.timings["pack_ms"] < result.latency_ms).all()
    return result.metrics


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 6))])
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    simulate(random_graph(seed), tmp_path, 2)


@pytest.mark.slow
def test_a_topology_and_its_utilization(tmp_path: Path) -> None:
    graph = squeezenet_graph("squeezenet1_1", 96, 10)
    metrics = simulate(graph, tmp_path, 1)
    assert metrics["gemm_utilization"] == graph.macs / 256 / metrics["cycles"]


def test_wrong_options() -> None:
    with pytest.raises(UsageError, match="not known; there are: extended, published"):
        TARGET.check_options(VtaOptions(instructions="vta-y"))
    with pytest.raises(UsageError, match="10..500 MHz".replace(".", r"\.")):
        TARGET.check_options(VtaOptions(clock=0))


@pytest.mark.slow
def test_a_layer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = json.loads((CONFIGS / "pynq-z2.json").read_text())
    config["geometry"]["wgt_buffer"] = 4096
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"wgt|weight"):
        TARGET.lower(squeezenet_graph("squeezenet1_1", 96, 10), VtaOptions(config=str(path)))
