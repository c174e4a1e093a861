"""The meaning of the integer graph, in numpy: plain and obviously right. Every target is compared with it.

Convolutions multiply matrices of floats that hold integers, which is exact (:func:`exact_type`). One product computes a
few images at a time; the results of an image do not depend on the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from squeezeedge.graph.windows import floor_padding, window_map

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
    """R3 divided by 2^k: y = clip(floor(sum * 2^-k + (bias + rounding term) * 2^-k + z_out), 0, 255).

    Every one of these numbers is an integer times 2^-k, and as exact in floats as that integer is.
    """
    k = node.shift.astype(np.int64)
    constant = node.bias + rules.rounding_term(k) + (node.zero_point << k)
    exact = exact_type(rules.accumulator_reach(node.weight) + np.abs(constant))
    step = np.ldexp(1.0, -k)
    factor, offset = step.astype(exact), (constant * step).astype(exact)
    result = _result(node, inputs[0], np.uint8)
    for part, sums in _sums(node, inputs[0], tensors[node.input], exact, result):
        sums *= factor
        sums += offset
        np.clip(sums, 0, rules.Q_MAX, out=sums)
        part[:] = sums  # cuts the fraction off: the floor of what is not negative
    return result


@apply.implements(Head)
def _head(node: Head, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> NDArray[np.int32]:
    acc = accumulate(node, inputs[0], tensors[node.input])
    terms = np.maximum(acc, 0) if node.relu else acc
    sums: NDArray[np.int32] = terms.sum((-3, -2), dtype=np.int32)
    return sums


@apply.implements(MaxPool)
def _max_pool(node: MaxPool, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    """Padded pixels are 0 here, which never wins: every window has a valid pixel, and no q is below 0 (R5)."""
    out = tensors[node.name]
    *images, height, width, channels = inputs[0].shape
    source = rules.Shape(height, width, channels)
    top, left, bottom, right = floor_padding(source, out.shape, node.kernel, node.stride, node.padding)
    padded = np.pad(inputs[0], (*[(0, 0)] * len(images), (top, bottom), (left, right), (0, 0)))
    rows = _largest(padded, -3, node.kernel[0], node.stride[0], out.height)
    return _largest(rows, -2, node.kernel[1], node.stride[1], out.width)


def _largest(value: Q8, axis: int, kernel: int, stride: int, count: int) -> Q8:
    """Maxima of ``count`` windows of ``kernel`` neighbours along an axis, ``stride`` apart."""
    along = np.moveaxis(value, axis, 0)
    taps = [along[start : start + (count - 1) * stride + 1 : stride] for start in range(kernel)]
    result = taps[0].copy("K")  # in the order of ``value``
    for tap in taps[1:]:
        np.maximum(result, tap, out=result)
    return np.moveaxis(result, 0, axis)


@apply.implements(Concat)
def _concat(node: Concat, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    return np.concatenate(inputs, -1)


@apply.implements(Add)
def _add(node: Add, inputs: Sequence[Q8], tensors: Mapping[str, Tensor]) -> Q8:
    operands = [q.astype(np.int32) - tensors[name].zero_point for name, q in zip(node.inputs, inputs, strict=True)]
    first, second = (rules.rounding_shift(q, k) for q, k in zip(operands, node.shift, strict=True))
    return rules.clip(first + second + node.zero_point)


def exact_type(bound: NDArray[np.int64]) -> type[np.floating[Any]]:
    """The float type in which sums of integers are exact, in any order of their additions.

    A float type holds every integer up to 2**(its significand's bits). If no sum of some of the numbers exceeds that,
    no operation rounds, nor does a fused multiply-add. The limit is ``rules.FLOAT32_EXACT`` = 2**24 in float32 and
    2**53 in float64; R4 keeps accumulators below 2**31. The same holds for numbers that are all multiplied by the same
    power of two.

    Args:
        bound: int64 [...], the sum of the numbers' magnitudes. For the products w * (q - z) of a convolution, it is at
            most ``rules.accumulator_reach(weight)``.
    """
    return np.float32 if bound.max() < rules.FLOAT32_EXACT else np.float64


def accumulate(node: Conv | Head, value: Q8, source: Tensor) -> NDArray[np.int32]:
    """Accumulators of a convolution: bias[o] + sum of w * (q - z) (R3).

    Args:
        node: the convolution or the head.
        value: uint8 [..., height, width, in].
        source: the input tensor's description.

    Returns:
        int32 [..., out_height, out_width, out].
    """
    acc = _result(node, value, np.int32)
    for part, sums in _sums(node, value, source, exact_type(rules.accumulator_reach(node.weight)), acc):
        part[:] = sums
        part += node.bias
    return acc


def _result(node: Conv | Head, value: Q8, of: type[R]) -> NDArray[R]:
    """Room for a convolution's results, [..., out_height, out_width, out]."""
    size: tuple[int, int] = window_map(value.shape[-3:], node.weight.shape[1:3], node.stride, node.padding)
    return np.empty((*value.shape[:-3], *size, len(node.weight)), of)


def _sums(
    node: Conv | Head, value: Q8, source: Tensor, exact: type[np.floating[Any]], result: NDArray[R]
) -> Iterator[tuple[NDArray[R], Exact]]:
    """Sums of w * (q - z), of a few images or rows at a time, so that they stay in the cache.

    Args:
        node: the convolution or the head.
        value: uint8 [..., height, width, in].
        source: the input tensor's description.
        exact: a float type in which the sums are exact.
        result: what is made of them, [..., out_height, out_width, out].

    Yields:
        (a part of ``result``, its sums), both [n, rows, out_width, out]; the sums' memory is used again afterwards.
    """
    windows: Q8 = _windows(node, value.reshape(-1, *value.shape[-3:]))
    result = result.reshape(len(windows), *result.shape[-3:])
    height, width = windows.shape[1:3]
    numbers = width * max(windows[0, 0, 0].size, len(node.weight))
    rows = min(height, max(1, PART // numbers))
    together = min(len(windows), max(1, PART // (rows * numbers)))
    places = [
        np.s_[image : image + together, row : row + rows]
        for image in range(0, len(windows), together)
        for row in range(0, height, rows)
    ]
    if node.groups == len(node.weight) == value.shape[-1]:
        yield from _depthwise_sums(node, windows, source.zero_point, exact, result, places)
        return
    matrices: list[Exact] = [
        np.ascontiguousarray(w.reshape(len(w), -1).T, exact) for w in np.split(node.weight, node.groups)
    ]
    terms = np.empty((together * rows * width, len(matrices[0])), exact)
    sums: Exact = np.empty((len(terms), len(node.weight)), exact)
    groups = [*zip(np.split(windows, node.groups, 5), matrices, np.split(sums, node.groups, 1), strict=True)]
    for place in places:
        part = result[place]
        pixels = math.prod(part.shape[:3])
        for of_group, matrix, group_sums in groups:
            terms[:pixels].reshape(*part.shape[:3], *of_group.shape[3:])[:] = of_group[place]
            if source.zero_point:
                terms[:pixels] -= source.zero_point
            np.matmul(terms[:pixels], matrix, out=group_sums[:pixels])
        yield part, sums[:pixels].reshape(part.shape)


def _depthwise_sums(
    node: Conv | Head,
    windows: Q8,
    zero_point: int,
    exact: type[np.floating[Any]],
    result: NDArray[R],
    places: Sequence[tuple[slice, slice]],
) -> Iterator[tuple[NDArray[R], Exact]]:
    """As :func:`_sums` for a depthwise convolution, one position of the kernel after the other."""
    weight = node.weight[..., 0].transpose(1, 2, 0).astype(exact)
    parts = [result[place] for place in places]
    sums, terms = np.empty((2, max(part.size for part in parts)), exact)
    for place, part in zip(places, parts, strict=True):
        total, term = (array[: part.size].reshape(part.shape) for array in (sums, terms))
        total[:] = -zero_point * weight.sum((0, 1))
        for y, x in np.ndindex(*weight.shape[:2]):
            np.multiply(windows[place][:, :, :, y, x], weight[y, x], out=term)
            total += term
        yield part, total


def _windows(node: Conv | Head, images: Q8) -> Q8:
    """Every output pixel's window of q, with the pad value around the image.

    Args:
        node: the convolution or the head.
        images: uint8 [N, height, width, in].

    Returns:
        [N, out_height, out_width, kernel_h, kernel_w, in], a view.
    """
    count, height, width, channels = images.shape
    top, left, bottom, right = node.padding
    padded = images
    if any(node.padding):
        padded = np.empty((count, top + height + bottom, left + width + right, channels), np.uint8)
        padded[:] = node.pad_value
        padded[:, top : top + height, left : left + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, node.weight.shape[1:3], (1, 2))
    return np.moveaxis(windows[:, :: node.stride[0], :: node.stride[1]], 3, 5)
