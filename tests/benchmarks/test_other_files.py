"""A float network as other toolkits' files: layers with their ReLUs, and answers where the toolkit is installed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.float_network import fused, largest_values
from benchmarks.ncnn_model import write_ncnn
from benchmarks.runtimes import RUNTIMES, Images, Job
from benchmarks.tflite_model import _padding
from squeezeedge.graph.float.graph import FloatGraph, FloatRelu
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.rules import Shape
from tests.graphs import random_graph
from tests.quantization.networks import FloatNet

PACKAGES = {"ncnn": "ncnn", "LiteRT": "ai_edge_litert", "ONNX Runtime": "onnxruntime", "OpenVINO": "nncf"}


@pytest.fixture(scope="module", params=[False, True], ids=["fire", "depthwise"])
def network(request: pytest.FixtureRequest) -> FloatGraph:
    """What SqueezeNet has, or EfficientNet-Lite."""
    net = FloatNet(0, (32, 32))
    first = net.relu(net.conv("image", 16, 3, 2))
    if not request.param:
        return net.classifier(net.fire(net.fire(net.pool(first), 8, 16), 8, 8))
    narrow = net.conv(net.relu(net.depthwise(first), 6), 16)
    again = net.conv(net.relu(net.depthwise(net.relu(net.conv(narrow, 32), 6)), 6), 16)
    return net.classifier(net.add(narrow, again), linear=True)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 1, (4, 3, 32, 32)).astype(np.float32)


def test_relus_belong_to_what_they_follow(network: FloatGraph) -> None:
    layers = fused(network)
    relus = [node for node in network.nodes if isinstance(node, FloatRelu)]
    assert sum(layer.limit is not None for layer in layers) == len(relus) and len(layers) + len(relus) == len(
        network.nodes
    )
    assert {layer.limit for layer in layers} <= {None, math.inf, 6.0}
    made = {"image", *(layer.name for layer in layers)}
    assert all(name in made for layer in layers for name in layer.inputs)


def test_a_blob_of_ncnn_has_one_reader(network: FloatGraph, images: NDArray[np.float32], tmp_path: Path) -> None:
    write_ncnn(network, largest_values(network, images), tmp_path / "param", tmp_path / "bin")
    magic, counts, *lines = (tmp_path / "param").read_text().splitlines()
    read, made = [], []
    for line in lines:
        _, _, inputs, outputs, *names = line.split()
        read += names[: int(inputs)]
        made += names[int(inputs) :][: int(outputs)]
    assert (magic, counts) == ("7767517", f"{len(lines)} {len(made)}")
    assert sorted([*read, "logits"]) == sorted(made) == sorted(set(made))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", PACKAGES)
def test_answers(runtime: str, network: FloatGraph, images: NDArray[np.float32], tmp_path: Path) -> None:
    """Near those of the float network, for one image and for several."""
    pytest.importorskip(PACKAGES[runtime])
    RUNTIMES[runtime].prepare(Job(random_graph(1), network, images, "generic"), tmp_path)
    expected = run_float(network, images)
    for count in (1, len(images)):
        if runtime == "ONNX Runtime" and count > 1:
            continue  # its files are of the benchmark's batches
        pixels = np.zeros((count, 32, 32, 3), np.uint8)
        answers = RUNTIMES[runtime].open(tmp_path, 1, Images(pixels, images[:count])).run()
        error = np.square(answers - expected[:count]).sum() / np.square(expected[:count]).sum()
        assert answers.shape == (count, 7) and error < 0.05


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "padding", "ceil_mode", "name"),
    [
        (224, 111, 3, 2, (0, 0, 0, 0), False, "VALID"),
        (55, 55, 3, 1, (1, 1, 1, 1), False, "SAME"),
        (112, 56, 3, 2, (0, 0, 1, 1), False, "SAME"),
        (54, 27, 3, 2, (0, 0, 0, 0), True, "SAME"),
        (55, 27, 3, 2, (0, 0, 0, 0), True, "VALID"),
    ],
)
def test_names_of_paddings(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int, int, int],
    ceil_mode: bool,
    name: str,
) -> None:
    shapes = Shape(inputs, inputs, 1), Shape(outputs, outputs, 1)
    assert _padding("conv", *shapes, (kernel, kernel), (stride, stride), padding, ceil_mode) == name


def test_a_padding_without_a_name() -> None:
    with pytest.raises(SystemExit, match="neither SAME nor VALID"):
        _padding("conv", Shape(112, 112, 1), Shape(56, 56, 1), (3, 3), (2, 2), (1, 1, 1, 1))
