"""ONNX operators with windows or weights: convolution, pooling, normalization, fully connected layers, padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from onnx import NodeProto

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.builder import average_pool, float32, folded_batch_norm, padded_same
from squeezeedge.graph.float.graph import F32, FloatAveragePool, FloatConv, FloatGlobalAveragePool, FloatMaxPool
from squeezeedge.graph.importers.onnx.constants import attributes
from squeezeedge.graph.importers.onnx.context import Context, Handler, channels_of, refused
from squeezeedge.graph.importers.onnx.steps import ZERO
from squeezeedge.graph.importers.onnx.values import NO_PADDING, Pads, Value
from squeezeedge.graph.rules import Shape
from squeezeedge.graph.windows import window_map

__all__ = ["LAYERS", "cropped", "global_average"]

MAX_KERNEL = 1 << 26
"""Weights of a convolution after its dilation, or a flattened map, has been written out."""

MAX_CROP = 16
"""Height and width of a window that takes one pixel to cut a map: one more than the pixels that are cut off."""

MAX_PADDING = 64
"""Pixels on one side of a map that has fewer; a larger map is at most padded by as many as it has."""


def _convolution(context: Context, node: NodeProto) -> Value:
    source, weight = context.map(node, padded=True), context.weights(node, 1)
    if weight.ndim != 4:
        raise refused(
            node, f"a convolution with a weight of {weight.ndim} dimensions; supported: two-dimensional convolution"
        )
    given = attributes(node)
    if "kernel_shape" in given and tuple(given["kernel_shape"]) != weight.shape[2:]:
        raise refused(
            node,
            f"kernel_shape is {list(given['kernel_shape'])[:8]}, and its weight {list(weight.shape)}; export it again",
        )
    weight = _dilated(node, weight, context.pair(node, "dilations"))
    groups = given.get("group", 1)
    bias = context.weights(node, 2) if context.given(node, 2) else np.zeros(len(weight), np.float32)
    kernel, strides = (weight.shape[2], weight.shape[3]), context.pair(node, "strides")
    source, padding = _padding(context, node, source, kernel, strides)
    if any(source.padding):
        if source.fill:
            source = context.plain(source)
        else:
            padding, source = _sum(padding, source.padding), replace(source, padding=NO_PADDING)
    name = context.name(node, 1)
    conv = FloatConv(name, ("",), weight, bias, strides, padding, groups=groups)
    return _new_map(context, conv, source)


def _new_map(context: Context, layer: FloatConv | FloatMaxPool | FloatAveragePool, source: Value) -> Value:
    made = context.steps.append(layer, (source,), source.size)
    height, width, channels = context.steps.steps[-1].shape
    return Value(made.reshape(1, channels, 1, 1), (height, width), (2, 3) if (height, width) != (1, 1) else None)


def _dilated(node: NodeProto, weight: F32, dilation: tuple[int, int]) -> F32:
    """A dilated convolution is one with a larger kernel, most of which is zeros."""
    if dilation == (1, 1):
        return weight
    if min(dilation) < 1:
        raise refused(node, f"a dilation of {list(dilation)}")
    out, channels, high, wide = weight.shape
    kernel = ((high - 1) * dilation[0] + 1, (wide - 1) * dilation[1] + 1)
    if out * channels * math.prod(kernel) > MAX_KERNEL:
        raise refused(
            node, f"a dilation of {list(dilation)} makes its kernel {kernel[0]}x{kernel[1]}, which is too large"
        )
    larger = np.zeros((out, channels, *kernel), np.float32)
    larger[:, :, :: dilation[0], :: dilation[1]] = weight
    return larger


def _padding(
    context: Context, node: NodeProto, source: Value, kernel: tuple[int, int], strides: tuple[int, int]
) -> tuple[Value, Pads]:
    """The source, and the padding that the node asks for itself.

    An ``auto_pad`` beside ``pads`` is taken where both say the same, or ``pads`` nothing.
    """
    given = attributes(node)
    automatic = given.get("auto_pad", b"NOTSET").decode(errors="replace")
    pads = [int(pad) for pad in given.get("pads", NO_PADDING)]
    if len(pads) != 4 or min(pads) < 0:
        raise refused(node, f"pads is {pads[:8]}; supported: four whole numbers, none negative")
    asked: Pads = (pads[0], pads[1], pads[2], pads[3])
    if automatic == "NOTSET":
        _check_padding(node, source, asked)
        return source, asked
    padding = NO_PADDING
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        source = context.plain(source)
        padding = padded_same(source.size, kernel, strides, automatic == "SAME_LOWER")
    elif automatic != "VALID":
        raise refused(node, f"auto_pad is {automatic[:40]!r}; supported: NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    if any(asked) and asked != padding:
        raise refused(
            node, f"auto_pad {automatic} asks for pads {list(padding)}, and pads is {pads}; export it with one"
        )
    _check_padding(node, source, padding)
    return source, padding


def cropped(context: Context, node: NodeProto, value: Value, rows: range, columns: range) -> Value | None:
    """Some rows and columns of a map, at equal distances: exactly, by windows that take one pixel each.

    Returns:
        ``None`` where they are in reverse order, or the windows would be larger than :data:`MAX_CROP`.
    """
    first = (rows.start, columns.start)
    step = (min(rows.step, value.size[0]), min(columns.step, value.size[1]))
    count, name = (len(rows), len(columns)), context.name(node)
    last = [side - (number - 1) * by for side, number, by in zip(value.size, count, step, strict=True)]
    kernel = tuple(max(at + 1, most - by + 1) for at, most, by in zip(first, last, step, strict=True))
    if min(step) < 1 or max(kernel) > MAX_CROP:
        return None
    channels = value.channels
    if kernel == (1, 1):
        layer: FloatMaxPool | FloatConv = FloatMaxPool(name, ("",), (1, 1), step, NO_PADDING, False)
    else:
        weight = np.zeros((len(channels), 1, *kernel), np.float32)
        weight[:, :, first[0], first[1]] = 1
        bias = np.zeros(len(channels), np.float32)
        layer = FloatConv(name, ("",), weight, bias, step, NO_PADDING, groups=len(channels))
    made = context.steps.append(layer, (channels,), value.size)
    return Value(made.reshape(value.ids.shape), count, value.spatial if count != (1, 1) else None)


def _check_padding(node: NodeProto, source: Value, padding: Pads) -> None:
    """Refuse what would make a map many times larger."""
    most = [max(MAX_PADDING, side) for side in source.size]
    if any(pad > most[place % 2] for place, pad in enumerate(padding)):
        raise refused(
            node,
            f"pads {list(source.shape)} by {list(padding)} pixels (top, left, bottom, right); supported are at most as "
            f"many as the map has, or {MAX_PADDING}",
        )


def _sum(first: Pads, second: Pads) -> Pads:
    top, left, bottom, right = (one + other for one, other in zip(first, second, strict=True))
    return top, left, bottom, right


def _batch_norm(context: Context, node: NodeProto) -> Value:
    source = context.value(node, 0)
    given = attributes(node)
    # up to opset 13 the outputs tell: only in training mode there are more than one
    if given.get("training_mode", 0) or any(node.output[1:]):
        raise refused(
            node,
            "BatchNormalization in training mode; export the network in evaluation mode (model.eval() in PyTorch)",
        )
    if not given.get("spatial", 1):
        raise refused(node, "BatchNormalization that is not per channel; export it with opset 9 or later")
    gamma, beta, mean, variance = (context.weights(node, index) for index in range(1, 5))
    channels, _ = channels_of(source)
    if (
        len({array.shape for array in (gamma, beta, mean, variance)} | {(len(channels),)}) > 1
        or source.pixels is not None
    ):
        raise refused(
            node, f"normalizes {list(source.shape)} by {list(gamma.shape)} numbers; supported: one per channel"
        )
    norm = folded_batch_norm(context.name(node, 1), "", gamma, beta, mean, variance, given.get("epsilon", 1e-5))
    return context.channelwise(source, norm)


def _pooled(context: Context, node: NodeProto) -> tuple[Value, tuple[int, int], tuple[int, int], Pads]:
    """What a pooling reads, its kernel, its strides and its own padding."""
    source = context.map(node, padded=True)
    if context.pair(node, "dilations") != (1, 1):
        dilation = list(attributes(node)["dilations"])
        raise refused(node, f"{node.op_type} with dilation {dilation}; supported: no dilation")
    kernel, strides = context.pair(node, "kernel_shape", None), context.pair(node, "strides")
    source, padding = _padding(context, node, source, kernel, strides)
    if any(pad >= kernel[place % 2] for place, pad in enumerate(padding)):
        raise refused(
            node, f"pads by {list(padding)}, which is not less than its window {list(kernel)}; windows would be empty"
        )
    return source, kernel, strides, padding


def _max_pool(context: Context, node: NodeProto) -> Value:
    source, kernel, strides, padding = _pooled(context, node)
    ceil_mode = bool(attributes(node).get("ceil_mode", 0))
    if any(source.padding):
        together = _sum(padding, source.padding)
        inside = max(together[0], together[2]) < kernel[0] and max(together[1], together[3]) < kernel[1]
        inside = inside and _same_windows(source, kernel, strides, padding, ceil_mode)
        # a pixel that is never the largest may be left out, if every window has another
        if inside and (source.fill < -1e30 or (source.fill == 0 and context.steps.nonnegative(source.channels))):
            source, padding = replace(source, padding=NO_PADDING), together
        else:
            source = context.plain(source)
    return _new_map(context, FloatMaxPool(context.name(node), ("",), kernel, strides, padding, ceil_mode), source)


def _same_windows(
    source: Value, kernel: tuple[int, int], strides: tuple[int, int], padding: Pads, ceil_mode: bool
) -> bool:
    """Whether a layer that takes over its source's padding has the same windows: in ceil mode it may have fewer."""
    before = window_map(source.shape[2:], kernel, strides, padding, ceil_mode)
    return before == window_map(source.size, kernel, strides, _sum(padding, source.padding), ceil_mode)


