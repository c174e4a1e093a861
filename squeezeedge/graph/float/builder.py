"""What the importers share: growing a float graph under unique names, and folding what is constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import (
    IMAGE,
    FloatBatchNorm,
    FloatGraph,
    FloatNode,
    output_shape,
)
from squeezeedge.graph.rules import Shape

__all__ = ["SUPPORTED", "FloatGraphBuilder", "covers_map", "float32", "folded_batch_norm", "padded_same"]

SUPPORTED = (
    "convolution (any groups, no dilation), batch normalization, ReLU, max pooling (no dilation), concatenation of "
    "channels, addition of two tensors, global average pooling, dropout, identity, flatten, and one fully connected "
    "layer at the end"
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


def covers_map(name: str, kernel: Sequence[int], padding: Sequence[int], shape: Shape) -> None:
    """Check that an average pooling is a global one.

    Raises:
        UnsupportedError: its window is smaller than the map, or it pads.
    """
    if tuple(kernel) != shape[:2] or any(padding):
        raise UnsupportedError(
            f"{name}: average pooling with a window of {'x'.join(map(str, kernel))} on a map of "
            f"{shape.height}x{shape.width} pixels; only pooling over the whole map is supported"
        )
