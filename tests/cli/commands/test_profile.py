"""``squeezeedge profile``: the layers' shares add up, and the files open."""

import json
from pathlib import Path

import pytest
from PIL import Image

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.targets.registry import get_target
from tests.cli.conftest import Invoke

UNITS = ("gemm", "alu", "pool", "dram")


def test_layers(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("t.json", "p.png")}
    result = invoke("profile", program, "--timeline", files["t.json"], "--plot", files["p.png"], "--json")
    assert result.exit_code == 0, result.output
    profile = json.loads(result.stdout)
    assert profile["kind"] == "simulator" and profile["device"] == "vta-sim"
    layers = profile["layers"]
    assert [layer["name"] for layer in layers] == ["first", "fire.squeeze", "fire.concat+pool", "head"]
    assert sum(layer["time"] for layer in layers) == profile["time"] and profile["unit"] == "cycles"
    assert profile["macs"] == sum(layer["macs"] for layer in layers) == read_sqe(program / "model.sqe").macs
    for layer in layers:
        assert layer["busy"] * layer["time"] == max(layer[unit] for unit in UNITS) == layer[layer["bound"]]
        assert 0 < layer["utilization"] < 1 and layer["bytes"] > 0
    report = json.loads(invoke("eval", program, "--device", "vta-sim", "--data", _images(program), "--json").stdout)
    assert report["cycles"] == profile["time"] and report["gemm_utilization"] == profile["utilization"]
    assert report["dram_bytes"] == sum(layer["bytes"] for layer in layers) + _program_bytes(program)
    events = json.loads(files["t.json"].read_text())["traceEvents"]
    assert {event["name"] for event in events if event["ph"] == "X"} == {layer["name"] for layer in layers} | {"wait"}
    with Image.open(files["p.png"]) as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 4


def _images(program: Path) -> Path:
    return program.parent / "images.npz"


def _program_bytes(program: Path) -> int:
    """What the fetch module reads."""
    return 16 * int(json.loads((program / "program.json").read_text())["count"])


def test_table(invoke: Invoke, program: Path) -> None:
    result = invoke("profile", program)
    assert result.exit_code == 0, result.output
    for text in ("fire.concat+pool", "whole network", "% of the peak", "vta-sim (simulator)", "the array's 16 x"):
        assert text in result.stdout


@pytest.mark.slow
def test_a_processor(invoke: Invoke, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel has a time, a rate and a bar in the timeline; the picture and the table have all of them."""
    monkeypatch.setattr("squeezeedge.targets.cpu.profile.measured_rate", lambda *_: 3e9)
    monkeypatch.setenv("SQUEEZEEDGE_THREADS", "1")
    files = {name: tmp_path / name for name in ("t.json", "p.svg")}
    given = ("profile", artifact, "--runs", "2", "--timeline", files["t.json"], "--plot", files["p.svg"])
    result = invoke(*given, "--json")
    assert result.exit_code == 0, result.output
    profile = json.loads(result.stdout)
    assert (profile["kind"], profile["unit"], profile["runs"], profile["threads"]) == ("hardware", "ms", 2, 1)
    assert profile["peak"]["macs_per_second"] == 3e12 and "generic" in profile["peak"]["meaning"]
    layers = profile["layers"]
    assert sum(layer["time"] for layer in layers) == pytest.approx(profile["time"])
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert profile["macs"] == read_sqe(artifact / "model.sqe").macs
    for layer in layers:
        assert layer["utilization"] == pytest.approx(layer["macs"] / 3e9 / layer["time"])
        assert layer["bytes_per_second"] == pytest.approx(1e3 * layer["bytes"] / layer["time"])
    events = json.loads(files["t.json"].read_text())["traceEvents"]
    assert [event["name"] for event in events if event["ph"] == "X"] == [layer["name"] for layer in layers]
    assert "GB a second" in files["p.svg"].read_text()
    told = invoke("profile", artifact, "--runs", "1").stdout
    assert max(map(len, told.splitlines())) <= 80
    for text in (*(layer["name"] for layer in layers), "whole network", "3000.0 billion", "a run without clocks"):
        assert text in told


def test_what_has_no_profile(invoke: Invoke, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("squeezeedge.artifact.get_target", lambda name: get_target("ascend"))
        result = invoke("profile", program)
    assert isinstance(result.exception, UsageError) and "an emulation is no device" in str(result.exception)
    assert "compiled for ascend" in str(result.exception) and "for cpu, cuda, vta" in str(result.exception)
    result = invoke("profile", program, "--plot", tmp_path / "p.doc")
    assert isinstance(result.exception, UsageError) and ".png" in str(result.exception)
    for option in ("--timeline", "--plot"):
        result = invoke("profile", tmp_path / "never opened", option, tmp_path / "no" / "p.png")
        assert isinstance(result.exception, UsageError) and "parent folder does not exist" in str(result.exception)
    result = invoke("profile", tmp_path / "never opened", "--timeline", "/proc/t.json")
    assert isinstance(result.exception, SqueezeEdgeError) and "cannot be written" in str(result.exception)
    assert not list(tmp_path.iterdir())
