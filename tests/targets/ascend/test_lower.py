"""What is written, with and without ATC; the fake atc checks command line and AIPP configuration."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import open_artifact, write_artifact
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph import Add, Concat, IntegerGraph, MaxPool
from squeezeedge.graph.oracle import run
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.ascend import TARGET
from squeezeedge.targets.ascend.atc import aipp_config, atc_command
from squeezeedge.targets.ascend.options import ROUNDINGS, AscendOptions
from tests.graphs import GraphBuilder
from tests.targets.ascend.conftest import Make

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


def test_the_script_converts_later(make: Make, atc: Path) -> None:
    atc.rename(atc.with_name("hidden"))
    path = make()
    assert not (path / "model.om").exists()
    atc.with_name("hidden").rename(atc)
    result = subprocess.run(["sh", str(path / "atc.sh")], cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (path / "model.om").read_bytes().startswith(b"FAKE OFFLINE MODEL")
    open_artifact(path)


def test_a_failing_atc(make: Make, atc: Path, tmp_path: Path) -> None:
    with pytest.raises(SqueezeEdgeError) as caught:
        make(soc_version="Ascend999")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("atc failed (atc --framework=5 ") and "--soc_version=Ascend999" in lines[0]
    assert lines[1].startswith("ATC run failed")
    assert lines[2].startswith("E10001: Value [Ascend999] for parameter [--soc_version] is invalid")
    assert lines[3].strip() == "Solution: Check the value."
    assert len(lines) == 4, "the traceback is left out"
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("exit 3", "exit code 3, no output"),
        ("echo something strange >&2; exit 1", "something strange"),
        ("echo ATC run success", "ATC run success"),  # and nothing is there
    ],
)
def test_a_strange_atc(make: Make, atc: Path, body: str, text: str) -> None:
    atc.write_text(f"#!/bin/sh\n# FAKE\n{body}\n")
    with pytest.raises(SqueezeEdgeError, match=text):
        make()


def test_an_atc_that_adds_the_system_to_the_name(make: Make, atc: Path) -> None:
    atc.write_text(atc.read_text() + "\n")
    atc.write_text(atc.read_text().replace('exec "', '"') + "mv model.om model_linux_x86_64.om\n")
    assert (make() / "model.om").is_file()


def test_the_chip_must_be_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs --soc-version: .*Ascend310P3.*npu-smi info"):
        make(soc_version="")
    with pytest.raises(UsageError, match="not a chip's name"):
        make(soc_version="Ascend310 --log=debug")
    with pytest.raises(UsageError, match=r"--rounding up: not known; there are: exact, fused"):
        make(rounding="up")
    assert not list(tmp_path.glob("artifact"))


def test_an_artifact_for_the_emulation_only(make: Make, atc: Path) -> None:
    path = make(soc_version="emulated")
    assert not (path / "model.om").exists() and not (path / "atc.sh").exists()
    assert compiled(path)["atc"] == "not compiled: for the emulation only"


def test_command_and_preprocessing_of_an_oblong_image() -> None:
    image = Shape(40, 30, 3)
    assert "--input_shape=image:1,3,40,30" in atc_command(image, "Ascend310")
    assert "src_image_size_w : 30\n" in aipp_config(image)


def test_listing(make: Make) -> None:
    path = make(rounding="fused")
    lines = list(TARGET.listing(path))
    assert sum("AscendQuant <" in line for line in lines) == 26
    assert any("conv1.quant" in line and "offset" in line and "-128" in line for line in lines)
    assert max(map(len, lines)) < 500, "no weights"
    (path / "model_deploy_model.onnx").write_bytes(b"\xff\xff")
    with pytest.raises(SqueezeEdgeError, match="compile the model again"):
        list(TARGET.listing(path))


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


def test_requirements(atc: Path) -> None:
    found = {requirement.name: requirement for requirement in TARGET.requirements()}
    assert found["atc (model.om)"].found == str(atc)
    assert found["ais_bench or acl"].found is None and "set_env.sh" in found["ais_bench or acl"].fix


def test_the_deploy_model_is_what_onnx_reads(make: Make) -> None:
    model = onnx.load_model(make() / "model_deploy_model.onnx")
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "class_means"]


def test_the_options_are_all_documented() -> None:
    assert AscendOptions.__dataclass_fields__.keys() == {"soc_version", "rounding"}
    assert all("help" in field.metadata for field in AscendOptions.__dataclass_fields__.values())
