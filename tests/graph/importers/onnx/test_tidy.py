"""Arithmetic with constants becomes part of the preprocessing or of the convolution in front of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.graph.importers.onnx.files import end, kinds, network, random, start
from tests.graph.networks import OnnxWriter


def _end(writer: OnnxWriter, value: str) -> str:
    weight = writer.weight("first.weight", random(4, 3, 3, 3))
    return end(writer, writer.node("Conv", value, weight, pads=[1, 1, 1, 1]))


def test_normalization_in_the_graph_becomes_preprocessing(tmp_path: Path) -> None:
    writer = OnnxWriter([1, 3, 9, 12])
    mean, std = (writer.weight(name, np.abs(random(3, 1, 1, seed=seed)) + 1) for name, seed in (("m", 0), ("s", 1)))
    value = writer.node("Div", writer.node("Sub", "input", mean), std)
    found = network(tmp_path, writer, _end(writer, value))
    means, stds = (writer.weights[name].reshape(3).astype(np.float64) for name in ("m", "s"))
    np.testing.assert_allclose(found.multiplier, 1 / stds, rtol=1e-6)
    np.testing.assert_allclose(found.offset, -means / stds, rtol=1e-6)
    assert kinds(found.graph) == ["Conv", "GlobalAveragePool"]
    assert found.notes == ("part of the preprocessing: /sub_0, /div_1",)


def test_a_batch_normalization_in_front(tmp_path: Path) -> None:
    writer = OnnxWriter([1, 3, 9, 12])
    vectors = [writer.weight(f"bn.{key}", np.abs(random(3, seed=seed)) + 1) for seed, key in enumerate("gbmv")]
    found = network(tmp_path, writer, _end(writer, writer.node("BatchNormalization", "input", *vectors)))
    assert kinds(found.graph)[0] == "Conv" and (found.offset != 0).all()


def test_channels_that_are_normalized_one_by_one(tmp_path: Path) -> None:
    """As torchvision's GoogLeNet does it, behind channels in another order."""
    writer = OnnxWriter([1, 3, 9, 12])
    parts = []
    for place in (2, 1, 0):
        index = writer.weight(f"i{place}", np.array([place], np.int64))
        part = writer.node(
            "Mul", writer.node("Gather", "input", index, axis=1), writer.weight(f"f{place}", random(1, seed=place))
        )
        parts.append(writer.node("Add", part, writer.weight(f"o{place}", random(1, seed=place + 3))))
    found = network(tmp_path, writer, _end(writer, writer.node("Concat", *parts, axis=1)))
    np.testing.assert_array_equal(found.multiplier, [writer.weights[f"f{place}"][0] for place in range(3)])
    assert kinds(found.graph) == ["Conv", "GlobalAveragePool"]


def test_an_image_that_is_also_read_as_it_is(tmp_path: Path) -> None:
    """Then the arithmetic stays in the graph."""
    writer = OnnxWriter([1, 3, 9, 12])
    scaled = writer.node("Mul", "input", writer.weight("f", random(3, 1, 1)))
    found = network(tmp_path, writer, _end(writer, writer.node("Add", scaled, "input")))
    assert (found.multiplier == 1).all() and kinds(found.graph)[:2] == ["BatchNorm", "Add"]


@pytest.mark.parametrize("relu", [False, True])
def test_a_bias_and_a_factor_behind_a_convolution(tmp_path: Path, relu: bool) -> None:
    writer, value = start()
    moved = writer.node(
        "Mul", writer.node("Add", value, writer.weight("b", random(5, 1, 1))), writer.weight("f", random(1))
    )
    if relu:  # the convolution's result is read without them, too
        moved = writer.node("Add", moved, writer.node("Relu", value))
    found = network(tmp_path, writer, end(writer, moved))
    assert ("BatchNorm" in kinds(found.graph)) == relu
    if not relu:
        assert found.notes == ("folded into the convolution in front: /add_1, /mul_2",)
