"""What is written, with and without ATC; the fake atc checks command line and AIPP configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.graph import Add, Concat, IntegerGraph, MaxPool
from squeezeedge.graph.oracle import run
from squeezeedge.targets.ascend.options import ROUNDINGS, AscendOptions
from squeezeedge.targets.registry import get_target
from tests.graphs import GraphBuilder
from tests.targets.ascend.conftest import Make

TARGET = get_target("ascend")
Network = tuple[IntegerGraph, NDArray[np.uint8]]


def compiled(path: Path) -> dict[str, object]:
    entries: dict[str, object] = open_artifact(path).manifest["compiled"]
    return entries


def test_without_atc(make: Make, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    path = make()
    assert {file.name for file in path.iterdir()} == {
        *("manifest.json", "model.sqe", "golden.npz", "run.py", "device.py"),
        *("model.ref.onnx", "model_deploy_model.onnx", "aipp.cfg", "atc.sh"),
    }
    entries = compiled(path)
    assert entries["atc"] == "not compiled: atc not found"
    assert entries["operators"] == {
        **dict.fromkeys(("AscendQuant", "AscendDequant", "Conv", "Relu"), 26),
        **{"Add": 50, "Concat": 9, "GlobalAveragePool": 2, "MaxPool": 3, "Pad": 1, "Sub": 1},
    }
    graph, images = network
    session = onnxruntime.InferenceSession(str(path / "model.ref.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"image": images[:1]})[0], run(graph, images[:1]))


def test_with_atc(make: Make, atc: Path) -> None:
    path = make(soc_version="Ascend310")
    assert compiled(path)["atc"] == str(atc)
    log = (path / "atc.log").read_text()
    assert log.startswith("$ atc --framework=5 --model=model_deploy_model.onnx --output=model --input_format=NCHW ")
    assert "ATC run success" in log
    model = (path / "model.om").read_bytes()
    assert model.startswith(b"FAKE OFFLINE MODEL")
    assert json.loads(model.split(b"\n")[1])["soc_version"] == "Ascend310"


def test_an_artifact_for_the_emulation_only(make: Make, atc: Path) -> None:
    path = make(soc_version="emulated")
    assert not (path / "model.om").exists() and not (path / "atc.sh").exists()
    assert compiled(path)["atc"] == "not compiled: for the emulation only"


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_golden(tmp_path: Path, golden: Callable[[str, str], None], rounding: str) -> None:
    """A graph with every operator that is emitted; `pytest --update-golden` rewrites the files."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 11))
    value = builder.pool(builder.conv("image", 6, (3, 3), (2, 2), (1, 1, 1, 1), name="conv1"), name="pool1")
    branch = builder.conv(value, 6, zero_point=128, name="branch")
    other = builder.conv(value, 5, (3, 3), (1, 1), (1, 1, 1, 1), name="other")
    value = builder.concat([builder.add(value, branch, name="add"), other], name="concat")
    graph = builder.finish(value, 4, graph_name="golden")
    check = {Add: 1, MaxPool: 1, Concat: 1}
    assert all(sum(isinstance(node, kind) for node in graph.nodes) == count for kind, count in check.items())
    path = write_artifact(
        graph,
        TARGET,
        AscendOptions("Ascend310P3", rounding),
        tmp_path / "artifact",
        golden=np.zeros((1, *graph.input_shape), np.uint8),
        source={},
    ).path
    golden(f"{rounding}.txt", "\n".join(TARGET.listing(path)) + "\n")
    for name in ("aipp.cfg", "atc.sh"):
        golden(name, (path / name).read_text())


def test_the_deploy_model_is_what_onnx_reads(make: Make) -> None:
    model = onnx.load_model(make() / "model_deploy_model.onnx")
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "class_means"]