def _average_pool(context: Context, node: NodeProto) -> Value:
    source, kernel, strides, padding = _pooled(context, node)
    given = attributes(node)
    counted, ceil_mode = bool(given.get("count_include_pad", 0)) or not any(padding), bool(given.get("ceil_mode", 0))
    if any(source.padding):
        if source.fill or not counted or not _same_windows(source, kernel, strides, padding, ceil_mode):
            source = context.plain(source)
        else:
            padding, source = _sum(padding, source.padding), replace(source, padding=NO_PADDING)
    try:
        pool = average_pool(
            context.name(node),
            "",
            Shape(*source.size, source.ids.size),
            kernel,
            strides,
            padding,
            count_include_pad=counted,
            ceil_mode=ceil_mode,
        )
    except UnsupportedError as error:
        raise refused(node, str(error).partition(": ")[2]) from None
    if isinstance(pool, FloatGlobalAveragePool):
        return global_average(context, pool.name, source)
    return _new_map(context, pool, source)


def global_average(context: Context, name: str, source: Value) -> Value:
    """The mean over each channel's map; 1 pixel each, in the shape of ``ids``."""
    channels, _ = channels_of(source)
    pool = FloatAveragePool(name, ("",), source.size, (1, 1), NO_PADDING, math.prod(source.size))
    made = context.steps.append(pool, (channels,), source.size)
    return Value(made.reshape(source.ids.shape if source.pixels is None else -1), (1, 1))


