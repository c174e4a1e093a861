"""``squeezeedge quantize`` and what reads its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from squeezeedge import loading
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.model import Model
from tests.cli.conftest import Invoke
from tests.quantization.networks import natural_images
from tests.test_loading import onnx_file


def test_quantize(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "digits.sqe"
    result = invoke("quantize", "-o", file, "--calib-images", "16", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["bytes"] == file.stat().st_size and report["graph_sha256"] == read_sqe(file).digest()
    assert report["warnings"] == [] and "warning" not in result.stderr
    assert len(report["layers"]) == 25 and all(0 <= layer["shift_min"] for layer in report["layers"])
    again = invoke("quantize", "-o", file)
    assert isinstance(again.exception, UsageError) and "exists already" in str(again.exception)
    twice = invoke("quantize", file, "-o", tmp_path / "other.sqe")
    assert isinstance(twice.exception, UsageError) and "integer graph already" in str(twice.exception)

    file.write_bytes(file.read_bytes()[:-1000])
    damaged = invoke("compile", file, "-o", tmp_path / "out")
    assert isinstance(damaged.exception, CorruptFileError) and str(file) in str(damaged.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.sqe"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("there.sqe", "there.sqe: exists already; choose another output (-o) or replace it (--force)"),
        ("no/net.sqe", "no/net.sqe: its parent folder does not exist"),
        ("n" * 256, "cannot be written: File name too long"),
        ("/proc/net.sqe", "/proc/net.sqe: cannot be written: "),
    ],
)
@pytest.mark.parametrize("command", ["quantize", "compile"])
def test_an_output_that_cannot_be_is_refused_before_any_work(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, place: str, reason: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("nothing is loaded")

    monkeypatch.setattr("squeezeedge.loading.load", work)
    (tmp_path / "there.sqe").write_bytes(b"there")
    result = invoke(command, "-o", tmp_path / place)
    assert isinstance(result.exception, SqueezeEdgeError) and reason in str(result.exception), result.output
    result = invoke(command, "-o", tmp_path, "--force")
    assert isinstance(result.exception, UsageError) and "so --force does not replace it" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["there.sqe"]


def test_a_file_that_no_command_would_take_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("quantize", "-o", tmp_path / "net.bin")
    assert isinstance(result.exception, UsageError) and "net.bin: must end in .sqe" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_force_replaces_a_file_once_the_new_one_is_whole(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "net.sqe"
    file.write_bytes(b"before")
    result = invoke("quantize", tmp_path / "none.onnx", "-o", file, "--force")
    assert isinstance(result.exception, UsageError) and file.read_bytes() == b"before"
    images, weights = natural_images(4, (10, 10)), onnx_file(tmp_path / "own.onnx")
    np.savez(tmp_path / "images.npz", images=images)
    command = ("quantize", weights, "--data", tmp_path / "images.npz", "-o", file, "--force", "--json")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["graph_sha256"] == read_sqe(file).digest()
    (warning,) = report["warnings"]
    assert "(4) show 4 different scenes" in warning and f"warning: {warning}\n" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "net.sqe", "own.onnx"]


@pytest.mark.slow
def test_effort_and_where_the_error_comes_from(invoke: Invoke, tmp_path: Path) -> None:
    own, file = tmp_path / "own.onnx", tmp_path / "net.sqe"
    proto = onnx.load(str(onnx_file(own)))
    conv, *rest = list(proto.graph.node)
    layers = [
        onnx.helper.make_node("Relu", ["conv"], ["relu"]),
        onnx.helper.make_node("Conv", ["relu", "second"], ["scores"], kernel_shape=[1, 1]),
    ]
    rest[0].input[0] = "scores"
    del proto.graph.node[:]
    proto.graph.node.extend([conv, *layers, *rest])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((5, 5, 1, 1), np.float32), "second"))
    onnx.save(proto, str(own))
    np.savez(tmp_path / "images.npz", images=natural_images(8, (10, 10)))
    command = ("quantize", own, "--data", tmp_path / "images.npz", "-o", file)
    plain = invoke(*command, "--json")
    best = invoke(*command, "--force", "--json", "--effort", "best", "--extra-macs", "90%", "--explain")
    assert best.exit_code == 0, best.output
    first, second = json.loads(plain.stdout), json.loads(best.stdout)
    assert "errors" not in first and first["macs"] < second["macs"] <= 1.9 * first["macs"]
    names = [layer["name"] for layer in second["layers"]]
    assert [layer["name"] for layer in second["errors"]["layers"]][:-1] == names and second["errors"]["images"] == 8
    picture = tmp_path / "errors.png"
    shown = invoke(*command, "--force", "--explain", "--plot", picture)
    assert shown.exit_code == 0 and picture.stat().st_size > 1000, shown.output
    table = [line for line in shown.stdout[shown.stdout.index("SQNR in dB") :].splitlines() if line.strip()]
    assert table[0].strip() == "SQNR in dB with one error alone, 8 images"
    assert table[1].split()[:3] == ["errors", "of", "rounding"], "a column that is empty may be left out"
    assert max(map(len, table)) <= 80 and "network" in shown.stdout
    alone = invoke(*command, "--force", "--plot", picture)
    assert isinstance(alone.exception, UsageError) and "give that, too" in str(alone.exception)
    other = invoke(*command, "--force", "--effort", "more")
    assert isinstance(other.exception, UsageError) and "--effort: must be fast or best" in str(other.exception)


def test_a_file_that_was_made_meanwhile_stays(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, load = tmp_path / "net.sqe", loading.load

    def late(*arguments: Any, **options: Any) -> Model:  # noqa: ANN401
        file.write_bytes(b"another one's")
        return load(*arguments, **options)

    monkeypatch.setattr(loading, "load", late)
    np.savez(tmp_path / "images.npz", images=natural_images(4, (10, 10)))
    weights = onnx_file(tmp_path / "own.onnx")
    result = invoke("quantize", weights, "--data", tmp_path / "images.npz", "-o", file)
    assert isinstance(result.exception, UsageError) and "net.sqe: exists already; choose" in str(result.exception)
    assert file.read_bytes() == b"another one's"


@pytest.mark.slow
def test_the_file_is_evaluated(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "digits.sqe"
    assert invoke("quantize", "-o", file, "--calib-images", "16").exit_code == 0
    evaluated = invoke("eval", file, "--data", "digits", "--limit", "10", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["bit_exact"] is True
