"""Rules R1-R6 for one node: what :data:`squeezeedge.graph.integer.check` does for every operator.

The package imports this module, so no graph is built without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.graph import rules
from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, MaxPool, Node, Tensor, check, require
from squeezeedge.graph.windows import window_map

__all__: list[str] = []


@check.implements(Conv)
def _check_conv(node: Conv, inputs: Sequence[Tensor]) -> Tensor:
    height, width = _check_convolution(node, inputs[0])
    _check_shift(node, (len(node.bias),))
    _check_output(node, node.zero_point, node.scale, len(node.bias))
    bounds = _bounds(node) + node.rounding + node.zero_point
    _check_reach(node, int(bounds.argmax()), int(bounds.max()), "R4")
    return Tensor(height, width, len(node.bias), node.zero_point, node.scale)


@check.implements(Head)
def _check_head(node: Head, inputs: Sequence[Tensor]) -> Tensor:
    height, width = _check_convolution(node, inputs[0])
    _check_output(node, 0, node.scale, len(node.bias))
    bounds = _bounds(node)
    _check_reach(node, int(bounds.argmax()), int(bounds.max()) * height * width, "R6")  # may exceed 64 bits
    return Tensor(height, width, len(node.bias), 0, node.scale)


@check.implements(MaxPool)
def _check_max_pool(node: MaxPool, inputs: Sequence[Tensor]) -> Tensor:
    (source,) = inputs
    top, left, bottom, right = node.padding
    require(min(node.kernel) >= 1 and min(node.stride) >= 1, node, "kernel and stride must be positive")
    require(
        0 <= min(node.padding) and max(top, bottom) < node.kernel[0] and max(left, right) < node.kernel[1],
        node,
        "padding must be smaller than the kernel, or a window has no valid pixel (R5)",
    )
    height, width = window_map(source.shape, node.kernel, node.stride, node.padding, node.ceil_mode)
    require(height >= 1 and width >= 1, node, "the input is smaller than the window")
    return Tensor(height, width, source.channels, source.zero_point, source.scale)


@check.implements(Concat)
def _check_concat(node: Concat, inputs: Sequence[Tensor]) -> Tensor:
    source = _check_sizes(node, inputs)
    require(len(inputs) >= 2, node, "a concatenation needs at least two inputs (R5)")
    require(all(t.zero_point == source.zero_point for t in inputs), node, "zero points differ (R5)")
    scale = np.concatenate([t.scale for t in inputs])
    return Tensor(source.height, source.width, len(scale), source.zero_point, scale)


@check.implements(Add)
def _check_add(node: Add, inputs: Sequence[Tensor]) -> Tensor:
    source = _check_sizes(node, inputs)
    require(len(inputs) == 2 and inputs[1].channels == source.channels, node, "operands differ in channels (R5)")
    _check_shift(node, (2, source.channels))
    _check_output(node, node.zero_point, node.scale, source.channels)
    for operand, shift in zip(inputs, node.shift, strict=True):
        close = np.allclose(operand.scale * np.exp2(shift.astype(np.float32)), node.scale, rtol=1e-5, atol=0)
        require(close, node, "operand scale * 2**shift differs from the output's scale (R5)")
    return Tensor(source.height, source.width, source.channels, node.zero_point, node.scale)


def _check_convolution(node: Conv | Head, source: Tensor) -> tuple[int, int]:
    """Check what holds for every convolution; returns (height, width) of its map."""
    require(node.weight.ndim == 4, node, "weight must be [out, kernel_h, kernel_w, in / groups]")
    out, kernel_h, kernel_w, _ = node.weight.shape
    require(node.groups >= 1, node, f"{node.groups} groups; there must be 1 or more")
    require(
        source.channels % node.groups == 0 and out % node.groups == 0,
        node,
        f"{node.groups} groups do not divide its {source.channels} input and {out} output channels",
    )
    _check_array(node, "weight", node.weight, np.int8, (out, kernel_h, kernel_w, source.channels // node.groups))
    _check_array(node, "bias", node.bias, np.int32, (out,))
    _check_array(node, "pad_value", node.pad_value, np.uint8, (source.channels,))
    require(min(node.weight.shape) >= 1, node, "an empty weight")
    limit = rules.WEIGHT_LIMIT
    low, high = int(node.weight.min()), int(node.weight.max())
    require(-limit <= low and high <= limit, node, f"weights must lie in -{limit}..{limit} (R3)")
    require(min(node.stride) >= 1 and min(node.padding) >= 0, node, "stride or padding out of range")
    if node.input != IMAGE:
        require(bool((node.pad_value == source.zero_point).all()), node, "pad value must be the zero point")
    height, width = window_map(source.shape, (kernel_h, kernel_w), node.stride, node.padding)
    require(height >= 1 and width >= 1, node, "the input is smaller than the kernel")
    return height, width


def _bounds(node: Conv | Head) -> NDArray[np.int64]:
    """Largest magnitude of every output channel's accumulator (R4): int64 [out]."""
    return rules.accumulator_reach(node.weight) + np.abs(node.bias.astype(np.int64))


def _check_reach(node: Node, channel: int, bound: int, rule: str) -> None:
    require(bound < rules.INT32_LIMIT, node, f"int32 can overflow in channel {channel}: bound {bound} ({rule})")


def _check_sizes(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """Check that all inputs have one height and width; returns the first input."""
    alike = all(t.shape[:2] == inputs[0].shape[:2] for t in inputs)
    require(alike, node, "the inputs differ in height or width (R5)")
    return inputs[0]


def _check_shift(node: Conv | Add, shape: tuple[int, ...]) -> None:
    _check_array(node, "shift", node.shift, np.uint8, shape)
    require(int(node.shift.max()) <= rules.MAX_SHIFT, node, f"shift above {rules.MAX_SHIFT} (R3)")


def _check_output(node: Node, zero_point: int, scale: NDArray[np.float32], channels: int) -> None:
    known = " or ".join(map(str, rules.ZERO_POINTS))
    require(zero_point in rules.ZERO_POINTS, node, f"zero point {zero_point}, must be {known} (R1)")
    _check_array(node, "scale", scale, np.float32, (channels,))
    require(bool(np.isfinite(scale).all() and (scale > 0).all()), node, "scales must be positive (R1)")


def _check_array(node: Node, key: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    require(array.dtype == dtype, node, f"{key} is {array.dtype}, must be {np.dtype(dtype)}")
    require(array.shape == shape, node, f"{key} has shape {list(array.shape)}, must be {list(shape)}")
