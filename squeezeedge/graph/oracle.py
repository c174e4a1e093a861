"""The meaning of the integer graph, in numpy: plain, slow, obviously right. Every target is compared with it.

Convolutions multiply in float64: every partial sum is an integer below 2**31 (R4), so it is exact.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor

__all__ = ["execute", "run"]

Q8 = NDArray[np.uint8]


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


def execute(graph: IntegerGraph, image: Q8) -> Iterator[tuple[str, NDArray[np.uint8] | NDArray[np.int32]]]:
    """Run one image and yield every node's result in execution order.

    Args:
        graph: the integer graph.
        image: uint8 [height, width, 3].

    Yields:
        (node name, uint8 [height, width, channels]); last (head name, int32 [classes]).
    """
    values: dict[str, Q8] = {IMAGE: image}
    for node in graph.nodes:
        if isinstance(node, Head):
            acc = _accumulate(node, values[node.input], graph.tensors[node.input])
            yield node.name, (np.maximum(acc, 0) if node.relu else acc).sum((0, 1)).astype(np.int32)
        else:
            values[node.name] = _apply(node, values, graph)
            yield node.name, values[node.name]


def _apply(node: Node, values: dict[str, Q8], graph: IntegerGraph) -> Q8:
    if isinstance(node, Conv):
        acc = _accumulate(node, values[node.input], graph.tensors[node.input])
        return _clip(_rounding_shift(acc, node.shift) + node.zero_point)
    if isinstance(node, MaxPool):
        return _max_pool(node, values[node.input], graph.tensors[node.name])
    if isinstance(node, Concat):
        return np.concatenate([values[name] for name in node.inputs], 2)
    assert isinstance(node, Add)
    operands = [values[name].astype(np.int64) - graph.tensors[name].zero_point for name in node.inputs]
    first, second = (_rounding_shift(q, s) for q, s in zip(operands, node.shift, strict=True))
    return _clip(first + second + node.zero_point)


def _accumulate(node: Conv | Head, value: Q8, source: Tensor) -> NDArray[np.int64]:
    """bias[o] + sum of w * (q - z): int64 [out_h, out_w, out] (R3)."""
    top, left, bottom, right = node.padding
    padded = np.empty((value.shape[0] + top + bottom, value.shape[1] + left + right, value.shape[2]))
    padded[:] = node.pad_value
    padded[top : top + value.shape[0], left : left + value.shape[1]] = value
    padded -= source.zero_point
    out, kernel_h, kernel_w, _ = node.weight.shape
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel_h, kernel_w), (0, 1))
    windows = windows[:: node.stride[0], :: node.stride[1]]  # [out_h, out_w, in, kernel_h, kernel_w]
    weight = node.weight.transpose(0, 3, 1, 2).reshape(out, -1).astype(np.float64)
    products = windows.reshape(*windows.shape[:2], -1) @ weight.T
    return products.astype(np.int64) + node.bias


def _rounding_shift(acc: NDArray[np.int64], shift: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(acc + (1 << (k - 1))) >> k, arithmetic; k = 0 changes nothing (R3)."""
    k = shift.astype(np.int64)
    return (acc + ((1 << k) >> 1)) >> k


def _clip(acc: NDArray[np.int64]) -> Q8:
    return acc.clip(0, 255).astype(np.uint8)


def _max_pool(node: MaxPool, value: Q8, out: Tensor) -> Q8:
    top, left = node.padding[:2]
    result = np.zeros((out.height, out.width, out.channels), np.uint8)
    for y in range(out.height):
        for x in range(out.width):
            y0, x0 = y * node.stride[0] - top, x * node.stride[1] - left
            window = value[max(y0, 0) : y0 + node.kernel[0], max(x0, 0) : x0 + node.kernel[1]]
            result[y, x] = window.max((0, 1))
    return result