def _global_average(context: Context, node: NodeProto) -> Value:
    return global_average(context, context.name(node), context.map(node))


def _global_max(context: Context, node: NodeProto) -> Value:
    source = context.map(node)
    return _new_map(context, FloatMaxPool(context.name(node), ("",), source.size, (1, 1), NO_PADDING, False), source)


def _gemm(context: Context, node: NodeProto) -> Value:
    """Of a vector and a constant matrix, in either order."""
    given = attributes(node)
    turned = bool(given.get("transA", 0)), bool(given.get("transB", 0))
    last = node.input[0] in context.constants
    weight = context.weights(node, 0 if last else 1)
    if weight.ndim != 2:
        raise refused(node, f"a product with a weight of {weight.ndim} dimensions; supported: 2")
    if turned[0 if last else 1] == last:
        weight = weight.T
    bias: F32 = np.zeros((len(weight), 1) if last else len(weight), np.float32)
    if context.given(node, 2):
        bias = _vector(node, context.weights(node, 2), bias.shape) * np.float32(given.get("beta", 1.0))
    weight = weight * np.float32(given.get("alpha", 1.0))
    column = turned[1 if last else 0] != last
    return _fully_connected(context, node, 1 if last else 0, weight, bias.reshape(-1), column=column)


def _matmul(context: Context, node: NodeProto) -> Value:
    last = node.input[0] in context.constants
    weight = context.weights(node, 0 if last else 1)
    if weight.ndim != 2:
        raise refused(node, f"a product with a weight of {weight.ndim} dimensions; supported: 2")
    weight = weight if last else weight.T
    bias, column = np.zeros(len(weight), np.float32), last and context.value(node, 1).ids.ndim > 1
    return _fully_connected(context, node, 1 if last else 0, weight, bias, column=column)


