"""The meaning of the integer graph, in numpy: plain and obviously right. Every target is compared with it.

Convolutions multiply matrices of floats that hold integers, which is exact (:func:`exact_type`). A few images at a
time go through one product; what an image's results are does not depend on the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

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

__all__ = ["accumulate", "apply", "exact_type", "execute", "run"]

Q8 = NDArray[np.uint8]
Result = NDArray[np.uint8] | NDArray[np.int32]
Exact: TypeAlias = NDArray[np.floating[Any]]
R = TypeVar("R", np.uint8, np.int32)

BATCH_PIXELS = 8 * 224 * 224
"""Pixels of the images that are run together."""
PART = 2**18
"""Numbers of a convolution's input, and of its accumulators, that are in work at a time."""


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
    together = max(1, BATCH_PIXELS // (graph.input_shape[0] * graph.input_shape[1]))
    for start in range(0, len(images), together):
        for name, value in execute(graph, images[start : start + together]):
            if name == graph.head.name:
                sums[start : start + together] = value
    return sums


def execute(graph: IntegerGraph, images: Q8) -> Iterator[tuple[str, Result]]:
    """Run images and yield every node's result in execution order; each is dropped after its last reader.

    Args:
        graph: the integer graph.
        images: uint8 [..., height, width, 3]: one image, or several together.

    Yields:
        (node name, uint8 [..., height, width, channels]); last (head name, int32 [..., classes]).
    """
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Result] = {IMAGE: images}
    for node in graph.nodes:
        value = values[node.name] = apply(node, [values[name] for name in node.inputs], graph.tensors)
        for name in set(node.inputs):
            if last_reader[name] == node.name:
                del values[name]
        yield node.name, value


apply: Table[Node, Result] = Table("oracle", INTEGER_OPERATORS)
"""``apply(node, inputs, tensors)``: run one node.

``inputs`` are uint8 [..., height, width, channels], one for each of its inputs; of ``tensors``, the graph's, those of
the inputs and of the node itself are read. Returns uint8 [..., height, width, channels], of the head int32
[..., classes].
"""


