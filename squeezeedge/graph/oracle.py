"""The meaning of the integer graph, in numpy: plain and obviously right. Every target is compared with it.

Convolutions multiply matrices of floats that hold integers. Every partial sum is an integer of at most
255 * sum |w|, so the result is exact in float32 while that is below 2**24 and otherwise in float64 (R4).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor

__all__ = ["accumulate", "apply", "execute", "run"]

Q8 = NDArray[np.uint8]
FLOAT32_EXACT = 2**24


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
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, Head):
            acc = accumulate(node, inputs[0], graph.tensors[node.input])
            yield node.name, (np.maximum(acc, 0) if node.relu else acc).sum((0, 1), dtype=np.int32)
        else:
            values[node.name] = apply(node, inputs, graph.tensors)
            yield node.name, values[node.name]


def apply(node: Node, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    """Run one node, any but the head.

    Args:
        node: the node.
        inputs: uint8 [height, width, channels] of each of its inputs.
        tensors: the graph's tensors; those of the inputs and the node itself are read.

    Returns:
        uint8 [height, width, channels].
    """
    if isinstance(node, Conv):
        acc = accumulate(node, inputs[0], tensors[node.input])
        return _clip(_rounding_shift(acc, node.shift) + node.zero_point)
    if isinstance(node, MaxPool):
        return _max_pool(node, inputs[0], tensors[node.name])
    if isinstance(node, Concat):
        return np.concatenate(inputs, 2)
    assert isinstance(node, Add)
    operands = [q.astype(np.int32) - tensors[name].zero_point for name, q in zip(node.inputs, inputs, strict=True)]
    first, second = (_rounding_shift(q, k) for q, k in zip(operands, node.shift, strict=True))
    return _clip(first + second + node.zero_point)


def accumulate(node: Conv | Head, value: Q8, source: Tensor) -> NDArray[np.int32]:
    """Accumulators of a convolution: bias[o] + sum of w * (q - z) (R3).

    Args:
        node: the convolution or the head.
        value: uint8 [height, width, in].
        source: the input tensor's description.

    Returns:
        int32 [out_height, out_width, out].
    """
    out, kernel_h, kernel_w, _ = node.weight.shape
    reach = 255 * int(np.abs(node.weight.astype(np.int64)).sum((1, 2, 3)).max())
    exact = np.float32 if reach < FLOAT32_EXACT else np.float64
    top, left, bottom, right = node.padding
    padded = np.empty((value.shape[0] + top + bottom, value.shape[1] + left + right, value.shape[2]), exact)
    padded[:] = node.pad_value
    padded[top : top + value.shape[0], left : left + value.shape[1]] = value
    padded -= source.zero_point
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel_h, kernel_w), (0, 1))
    windows = windows[:: node.stride[0], :: node.stride[1]]  # [out_h, out_w, in, kernel_h, kernel_w]
    height, width = windows.shape[:2]
    rows = windows.transpose(0, 1, 3, 4, 2).reshape(height * width, -1)
    products: NDArray[np.int32] = (rows @ node.weight.reshape(out, -1).astype(exact).T).astype(np.int32)
    return products.reshape(height, width, out) + node.bias


def _rounding_shift(acc: NDArray[np.int32], shift: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(acc + (1 << (k - 1))) >> k, arithmetic; k = 0 changes nothing (R3)."""
    k = shift.astype(np.int32)
    return (acc + ((1 << k) >> 1)) >> k


def _clip(acc: NDArray[np.int32]) -> Q8:
    return acc.clip(0, 255).astype(np.uint8)


def _max_pool(node: MaxPool, value: Q8, out: Tensor) -> Q8:
    """Padded pixels are 0 here, which never wins: every window has a valid pixel, and no q is below 0 (R5)."""
    top, left = node.padding[:2]
    rows, columns = (out.height - 1) * node.stride[0] + 1, (out.width - 1) * node.stride[1] + 1
    needed = (rows - 1 + node.kernel[0], columns - 1 + node.kernel[1])
    padded = np.zeros(
        (max(needed[0], top + value.shape[0]), max(needed[1], left + value.shape[1]), out.channels), np.uint8
    )
    padded[top : top + value.shape[0], left : left + value.shape[1]] = value
    result = np.zeros((out.height, out.width, out.channels), np.uint8)
    for y in range(node.kernel[0]):
        for x in range(node.kernel[1]):
            np.maximum(result, padded[y : y + rows : node.stride[0], x : x + columns : node.stride[1]], out=result)
    return result