def _fully_connected(context: Context, node: NodeProto, index: int, weight: F32, bias: F32, *, column: bool) -> Value:
    """A convolution whose window is the whole map; 1x1 where each channel is one pixel.

    Args:
        context: of the walk.
        node: the product.
        index: of the operand that depends on the image: 0; or 1, where the weight comes first.
        weight: float32 [out, in].
        bias: float32 [out].
        column: whether that operand is [..., in, 1] instead of [..., in].
    """
    source = context.value(node, index)
    shape, (height, width), axis = source.shape, source.size, -2 if column else -1
    if source.spatial is not None or math.prod(shape) != shape[axis] or shape[axis] != weight.shape[1]:
        raise refused(
            node,
            f"a fully connected layer of {weight.shape[1]} inputs on {list(shape)}; supported: one vector of that size",
        )
    context.outermost(node, len(shape) > 2 or (index == 0 and not column))
    channels, places = np.unique(source.ids.reshape(-1), return_inverse=True)
    order = np.argsort(np.unique(source.ids.reshape(-1), return_index=True)[1], kind="stable")  # as they come first
    channels, places = channels[order], np.argsort(order, kind="stable")[places.reshape(-1)]
    pixels = np.zeros_like(places) if source.pixels is None else source.pixels.reshape(-1)
    if len(weight) * len(channels) * height * width > max(MAX_KERNEL, weight.size):
        raise refused(node, f"a fully connected layer on parts of a map of {height}x{width} pixels is too large")
    kernel, columns = float32(weight), places * (height * width) + pixels
    if len(columns) != len(channels) * height * width or (columns != np.arange(len(columns))).any():
        kernel = np.zeros((len(weight), len(channels) * height * width), np.float32)
        if len(np.unique(columns)) == len(columns):
            kernel[:, columns] = weight
        else:
            np.add.at(kernel.T, columns, weight.T)
    kernel = kernel.reshape(len(weight), len(channels), height, width)
    conv = FloatConv(context.name(node, 1 - index), ("",), kernel, float32(bias), (1, 1), NO_PADDING)
    made = context.steps.append(conv, (channels,), source.size)
    if index == 0:
        return Value(made.reshape(*((*shape[:-2], 1) if column else shape[:-1]), -1), (1, 1))
    return Value(made.reshape(-1) if len(shape) == 1 else made.reshape(*shape[:-2], -1, 1), (1, 1))


