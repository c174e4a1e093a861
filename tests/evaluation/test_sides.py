"""What a side of a comparison may be, and where it runs."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.artifact import Artifact
from squeezeedge.errors import UnavailableError, UsageError
from squeezeedge.evaluation.sides import ONNX, ORACLE, integer_graph, is_name, open_sides
from squeezeedge.graph.oracle import execute
from squeezeedge.model import Model
from tests.graphs import random_graph, random_images
from tests.targets.devices import FakeBoard

GRAPH = random_graph(19)
MODEL = Model.of_graph(GRAPH)


def test_names() -> None:
    assert all(map(is_name, ("oracle", "fp32", "onnx", "cpu", "vta-sim", "ascend-emulation")))
    assert not any(map(is_name, ("vta-simulator", "./cpu", "squeezenet1_1", "net.sqe", "")))


def test_the_graph_of_both(digits_model: Model, digits_artifact: Artifact) -> None:
    graph, source = integer_graph("cpu", digits_artifact)
    assert source is digits_artifact and graph.digest() == digits_artifact.graph.digest()
    assert integer_graph(digits_model, digits_artifact)[1] is digits_model
    with pytest.raises(UsageError, match="hold different integer graphs"):
        integer_graph(MODEL, digits_artifact)


def check_tensors(side_trace: object, image: NDArray[np.uint8]) -> None:
    found = dict(side_trace(image))  # type: ignore[operator]
    for name, values in execute(GRAPH, image):
        np.testing.assert_array_equal(found[name], values, name)
    assert len(found) == len(GRAPH.nodes)


@pytest.mark.slow
def test_a_device_runs_the_network_of_the_other_side() -> None:
    """Compiled on the way; an emulation with its own defaults."""
    (image,) = random_images(GRAPH, 1, 0)
    with ExitStack() as stack:
        sides = open_sides(stack, "vta-sim", MODEL)
        assert [side.label for side in sides] == ["vta-sim", ORACLE]
        for side in sides:
            check_tensors(side.trace, image)
        first, _ = open_sides(stack, "ascend-emulation", MODEL)
        assert first.tolerance > 0 and len(dict(first.trace(image))) == len(GRAPH.nodes)


def test_onnx_runtime_shows_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = random_images(GRAPH, 1, 0)
    with ExitStack() as stack:
        first, _ = open_sides(stack, ONNX, MODEL)
    check_tensors(first.trace, image)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match="onnx: needs the package onnxruntime"):
        open_sides(ExitStack(), ONNX, MODEL)


@pytest.mark.slow
def test_an_artifact_runs_on_its_device_here_and_on_a_board(
    digits_artifact: Artifact, digits_pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sides on one artifact, the first is on the board."""
    board = FakeBoard(tmp_path / "remote", monkeypatch, python=f"{sys.executable} -I")
    image = digits_artifact.golden[0]
    with ExitStack() as stack:
        sides = open_sides(stack, digits_artifact, "cpu", board="user@board")
        assert [side.label for side in sides] == ["cpu on user@board", "cpu"]
        there, here = (dict(side.trace(image)) for side in sides)
        assert sides[0].unseen() == sides[1].unseen() != {}
    assert board.calls == ["ssh"] * 3
    assert there.keys() == here.keys()
    for name, values in dict(execute(digits_artifact.graph, image)).items():
        if name in here:
            np.testing.assert_array_equal(there[name], values, name)
            np.testing.assert_array_equal(here[name], values, name)


def test_which_device_an_artifact_runs_on(digits_artifact: Artifact) -> None:
    with ExitStack() as stack:
        first, _ = open_sides(stack, digits_artifact, ORACLE, devices=["cpu"])
        assert first.label == "cpu"


def test_sides_and_devices_that_mean_nothing(digits_artifact: Artifact) -> None:
    def refused(a: Artifact | Model | str, b: Artifact | Model | str, reason: str, *devices: str) -> None:
        with pytest.raises(UsageError, match=reason):
            open_sides(ExitStack(), a, b, devices=devices)

    refused(MODEL, ORACLE, "both sides are the oracle, which runs models; compare with fp32, onnx or a device")
    refused(MODEL, MODEL, "both sides are the oracle, which runs models")
    refused(digits_artifact, digits_artifact, f"both sides are {digits_artifact.path}; compare with fp32")
    refused("cpu", "cpu", "^cpu: of which network")
    refused("cpu", ORACLE, "^cpu and oracle: of which network")
    refused(digits_artifact, ORACLE, "neither side is an artifact that runs on vta-sim", "cpu", "vta-sim")
    refused(MODEL, "cpu", "`device`: neither side is an artifact that runs on cpu; give cpu itself as a side", "cpu")


def test_fp32_of_another_network(digits_model: Model) -> None:
    other = dataclasses.replace(MODEL, floating=digits_model.floating)
    with pytest.raises(UsageError, match="the float network has other layers"):
        open_sides(ExitStack(), other, "fp32")
