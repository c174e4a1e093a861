"""``squeezeedge compare``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from squeezeedge.artifact import Artifact
from squeezeedge.cli import app
from squeezeedge.errors import GateError
from squeezeedge.evaluation import compare as module
from squeezeedge.evaluation.sides import Side
from squeezeedge.graph.oracle import execute
from squeezeedge.model import Model


@pytest.fixture(scope="module")
def sqe(digits_model: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("compare") / "digits.sqe"
    digits_model.save(path)
    return str(path)


@pytest.fixture
def run() -> Callable[..., Any]:
    def invoke(*arguments: object) -> Any:  # noqa: ANN401
        return CliRunner().invoke(app, ["compare", *map(str, arguments)])

    return invoke


@pytest.mark.slow
def test_an_artifact_beside_the_oracle(digits_artifact: Artifact, run: Callable[..., Any], tmp_path: Path) -> None:
    done = run(digits_artifact.path, "--limit", 2, "--plot", tmp_path / "made.png")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("squeezenet1_1_digits, 2 images: a = cpu, b = oracle")
    assert max(map(len, lines[:3])) <= 80
    assert "nothing differs" in lines and (tmp_path / "made.png").stat().st_size > 1000
    assert any(line.startswith("not compared: features.0; cpu: its rows only live") for line in lines)


@pytest.mark.slow
def test_as_json_on_images(sqe: str, run: Callable[..., Any]) -> None:
    done = run("onnx", sqe, "--data", "digits", "--limit", 3, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["a"], found["b"], found["images"], found["agrees"]) == ("ONNX Runtime", "oracle", 3, True)


@pytest.mark.slow
def test_beside_fp32(sqe: str, run: Callable[..., Any]) -> None:
    done = run(sqe, "fp32", "--limit", 1)
    assert done.exit_code == 0, done.stderr
    assert "SQNR dB" in done.stdout and "lowest ratio: " in done.stdout


def test_exit_code_4_where_they_differ(sqe: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def open_sides(stack: object, a: object, b: object, **options: object) -> tuple[Side, Side]:
        assert isinstance(a, Model) and a.integer is not None and b == "cpu"
        graph = a.integer

        def trace(image: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
            for name, values in execute(graph, image):
                yield name, np.minimum(values, 9) if name == "features.5" else values

        return Side("oracle", lambda image: execute(graph, image)), Side("cpu", trace)

    monkeypatch.setattr(module, "open_sides", open_sides)
    done = run(sqe, "cpu")
    assert "first difference: features.5, image 0, (y, x, c) = " in done.stdout
    assert isinstance(done.exception, GateError) and done.exception.exit_code == 4
    assert "oracle and cpu differ; features.5, image 0" in str(done.exception)


@pytest.mark.slow
def test_usage(sqe: str, run: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, text in (
        ((sqe,), "both sides are the oracle"),
        (("cpu", "oracle"), "cpu and oracle: of which network?"),
        ((sqe, "fp32", "--plot", tmp_path / "x.txt"), "must end in .png, .svg or .pdf"),
        ((sqe, "onnx", "--board", "user@host"), "--board: neither side runs on another machine"),
        ((tmp_path, "onnx"), "not an artifact"),
    ):
        done = run(*arguments)
        assert getattr(done.exception, "exit_code", None) == 2 and text in str(done.exception), done.exception
