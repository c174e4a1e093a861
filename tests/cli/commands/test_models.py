"""``squeezeedge models``."""

from __future__ import annotations

import json
import subprocess
import sys

from typer.testing import CliRunner

from squeezeedge.cli import app
from squeezeedge.networks.registry import DEFAULT, NETWORKS


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_has_one_line_a_network() -> None:
    lines = [json.loads(line) for line in run("--json").splitlines()]
    assert [line["network"] for line in lines] == list(NETWORKS)
    by_name = {line["network"]: line for line in lines}
    assert by_name["squeezenet1_0"]["parameters"] == 1_248_424
    assert by_name["squeezenet1_0"]["macs"] == 818_924_576
    assert by_name["squeezenet1_0"]["url"].endswith("squeezenet1_0-b66bff10.pth")
    assert by_name[DEFAULT] == {
        "network": DEFAULT,
        "summary": NETWORKS[DEFAULT].summary,
        "parameters": 727_626,
        "macs": 42_804_928,
        "input_size": [96, 96],
        "classes": 10,
        "preprocessing": "digits",
        "dataset": "digits",
        "embedded": True,
        "url": None,
    }


def test_table_says_where_weights_come_from() -> None:
    printed = run()
    costs, weights = (
        {line.split()[0]: line for line in piece.splitlines() if line.split()[0] in NETWORKS}
        for piece in printed.strip().split("\n\n")[1:]
    )
    assert costs.keys() == weights.keys() == set(NETWORKS)
    assert weights[DEFAULT].split()[2] == "embedded" and weights["squeezenet1_0"].split()[2] == "--pretrained"
    assert weights["squeezenet1_0_simple_bypass"].split()[2] == "-" and "--weights FILE" in printed
    assert "1,248,424" in costs["squeezenet1_0"] and "818.9" in costs["squeezenet1_0"]
    assert "3x3, 2, 0  ceil" in costs["squeezenet1_1"]
    assert "3x3, 2, 1  floor" in costs["squeezenet1_1_mindcv"]


def test_what_a_checkpoint_does_not_tell_is_explained() -> None:
    result = CliRunner().invoke(app, ["models"])
    assert "no stride, padding or pooling" in result.stderr and "given as ONNX" in result.stderr


def test_nothing_heavy_is_loaded() -> None:
    """Neither here nor for the targets: they answer at once."""
    code = (
        "import sys; from typer.testing import CliRunner; from squeezeedge.cli import app; "
        "done = [CliRunner().invoke(app, [name]).exit_code for name in ('models', 'targets', 'recipes')]; "
        "print(done, [m for m in ('torch', 'tvm', 'onnx', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 0, 0] []", done.stderr
