"""``squeezeedge profile``: the layers' shares add up, and the files open."""

import json
from pathlib import Path

from PIL import Image

from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import read_sqe
from tests.cli.conftest import Invoke


def test_layers(invoke: Invoke, program: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("t.json", "p.png")}
    result = invoke("profile", program, "--timeline", files["t.json"], "--plot", files["p.png"], "--json")
    assert result.exit_code == 0, result.output
    profile = json.loads(result.stdout)
    assert profile["kind"] == "simulator" and profile["device"] == "vta-sim"
    layers = profile["layers"]
    assert [layer["name"] for layer in layers] == ["first", "fire.squeeze", "fire.concat+pool", "head"]
    assert sum(layer["cycles"] for layer in layers) == profile["cycles"]
    assert sum(layer["macs"] for layer in layers) == read_sqe(program / "model.sqe").macs
    for layer in layers:
        assert layer["bound_cycles"] == max(layer["busy"].values()) == layer["busy"][layer["bound"]]
        assert 0 < layer["utilization"] < 1 and layer["dram_bytes"] > 0
    report = json.loads(invoke("eval", program, "--device", "vta-sim", "--data", _images(program), "--json").stdout)
    assert report["cycles"] == profile["cycles"] and report["gemm_utilization"] == profile["utilization"]
    assert report["dram_bytes"] == sum(layer["dram_bytes"] for layer in layers) + _program_bytes(program)
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
    for text in ("fire.concat+pool", "whole network", "utilization", "vta-sim (simulator)", "100 MHz"):
        assert text in result.stdout


def test_what_has_no_profile(invoke: Invoke, artifact: Path, program: Path, tmp_path: Path) -> None:
    result = invoke("profile", artifact)
    assert isinstance(result.exception, UsageError) and "compiled for cpu" in str(result.exception)
    result = invoke("profile", program, "--plot", tmp_path / "p.doc")
    assert isinstance(result.exception, UsageError) and ".png" in str(result.exception)
    for option in ("--timeline", "--plot"):
        result = invoke("profile", tmp_path / "never opened", option, tmp_path / "no" / "p.png")
        assert isinstance(result.exception, UsageError) and "parent folder does not exist" in str(result.exception)
    result = invoke("profile", tmp_path / "never opened", "--timeline", "/proc/t.json")
    assert isinstance(result.exception, SqueezeEdgeError) and "cannot be written" in str(result.exception)
    assert not list(tmp_path.iterdir())
