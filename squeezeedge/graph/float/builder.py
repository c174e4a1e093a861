"""What the importers share: growing a float graph under unique names, and folding what is constant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatAdd,
    FloatAveragePool,
    FloatBatchNorm,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatNode,
    FloatRelu,
    output_shape,
)
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import window_map, window_pixels

__all__ = [
    "SUPPORTED",
    "FloatGraphBuilder",
    "average_pool",
    "float32",
    "folded_batch_norm",
    "leaky_relu",
    "padded_same",
]

SUPPORTED = (
    "convolution, batch normalization, ReLU (with a limit or a slope), arithmetic with constants, max pooling (no "
    "dilation), average pooling (no dilation; each average of as many pixels), concatenation and other moves of "
    "channels, addition of two tensors, dropout, flatten, fully connected layers, and behind the class scores what "
    "changes no class's rank"
)
"""For messages: what the float graph can express."""


class FloatGraphBuilder:
    """Grows a float graph node by node.

    Attributes:
        nodes: so far, in execution order.
        shapes: of every tensor so far.
    """

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.input_size = input_size
        self.nodes: list[FloatNode] = []
        self.shapes: dict[str, Shape] = {IMAGE: Shape(*input_size, 3)}
        self._repeats: Counter[str] = Counter()

    def unique(self, wanted: str) -> str:
        """``wanted`` made printable, with a number behind it if a tensor has that name already."""
        base = name = "".join(letter if letter.isprintable() else "_" for letter in wanted) or "node"
        while name in self.shapes:
            self._repeats[base] += 1
            name = f"{base}_{self._repeats[base]}"
        return name

    def append(self, node: FloatNode) -> str:
        """Add a node.

        Returns:
            The name of its tensor.

        Raises:
            UnsupportedError: it does not fit its inputs.
        """
        self.shapes[node.name] = output_shape(node, [self.shapes[name] for name in node.inputs])
        self.nodes.append(node)
        return node.name

    def build(self, name: str, output: str) -> FloatGraph:
        """The graph of all nodes that ``output`` depends on.

        Raises:
            UnsupportedError: it is not a network that can be compiled.
        """
        needed = {output}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return FloatGraph(name, tuple(node for node in self.nodes if node.name in needed), self.input_size)


def float32(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """A contiguous float32 copy of any floating-point array (float16, bfloat16, float64, ...)."""
    return np.array(array, np.float32, order="C")


def folded_batch_norm(
    name: str,
    source: str,
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    epsilon: float,
) -> FloatBatchNorm:
    """Inference batch normalization (Ioffe and Szegedy, 2015): y = (x - mean) * gamma / sqrt(variance + eps) + beta.

    All arrays are float32 [channels].
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is refused with the layer's name
        multiplier = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        offset = beta - mean * multiplier
    return FloatBatchNorm(name, (source,), float32(multiplier), float32(offset))


def leaky_relu(
    name: str, source: str, slope: NDArray[np.float32]
) -> tuple[FloatRelu, FloatConv, FloatRelu, FloatConv, FloatAdd]:
    """A ReLU with a slope for negatives, as relu(x) - slope * relu(-x): the same in operators with integer rules.

    Args:
        name: of the last node, and in front of the others'.
        source: what it reads.
        slope: float32 [channels].

    Returns:
        The nodes, in execution order.
    """

    def scaling(name: str, source: str, factors: NDArray[np.float32]) -> FloatConv:
        weight, bias = float32(factors.reshape(-1, 1, 1, 1)), np.zeros(len(factors), np.float32)
        return FloatConv(name, (source,), weight, bias, (1, 1), (0, 0, 0, 0), groups=len(factors))

    positive, negative, flipped, scaled = (f"{name}.{part}" for part in ("positive", "negative", "flipped", "slope"))
    return (
        FloatRelu(positive, (source,)),
        scaling(flipped, source, np.full_like(slope, -1)),
        FloatRelu(negative, (flipped,)),
        scaling(scaled, negative, -slope),
        FloatAdd(name, (positive, scaled)),
    )


def padded_same(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], lower: bool = False
) -> tuple[int, int, int, int]:
    """Padding (top, left, bottom, right) for which the output has ceil(size / stride) pixels.

    An odd pixel goes after the image, or before it if ``lower`` (ONNX: SAME_UPPER, SAME_LOWER).
    """
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)]
    small, large = ([pad // 2 for pad in total], [pad - pad // 2 for pad in total])
    before, after = (large, small) if lower else (small, large)
    return before[0], before[1], after[0], after[1]


def average_pool(
    name: str,
    source: str,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    *,
    count_include_pad: bool,
    ceil_mode: bool,
) -> FloatAveragePool | FloatGlobalAveragePool:
    """Average pooling as torch and ONNX have it; a global one if its window is the whole map.

    Args:
        name: of the node.
        source: what it reads.
        shape: of that.
        kernel: of the window.
        stride: of the window.
        padding: (top, left, bottom, right).
        count_include_pad: whether padded pixels count, as zeros; else each window is divided by its own number of
            pixels, which must be the same for all of them.
        ceil_mode: whether a last, partly valid window counts; supported where there is none.

    Raises:
        UnsupportedError: it does not fit its input, or its windows have different numbers of pixels.
    """
    if kernel == shape[:2] and not any(padding):
        return FloatGlobalAveragePool(name, (source,))
    if ceil_mode and window_map(shape, kernel, stride, padding) != window_map(shape, kernel, stride, padding, True):
        raise UnsupportedError(
            f"{name}: average pooling in ceil mode, the last windows of which reach beyond a map of {shape.height}x"
            f"{shape.width} pixels, so that they average fewer; supported: an input size at which they do not"
        )
    pool = FloatAveragePool(name, (source,), kernel, stride, padding, math.prod(kernel))
    output_shape(pool, [shape])  # refuses what does not fit
    if count_include_pad or not any(padding):
        return pool
    high, wide = (
        set(window_pixels(shape[axis], kernel[axis], stride[axis], padding[axis], padding[axis + 2])) for axis in (0, 1)
    )
    least, most = min(high) * min(wide), max(high) * max(wide)
    if least < most:
        raise UnsupportedError(
            f"{name}: average pooling that does not count padded pixels (count_include_pad=False), so that its windows "
            f"on a map of {shape.height}x{shape.width} pixels average {least} to {most} of them; a convolution has one "
            "divisor for all. Supported: padding that counts (count_include_pad=True, with a little training), or none"
        )
    return replace(pool, divisor=most)