def _vector(node: NodeProto, bias: F32, shape: tuple[int, ...]) -> F32:
    """A bias that may be written as [size], [1, size], [1] or a scalar; or of a column."""
    try:
        return float32(np.broadcast_to(bias, (1,) * (2 - len(shape)) + shape).reshape(shape))
    except ValueError:
        raise refused(node, f"a bias of shape {list(bias.shape)} for {shape[0]} classes is not supported") from None


def _pad(context: Context, node: NodeProto) -> Value:
    """Pixels around a map: the layer that reads it adds them, if it can. Channels of zeros are -1."""
    source, given = context.value(node, 0, padded=True), attributes(node)
    shape = source.shape
    pads = [int(pad) for pad in given["pads"]] if "pads" in given else context.integers(node, 1)
    axes = context.axes(node, context.integers(node, 3), len(shape)) if context.given(node, 3) else range(len(shape))
    fill = context.number(node, 2) if context.given(node, 2) else float(given.get("value", 0.0))
    if len(pads) != 2 * len(axes):
        raise refused(node, f"pads by {pads[:16]}, which does not fit {list(shape)}")
    around = {axis: (pads[place], pads[place + len(axes)]) for place, axis in enumerate(axes)}
    around = {axis: pair for axis, pair in around.items() if pair != (0, 0)}
    if not around:
        return source
    mode = given.get("mode", b"constant").decode(errors="replace")
    if mode != "constant":
        raise refused(node, f"pads in mode {mode!r} by {pads[:16]}; supported: constant values")
    spatial = source.spatial or ((2, 3) if source.is_map else None)
    channels = {axis: sides for axis, sides in around.items() if spatial is None or axis not in spatial}
    if channels:
        (axis, sides), *others = channels.items()
        if others or axis == 0 or source.pixels is not None or min(sides) < 0 or fill:
            raise refused(node, f"pads {list(shape)} by {pads[:16]}; supported: height and width, or channels of zeros")
        source = context.plain(source)
        context.moves.spend(node, source.ids.size + sum(sides) * (source.ids.size // source.ids.shape[axis]))
        widths = [sides if place == axis else (0, 0) for place in range(source.ids.ndim)]
        source = replace(source, ids=np.pad(source.ids, widths, constant_values=ZERO))
    if spatial is None or len(channels) == len(around):
        return source
    return _around(context, node, source, [around.get(axis, (0, 0)) for axis in spatial], spatial, fill)


def _around(
    context: Context,
    node: NodeProto,
    source: Value,
    around: Sequence[tuple[int, int]],
    spatial: tuple[int, int],
    fill: float,
) -> Value:
    """Pixels in front of and behind height and width; what is negative cuts pixels off first."""
    (top, bottom), (left, right) = around
    if min(top, bottom, left, right) < 0:
        source = context.plain(source)
        rows, columns = (
            range(max(0, -before), side - max(0, -after))
            for side, (before, after) in zip(source.size, around, strict=True)
        )
        cut = cropped(context, node, source, rows, columns) if rows and columns else None
        if cut is None:
            raise refused(
                node,
                f"cuts {list(source.shape)} by {list(map(list, around))} pixels (height, width); supported are less "
                f"than {MAX_CROP} of either, which leave some: cut the image in the preprocessing",
            )
        source = cut
    if any(source.padding) and source.fill != fill:
        source = context.plain(source)
    padding = _sum(source.padding, (max(top, 0), max(left, 0), max(bottom, 0), max(right, 0)))
    _check_padding(node, source, padding)
    return replace(source, spatial=spatial, padding=padding, fill=fill)


LAYERS: Mapping[str, Handler] = MappingProxyType(
    {
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "Conv": _convolution,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_average,
        "GlobalMaxPool": _global_max,
        "MatMul": _matmul,
        "MaxPool": _max_pool,
        "Pad": _pad,
    }
)
"""Operator -> what makes its first output."""
