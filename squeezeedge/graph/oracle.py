"""The meaning of the integer graph, in numpy: plain and obviously right. Every target is compared with it.

Convolutions multiply matrices of floats that hold integers. Every partial sum is an integer of at most
``rules.Q_MAX`` * sum |w|, so the result is exact in float32 while that is below ``rules.FLOAT32_EXACT`` and otherwise
in float64 (R4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.integer import (
    IMAGE,
    INTEGER_OPERATORS,
    Add,
    Concat,
    Conv,
    Head,
    IntegerGraph,
    MaxPool,
    Node,
    Tensor,
)
from squeezeedge.graph.windows import floor_padding

__all__ = ["accumulate", "apply", "execute", "run"]

Q8 = NDArray[np.uint8]
Result = NDArray[np.uint8] | NDArray[np.int32]


def run(graph: IntegerGraph, images: Q8) -> NDArray[np.int32]:
    """Class sums of a batch.

    Args:
        graph: the integer graph.
        images: uint8 [N, height, width, 3].

    Returns:
        int32 [N, classes].
    """
    if images.dtype != np.uint8 or images.shape[1:] != graph.input_shape:
        raise ValueError(f"images must be uint8 [N, {', '.join(map(str, graph.input_shape))}]")
    sums = np.empty((len(images), graph.classes), np.int32)
    for index, image in enumerate(images):
        for name, value in execute(graph, image):
            if name == graph.head.name:
                sums[index] = value
    return sums


def execute(graph: IntegerGraph, image: Q8) -> Iterator[tuple[str, Result]]:
    """Run one image and yield every node's result in execution order.

    Args:
        graph: the integer graph.
        image: uint8 [height, width, 3].

    Yields:
        (node name, uint8 [height, width, channels]); last (head name, int32 [classes]).
    """
    values: dict[str, Result] = {IMAGE: image}
    for node in graph.nodes:
        values[node.name] = apply(node, [values[name] for name in node.inputs], graph.tensors)
        yield node.name, values[node.name]


apply: Table[Node, Result] = Table("oracle", INTEGER_OPERATORS)
"""``apply(node, inputs, tensors)``: run one node.

``inputs`` are uint8 [height, width, channels], one for each of its inputs; of ``tensors``, the graph's, those of the
inputs and of the node itself are read. Returns uint8 [height, width, channels], of the head int32 [classes].
"""


@apply.implements(Conv)
def _conv(node: Conv, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    acc = accumulate(node, inputs[0], tensors[node.input])
    return rules.clip(rules.rounding_shift(acc, node.shift) + node.zero_point)


@apply.implements(Head)
def _head(node: Head, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> NDArray[np.int32]:
    acc = accumulate(node, inputs[0], tensors[node.input])
    sums: NDArray[np.int32] = (np.maximum(acc, 0) if node.relu else acc).sum((0, 1), dtype=np.int32)
    return sums


@apply.implements(MaxPool)
def _max_pool(node: MaxPool, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    """Padded pixels are 0 here, which never wins: every window has a valid pixel, and no q is below 0 (R5)."""
    out = tensors[node.name]
    top, left, bottom, right = floor_padding(inputs[0].shape, out.shape, node.kernel, node.stride, node.padding)
    padded = np.pad(inputs[0], ((top, bottom), (left, right), (0, 0)))
    rows, columns = (out.height - 1) * node.stride[0] + 1, (out.width - 1) * node.stride[1] + 1
    result = np.zeros(out.shape, np.uint8)
    for y in range(node.kernel[0]):
        for x in range(node.kernel[1]):
            np.maximum(result, padded[y : y + rows : node.stride[0], x : x + columns : node.stride[1]], out=result)
    return result


@apply.implements(Concat)
def _concat(node: Concat, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    return np.concatenate(inputs, 2)


@apply.implements(Add)
def _add(node: Add, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    operands = [q.astype(np.int32) - tensors[name].zero_point for name, q in zip(node.inputs, inputs, strict=True)]
    first, second = (rules.rounding_shift(q, k) for q, k in zip(operands, node.shift, strict=True))
    return rules.clip(first + second + node.zero_point)


def accumulate(node: Conv | Head, value: Q8, source: Tensor) -> NDArray[np.int32]:
    """Accumulators of a convolution: bias[o] + sum of w * (q - z) (R3), one matrix product a group.

    Args:
        node: the convolution or the head.
        value: uint8 [height, width, in].
        source: the input tensor's description.

    Returns:
        int32 [out_height, out_width, out].
    """
    out, kernel_h, kernel_w, _ = node.weight.shape
    exact = np.float32 if rules.accumulator_reach(node.weight).max() < rules.FLOAT32_EXACT else np.float64
    top, left, bottom, right = node.padding
    padded = np.empty((value.shape[0] + top + bottom, value.shape[1] + left + right, value.shape[2]), exact)
    padded[:] = node.pad_value
    padded[top : top + value.shape[0], left : left + value.shape[1]] = value
    padded -= source.zero_point
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel_h, kernel_w), (0, 1))
    windows = windows[:: node.stride[0], :: node.stride[1]]  # [out_h, out_w, in, kernel_h, kernel_w]
    height, width = windows.shape[:2]
    products = np.empty((height * width, out), np.int32)
    parts = zip(*(np.split(array, node.groups, axis) for array, axis in ((windows, 2), (node.weight, 0))), strict=True)
    for place, (window, weight) in enumerate(parts):
        rows = window.transpose(0, 1, 3, 4, 2).reshape(height * width, -1)
        columns = slice(place * len(weight), (place + 1) * len(weight))
        products[:, columns] = rows @ weight.reshape(len(weight), -1).astype(exact).T
    return products.reshape(height, width, out) + node.bias