@apply.implements(Conv)
def _conv(node: Conv, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    def requantize(acc: NDArray[np.int32]) -> Q8:
        return rules.clip(rules.rounding_shift(acc, node.shift) + node.zero_point)

    return _in_parts(node, inputs[0], tensors[node.input], requantize)


@apply.implements(Head)
def _head(node: Head, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> NDArray[np.int32]:
    def of_rows(acc: NDArray[np.int32]) -> NDArray[np.int32]:
        terms = np.maximum(acc, 0) if node.relu else acc
        of_part: NDArray[np.int32] = terms.sum((1, 2), dtype=np.int32)
        return of_part[:, np.newaxis]

    rows = _in_parts(node, inputs[0], tensors[node.input], of_rows)
    sums: NDArray[np.int32] = rows.sum(-2, dtype=np.int32)
    return sums


@apply.implements(MaxPool)
def _max_pool(node: MaxPool, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    """Padded pixels are 0 here, which never wins: every window has a valid pixel, and no q is below 0 (R5)."""
    out = tensors[node.name]
    *images, height, width, channels = inputs[0].shape
    source = rules.Shape(height, width, channels)
    top, left, bottom, right = floor_padding(source, out.shape, node.kernel, node.stride, node.padding)
    padded = np.pad(inputs[0], (*[(0, 0)] * len(images), (top, bottom), (left, right), (0, 0)))
    rows, columns = (out.height - 1) * node.stride[0] + 1, (out.width - 1) * node.stride[1] + 1
    result = np.zeros((*images, *out.shape), np.uint8)
    for y in range(node.kernel[0]):
        for x in range(node.kernel[1]):
            tap = padded[..., y : y + rows : node.stride[0], x : x + columns : node.stride[1], :]
            np.maximum(result, tap, out=result)
    return result


@apply.implements(Concat)
def _concat(node: Concat, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    return np.concatenate(inputs, -1)


@apply.implements(Add)
def _add(node: Add, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    operands = [q.astype(np.int32) - tensors[name].zero_point for name, q in zip(node.inputs, inputs, strict=True)]
    first, second = (rules.rounding_shift(q, k) for q, k in zip(operands, node.shift, strict=True))
    return rules.clip(first + second + node.zero_point)


def exact_type(weight: NDArray[np.int8]) -> type[np.floating[Any]]:
    """The float type in which matrix products with these weights are exact, in any order of their additions.

    Every product w * (q - z) and every sum of some of them is an integer of at most ``rules.Q_MAX`` * sum |w| (the
    reach), as |q - z| <= ``rules.Q_MAX`` (R1). A float type holds every integer up to 2**(its significand's bits), so
    where the reach is below that, no operation rounds: in float32 below ``rules.FLOAT32_EXACT`` = 2**24. In float64
    it is 2**53, and R4 keeps the reach below 2**31. A fused multiplication and addition is one such sum, too.

    Args:
        weight: int8 [out, ...].
    """
    return np.float32 if rules.accumulator_reach(weight).max() < rules.FLOAT32_EXACT else np.float64


def accumulate(node: Conv | Head, value: Q8, source: Tensor) -> NDArray[np.int32]:
    """Accumulators of a convolution: bias[o] + sum of w * (q - z) (R3).

    Args:
        node: the convolution or the head.
        value: uint8 [..., height, width, in].
        source: the input tensor's description.

    Returns:
        int32 [..., out_height, out_width, out].
    """
    return _in_parts(node, value, source, lambda acc: acc)


def _in_parts(
    node: Conv | Head, value: Q8, source: Tensor, finish: Callable[[NDArray[np.int32]], NDArray[R]]
) -> NDArray[R]:
    """What ``finish`` makes of each accumulator, of a few images or rows at a time, whose numbers stay in the cache."""
    images = value.reshape(-1, *value.shape[-3:])
    exact = exact_type(node.weight)
    matrices = [part.reshape(len(part), -1).T.astype(exact) for part in np.split(node.weight, node.groups)]
    by_image = []
    together = max(1, PART // images[0].size)
    for start in range(0, len(images), together):
        windows = _windows(node, images[start : start + together].astype(exact), source.zero_point)
        rows = max(1, PART // (together * windows.shape[2] * len(node.weight)))
        by_row = [
            finish(_products(windows[:, row : row + rows], matrices) + node.bias)
            for row in range(0, windows.shape[1], rows)
        ]
        by_image.append(np.concatenate(by_row, 1))
    result = np.concatenate(by_image)
    return result.reshape(*value.shape[:-3], *result.shape[1:])


def _windows(node: Conv | Head, images: Exact, zero_point: int) -> Exact:
    """Every output pixel's window of q - z, with the pad value around the image.

    Args:
        node: the convolution or the head.
        images: float [N, height, width, in], q.
        zero_point: z of the input.

    Returns:
        [N, out_height, out_width, kernel_h, kernel_w, in], a view.
    """
    count, height, width, channels = images.shape
    top, left, bottom, right = node.padding
    padded = images
    if any(node.padding):
        padded = np.empty((count, top + height + bottom, left + width + right, channels), images.dtype)
        padded[:] = node.pad_value
        padded[:, top : top + height, left : left + width] = images
    padded -= zero_point
    windows = np.lib.stride_tricks.sliding_window_view(padded, node.weight.shape[1:3], (1, 2))
    return np.moveaxis(windows[:, :: node.stride[0], :: node.stride[1]], 3, 5)


def _products(windows: Exact, matrices: Sequence[Exact]) -> NDArray[np.int32]:
    """One matrix product a group of channels.

    Args:
        windows: [N, height, width, kernel_h, kernel_w, in].
        matrices: of each group, [kernel_h * kernel_w * in / groups, out / groups].

    Returns:
        [N, height, width, out].
    """
    pixels = windows.shape[:3]
    sums = np.empty((math.prod(pixels), sum(matrix.shape[1] for matrix in matrices)), np.int32)
    groups = (np.split(array, len(matrices), axis) for array, axis in ((windows, 5), (sums, 1)))
    for part, group_sums, matrix in zip(*groups, matrices, strict=True):
        group_sums[:] = part.reshape(-1, len(matrix)) @ matrix
    return sums.reshape(*pixels, -1)
