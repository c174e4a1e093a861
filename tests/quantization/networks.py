"""Float networks for the quantizer's tests, written node by node, and their fp32 logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import PRESETS, Preprocessing
from squeezeedge.evaluation.metrics import sqnr_db
from squeezeedge.graph import IMAGE, oracle
from squeezeedge.graph.float.builder import FloatGraphBuilder
from squeezeedge.graph.float.graph import (
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers.from_torch import from_torch
from squeezeedge.graph.integer import IntegerGraph
from squeezeedge.networks import registry
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.quantization.folded import FoldedGraph, execute_folded
from squeezeedge.quantization.passes import folded_graph
from squeezeedge.quantization.rewrite import of_kind

__all__ = [
    "PREPROCESSING",
    "FloatNet",
    "dense",
    "digits_network",
    "folded",
    "folded_logits",
    "kinds",
    "logits_sqnr",
    "natural_images",
    "random_net",
    "same_function",
]

PREPROCESSING = Preprocessing(size=(23, 27), resize=None, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25))


class FloatNet:
    """Grows a float network with random weights; every method returns the name of the tensor it made."""

    def __init__(self, seed: int, size: tuple[int, int] = PREPROCESSING.size) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = FloatGraphBuilder(size)

    def channels(self, source: str) -> int:
        return self.builder.shapes[source].channels

    def conv(
        self,
        source: str,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        *,
        bias: float = 0.1,
        gain: float = 1.0,
    ) -> str:
        channels = self.channels(source) // groups
        fan_in = channels * kernel**2
        weight = self.rng.normal(0, gain * np.sqrt(2 / fan_in), (out, channels, kernel, kernel))
        weight *= np.exp2(self.rng.uniform(-2, 2, out))[:, None, None, None]  # channels differ in range
        return self.add_conv(source, weight, self.rng.normal(0, bias, out), stride, padding, groups)

    def depthwise(self, source: str, stride: int = 1) -> str:
        """A 3x3 convolution of each channel on its own."""
        channels = self.channels(source)
        return self.conv(source, channels, 3, stride, 1, channels)

    def add_conv(
        self,
        source: str,
        weight: NDArray[np.floating],
        bias: NDArray[np.floating],
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> str:
        return self.builder.append(
            FloatConv(
                self.builder.unique("conv"),
                (source,),
                weight.astype(np.float32),
                bias.astype(np.float32),
                (stride, stride),
                (padding, padding, padding, padding),
                groups=groups,
            )
        )

    def norm(self, source: str) -> str:
        count = self.channels(source)
        multiplier = self.rng.normal(1, 0.3, count).astype(np.float32)
        offset = self.rng.normal(0, 0.3, count).astype(np.float32)
        return self.builder.append(FloatBatchNorm(self.builder.unique("norm"), (source,), multiplier, offset))

    def relu(self, source: str, limit: float = math.inf) -> str:
        return self.builder.append(FloatRelu(self.builder.unique("relu"), (source,), limit))

    def pool(self, source: str, kernel: int = 3, stride: int = 2, padding: int = 0, ceil_mode: bool = False) -> str:
        pads = (padding, padding, padding, padding)
        return self.builder.append(
            FloatMaxPool(self.builder.unique("pool"), (source,), (kernel, kernel), (stride, stride), pads, ceil_mode)
        )

    def average_pool(self, source: str, kernel: int = 2, stride: int = 2, padding: int = 0) -> str:
        """Local average pooling that counts padded pixels."""
        name, pads = self.builder.unique("average_pool"), (padding, padding, padding, padding)
        return self.builder.append(
            FloatAveragePool(name, (source,), (kernel, kernel), (stride, stride), pads, kernel**2)
        )

    def concat(self, *sources: str) -> str:
        return self.builder.append(FloatConcat(self.builder.unique("concat"), sources))

    def add(self, first: str, second: str) -> str:
        return self.builder.append(FloatAdd(self.builder.unique("add"), (first, second)))

    def fire(self, source: str, squeeze: int, expand: int) -> str:
        squeezed = self.relu(self.conv(source, squeeze))
        wide = [self.conv(squeezed, expand), self.conv(squeezed, expand, 3, padding=1)]
        return self.concat(*map(self.relu, wide))

    def average(self, source: str) -> str:
        return self.builder.append(FloatGlobalAveragePool(self.builder.unique("average"), (source,)))

    def linear(self, source: str, classes: int) -> str:
        channels = self.channels(source)
        weight = self.rng.normal(0, channels**-0.5, (classes, channels)).astype(np.float32)
        bias = self.rng.normal(0, 0.1, classes).astype(np.float32)
        return self.builder.append(FloatLinear(self.builder.unique("linear"), (source,), weight, bias))

    def graph(self, output: str) -> FloatGraph:
        return self.builder.build("net", output)

    def classifier(self, source: str, classes: int = 7, linear: bool = False) -> FloatGraph:
        if linear:
            return self.graph(self.linear(self.average(source), classes))
        return self.graph(self.average(self.relu(self.conv(source, classes))))


def random_net(seed: int, blocks: int) -> FloatGraph:
    """A random network of all operators, in all orders that a float graph allows."""
    net = FloatNet(seed)
    rng = net.rng
    tensors = [IMAGE]

    def pick() -> str:
        return tensors[-1] if rng.random() < 0.6 else tensors[rng.integers(len(tensors))]

    for _ in range(blocks):
        source = pick()
        shape = net.builder.shapes[source]
        alike = [name for name in tensors if net.builder.shapes[name][:2] == shape[:2]]
        same = [name for name in alike if net.builder.shapes[name] == shape]
        kind = rng.choice("conv conv grouped norm relu relu pool average concat add residual fire".split())
        if kind in ("pool", "average") and min(shape[:2]) < 6:
            kind = "conv"
        if kind == "conv":
            kernel = int(rng.choice([1, 3])) if min(shape[:2]) >= 3 else 1
            made = net.conv(source, int(rng.integers(1, 9)), kernel, padding=int(rng.integers(0, kernel // 2 + 1)))
        elif kind == "grouped":
            groups = int(rng.choice([number for number in range(1, 24) if shape.channels % number == 0]))
            made = net.conv(source, groups * int(rng.integers(1, 4)), 3, padding=1, groups=groups)
        elif kind == "norm":
            made = net.norm(source)
        elif kind == "relu":
            made = net.relu(source, float(rng.choice([math.inf, 2, 6])))
        elif kind == "pool":
            made = net.pool(source, padding=int(rng.integers(0, 2)), ceil_mode=bool(rng.integers(2)))
        elif kind == "average":
            made = net.average_pool(source, int(rng.integers(2, 4)), int(rng.integers(1, 3)), int(rng.integers(0, 2)))
        elif kind == "concat":
            made = net.concat(source, *(alike[i] for i in rng.integers(0, len(alike), int(rng.integers(0, 3)))))
        elif kind == "add":
            made = net.add(source, same[rng.integers(len(same))])
        elif kind == "fire":
            made = net.fire(source, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        else:
            made = net.add(net.conv(net.relu(net.conv(source, 5, 3, padding=1)), shape.channels), source)
        tensors.append(made)
    source = tensors[-1]
    ends: list[Callable[[str], str]] = [
        net.average,
        lambda name: net.average(net.relu(name)),
        lambda name: net.average(net.relu(name, 6)),
        lambda name: net.linear(net.average(name), 4),
    ]
    return net.graph(ends[rng.integers(len(ends))](source))


def dense(graph: FloatGraph) -> FloatGraph:
    """The same function without groups: grouped convolutions get weights that are zero where they read nothing."""
    changed = {}
    for node in of_kind(graph.nodes, FloatConv):
        out, channels = node.weight.shape[:2]
        weight = np.zeros((out, channels * node.groups, *node.weight.shape[2:]), np.float32)
        for index, own in enumerate(np.split(np.arange(out), node.groups)):
            weight[own, index * channels : (index + 1) * channels] = node.weight[own]
        changed[node.name] = replace(node, weight=weight, groups=1)
    return FloatGraph(graph.name, tuple(changed.get(node.name, node) for node in graph.nodes), graph.input_size)


def digits_network() -> tuple[torch.nn.Module, FloatGraph, Preprocessing]:
    """The embedded network, in torch and as a float graph, and its preprocessing."""
    checkpoint = read_checkpoint(registry.default_weights())
    (name, *_), classes = registry.identify(checkpoint.state)
    module = registry.build(name, classes)
    registry.load_weights(module, checkpoint.state, name)
    preprocessing = PRESETS[registry.NETWORKS[registry.DEFAULT].preprocessing]
    return module, from_torch(module, preprocessing.size, registry.DEFAULT), preprocessing


def kinds(graph: FloatGraph) -> list[str]:
    """The operators of a graph, in order: "Conv", "Relu", ..."""
    return [type(node).__name__.removeprefix("Float") for node in graph.nodes]


def same_function(first: FloatGraph, second: FloatGraph) -> None:
    """Both graphs have the same logits on three images."""
    images = PREPROCESSING.normalize(natural_images(3, PREPROCESSING.size))
    reference = run_float(first, images)
    np.testing.assert_allclose(run_float(second, images), reference, rtol=0, atol=1e-5 * np.abs(reference).max())


def folded(graph: FloatGraph) -> FoldedGraph:
    """What the quantization starts from."""
    return folded_graph(graph, PREPROCESSING)


def natural_images(count: int, size: Sequence[int], seed: int = 0) -> NDArray[np.uint8]:
    """Random images with a natural image's falling spectrum and differing contrast: uint8 [count, h, w, 3]."""
    rng = np.random.default_rng(seed)
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1 / max(size)
    spectrum = np.fft.fft2(rng.normal(size=(count, 3, height, width))) / frequency
    waves: NDArray[np.float64] = np.fft.ifft2(spectrum).real
    waves = waves / waves.std((1, 2, 3), keepdims=True)
    waves = waves * rng.uniform(20, 70, (count, 1, 1, 1)) + rng.uniform(80, 170, (count, 1, 1, 1))
    return waves.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1).copy()


def folded_logits(graph: FoldedGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of a folded graph: float32 [N, classes]."""
    with torch.no_grad():
        *_, (head, value) = execute_folded(graph, torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    value = value.relu() if graph.head.relu else value  # a limit would be an error: R6 has none
    assert head is graph.head
    return value.mean((2, 3)).numpy()


def logits_sqnr(
    floating: FloatGraph, graph: IntegerGraph, pixels: NDArray[np.uint8], preprocessing: Preprocessing = PREPROCESSING
) -> float:
    """SQNR in dB of the integer graph's logits (by the oracle) against the float graph's."""
    reference = run_float(floating, preprocessing.normalize(pixels))
    ratio = sqnr_db(reference, graph.logits(oracle.run(graph, pixels)))
    return np.inf if ratio is None else ratio
