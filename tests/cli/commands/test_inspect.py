"""``squeezeedge inspect``: text of 80 columns, JSON, a picture, and that no compiler is loaded."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from squeezeedge import loading
from squeezeedge.errors import CorruptFileError, UnsupportedError, UsageError
from squeezeedge.graph import IMAGE
from squeezeedge.graph.sqe import Record, write_sqe
from squeezeedge.model import Model
from squeezeedge.targets.registry import all_targets
from tests.cli.conftest import Invoke
from tests.graphs import GraphBuilder
from tests.quantization.networks import PREPROCESSING, FloatNet

LONG = "a/name/of/an/exporter/that/says/everything/twice/features.0/Conv_output_0"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Model:
    """What every name is loaded as."""
    net = FloatNet(0)
    graph = net.classifier(net.relu(net.depthwise(net.relu(net.conv(IMAGE, 8, 3, stride=2)))))
    model = Model("net", PREPROCESSING, (), 7, {"weights": "net.onnx"}, graph, remarks=("`data` was assumed",))
    monkeypatch.setattr(loading, "load", lambda *_, **__: model)
    return model


@pytest.fixture
def integer(tmp_path: Path) -> Path:
    builder = GraphBuilder(np.random.default_rng(0), (12, 12))
    value = builder.conv(IMAGE, 8, (3, 3), (2, 2), name=LONG, zero_point=128)
    value = builder.conv(value, 8, (3, 3), groups=8, name="deep")
    path = tmp_path / "net.sqe"
    write_sqe(builder.finish(value, 5), path, Record({"network": "net", "weights": "net.pth", "sha256": "0" * 64}))
    return path


def test_a_float_network(invoke: Invoke, network: Model) -> None:
    result = invoke("inspect", "net.onnx")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    words = " ".join(result.stdout.split())
    for text in ("net: float network of net.onnx, 7 classes", "input 23x27", "mean 0.4 0.5 0.3", "+ ReLU"):
        assert text in words
    for name in all_targets():
        assert f" {name} " in words
    assert "- --data was assumed" in result.stdout, "in the words of the command line"
    told = json.loads(invoke("inspect", "net.onnx", "--json").stdout)
    assert told["graph"] == "float" and told["preprocessing"]["mean"] == [0.4, 0.5, 0.3]
    assert told["macs"] == sum(layer["macs"] for layer in told["layers"]) > 0
    assert [layer["folded"] for layer in told["layers"]] == [False, True] * 2 + [False, True, True]
    for name, target in all_targets().items():
        own = told["targets"][name]
        assert own["native"] + own["legalized"] == 3 and own["refused"] == 0
        assert (own["macs"] == told["macs"]) == (own["legalized"] == 0) == ("depthwise convolution" in target.supports)


def test_an_integer_graph(invoke: Invoke, integer: Path) -> None:
    result = invoke("inspect", integer)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80 and f"\n{LONG}\n  conv" in result.stdout
    assert "integer graph of net.pth" in result.stdout and "  128\n" in result.stdout
    told = json.loads(invoke("inspect", integer, "--json").stdout)
    assert [layer["name"] for layer in told["layers"]] == [LONG, "deep", "head"] and told["graph"] == "integer"
    assert [layer["weight_bytes"] for layer in told["layers"]] == [216, 72, 40] and len(told["graph_sha256"]) == 64
    wrong = invoke("inspect", integer, "--mean", "0")
    assert isinstance(wrong.exception, UsageError) and "part of its numbers" in str(wrong.exception)


def test_an_artifact(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    """It has one target."""
    told = json.loads(invoke("inspect", program, "--json").stdout)
    assert len(told["targets"]) == 1 and told["graph"] == "integer" and told["layers"][0]["name"] == "first"
    wrong = invoke("inspect", program, "--size", "32")
    assert isinstance(wrong.exception, UsageError) and "is compiled already" in str(wrong.exception)
    (tmp_path / "no").mkdir()
    assert isinstance(invoke("inspect", tmp_path / "no").exception, UsageError)
    (tmp_path / "no" / "manifest.json").write_text("{")
    assert isinstance(invoke("inspect", tmp_path / "no").exception, CorruptFileError)


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_once")
def test_errors_beside_fp32(invoke: Invoke, artifact: Path, digits_model: Model, tmp_path: Path) -> None:
    """Of an artifact made of the embedded weights, whose fp32 is known."""
    result = invoke("inspect", artifact, "--data", "digits", "--limit", "2", "--json", "--plot", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    graph, layers = digits_model.integer, {layer["name"]: layer["errors"] for layer in told["layers"]}
    assert graph is not None and told["errors"]["images"] == told["errors"]["attributed_on"] == 2
    for node in graph.nodes:
        own, shape = layers[node.name], graph.tensors[node.name].shape
        assert own["values"] == 2 * (graph.classes if node is graph.head else math.prod(shape))
        assert 0 <= own["saturated"] <= own["values"] and own["sqnr_db"] > 10
        assert ("alone" in own) == (node in graph.convolutions), "no additions here"
        if "alone" in own:
            assert sum(own["alone"]["shares"].values()) == pytest.approx(1)
    logits = told["errors"]["logits"]
    assert layers[graph.head.name]["sqnr_db"] == pytest.approx(logits["together"], rel=1e-3)
    assert "SQNR beside fp32" in (tmp_path / "p.svg").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_once")
def test_the_table_of_errors(invoke: Invoke, artifact: Path) -> None:
    result = invoke("inspect", artifact, "--data", "digits", "--limit", "1")
    assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 80
    for text in ("beside fp32, 1 image", "saturated", "rounding", "clipping", "all layers"):
        assert text in result.stdout


def test_what_errors_need(invoke: Invoke, integer: Path, program: Path) -> None:
    wrong = invoke("inspect", integer, "--calib", "digits")
    assert isinstance(wrong.exception, UsageError) and "give --data, too" in str(wrong.exception)
    wrong = invoke("inspect", program, "--weights", "net.pth")
    assert isinstance(wrong.exception, UsageError) and "is compiled already" in str(wrong.exception)
    wrong = invoke("inspect", program, "--data", program.parent / "images.npz")
    assert isinstance(wrong.exception, UsageError) and "give --weights, the file it was made of" in str(wrong.exception)


@pytest.mark.usefixtures("network")
def test_what_cannot_be_expressed(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("relu: not today")

    monkeypatch.setattr("squeezeedge.quantization.passes.folded_graph", refuse)
    result = invoke("inspect", "net.onnx")
    assert result.exit_code == 0 and "no target takes it: relu" in result.stdout and "native" not in result.stdout


@pytest.mark.slow
def test_a_picture(invoke: Invoke, integer: Path, tmp_path: Path) -> None:
    result = invoke("inspect", integer, "--plot", tmp_path / "p.svg")
    assert result.exit_code == 0 and "deep" in (tmp_path / "p.svg").read_text()
    wrong = invoke("inspect", integer, "--plot", tmp_path / "p.doc")
    assert isinstance(wrong.exception, UsageError) and "must end in .png, .svg or .pdf" in str(wrong.exception)


@pytest.mark.slow
def test_no_compiler_is_loaded(integer: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from squeezeedge.cli import app; "
        f"done = CliRunner().invoke(app, ['inspect', {str(integer)!r}]); "
        "print(done.exit_code, 'tvm' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False", "False"], done.stderr
