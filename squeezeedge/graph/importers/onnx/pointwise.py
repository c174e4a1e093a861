"""ONNX operators that compute each number by itself: arithmetic with constants, sums, ReLU and its relatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from squeezeedge.graph.float.builder import leaky_relu
from squeezeedge.graph.float.graph import FloatAdd, FloatBatchNorm, FloatRelu
from squeezeedge.graph.importers.onnx.constants import attributes
from squeezeedge.graph.importers.onnx.context import Context, Handler, channels_of, refused
from squeezeedge.graph.importers.onnx.values import Value

__all__ = ["GATE", "POINTWISE"]

F64 = NDArray[np.float64]

GATE = (
    "products of two tensors, as in squeeze-and-excitation, SiLU and HardSwish, have no integer rule here; take a "
    "variant of the network without them, with ReLU or ReLU6 (EfficientNet-Lite, MobileNetV2, RegNetX, ...)"
)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
WHOLE_NUMBERS = (
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    *(TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
)
"""Types of whole numbers that hold 0 to 255."""


def _per_channel(node: NodeProto, value: Value, constant: NDArray[Any]) -> F64:
    """A constant operand, one number for each channel that a channel-wise layer reads."""
    shape, array = value.shape, np.asarray(constant, np.float64)
    if np.isnan(array).any():
        raise refused(node, "a constant holds NaN; its weights are damaged, or its training diverged: export it again")
    try:
        wide = np.broadcast_to(array, shape)
    except ValueError:
        raise refused(
            node, f"a constant of shape {list(array.shape)} with {list(shape)}; it must be one per channel"
        ) from None
    if value.spatial is not None:
        lead = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
        if any(lead.shape[axis] > 1 and (lead != lead.take([0], axis)).any() for axis in value.spatial):
            raise refused(
                node,
                f"a constant of shape {list(array.shape)} that differs from pixel to pixel; it must be one per channel",
            )
        wide = np.broadcast_to(
            lead[tuple(slice(1) if axis in value.spatial else slice(None) for axis in range(lead.ndim))],
            value.ids.shape,
        )
    numbers = wide.reshape(-1)
    channels, places = channels_of(value)
    found = np.zeros(len(channels))
    found[places] = numbers
    if (found[places] != numbers).any():
        raise refused(node, "a constant that differs from pixel to pixel; it must be one per channel")
    return found


def _affine(context: Context, node: NodeProto, value: Value, multiplier: F64 | float, offset: F64 | float) -> Value:
    """X * multiplier + offset, to be folded into what is beside it."""
    count = len(channels_of(value)[0])
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused with the layer's name
        factors, terms = (np.broadcast_to(numbers, (count,)).astype(np.float32) for numbers in (multiplier, offset))
    norm = FloatBatchNorm(context.name(node), ("",), factors, terms)
    return context.channelwise(value, norm, loose=True)


def _operands(context: Context, node: NodeProto) -> tuple[Value, NDArray[Any] | None, bool]:
    """The tensor, the constant beside it (``None``: that is a tensor, too), and whether the constant comes first."""
    if len(node.input) != 2:
        raise refused(node, f"{len(node.input)} operands; supported: 2")
    for index in (0, 1):
        if node.input[index] in context.constants:
            return context.value(node, 1 - index), context.constants[node.input[index]], index == 0
    return context.value(node, 0), None, False


def _add(context: Context, node: NodeProto) -> Value:
    value, constant, _ = _operands(context, node)
    if constant is None:
        return _added(context, node, value, context.value(node, 1))
    return _affine(context, node, value, 1.0, _per_channel(node, value, constant))


def _added(context: Context, node: NodeProto, first: Value, second: Value) -> Value:
    alike = first.shape == second.shape and first.spatial == second.spatial and first.size == second.size
    if not alike or first.pixels is not None or second.pixels is not None:
        raise refused(
            node, f"adds {list(first.shape)} and {list(second.shape)}; supported: two maps of one shape, or a constant"
        )
    add = FloatAdd(context.name(node), ("", ""))
    made = context.steps.append(add, (first, second), first.size)
    return Value(made.reshape(first.ids.shape), first.size, first.spatial)


def _sum(context: Context, node: NodeProto) -> Value:
    """Sum and Mean of any number of tensors and constants."""
    places = range(len(node.input))
    constants = [context.constants[node.input[place]] for place in places if node.input[place] in context.constants]
    total, *others = [context.value(node, place) for place in places if node.input[place] not in context.constants]
    for value in others:
        total = _added(context, node, total, value)
    factor = 1 / len(node.input) if node.op_type == "Mean" else 1.0
    offset = sum((_per_channel(node, total, array) for array in constants), np.zeros(1))
    return total if factor == 1 and not constants else _affine(context, node, total, factor, offset * factor)


def _subtract(context: Context, node: NodeProto) -> Value:
    value, constant, first = _operands(context, node)
    if constant is None:
        return _added(context, node, value, _affine(context, node, context.value(node, 1), -1.0, 0.0))
    numbers = _per_channel(node, value, constant)
    return _affine(context, node, value, -1.0, numbers) if first else _affine(context, node, value, 1.0, -numbers)


def _multiply(context: Context, node: NodeProto) -> Value:
    value, constant, _ = _operands(context, node)
    if constant is None:
        raise refused(node, f"multiplies {context.fed(node)}: {GATE}")
    return _affine(context, node, value, _per_channel(node, value, constant), 0.0)


def _divide(context: Context, node: NodeProto) -> Value:
    value, constant, first = _operands(context, node)
    if constant is None or first:
        raise refused(node, f"divides {context.fed(node)}; supported: a tensor divided by a constant")
    with np.errstate(divide="ignore"):
        return _affine(context, node, value, 1 / _per_channel(node, value, constant), 0.0)


def _power(context: Context, node: NodeProto) -> Value:
    value, exponent, first = _operands(context, node)
    if exponent is None or first or (np.asarray(exponent, np.float64) != 1).any():
        raise refused(node, f"a power, of {context.fed(node)}; supported: the first power. {GATE[0].upper()}{GATE[1:]}")
    _per_channel(node, value, exponent)  # refuses what would make it larger
    return value


def _negate(context: Context, node: NodeProto) -> Value:
    return _affine(context, node, context.value(node, 0), -1.0, 0.0)


def _relu(context: Context, node: NodeProto) -> Value:
    return context.channelwise(context.value(node, 0), FloatRelu(context.name(node), ("",)))


def _bounded(context: Context, node: NodeProto, value: Value, low: float, high: float) -> Value:
    """min(max(x, low), high) by ReLUs: exact but for the rounding of one addition where ``low`` is not 0."""
    if not low < high:
        raise refused(node, f"bounds values to {low}..{high}, which leaves one; such a layer has nothing to say")
    if math.isinf(low):
        if math.isinf(high):
            return value
        before = _relu_before(context, value)
        if before is not None and high > 0:  # ReLU, then the minimum: one ReLU with a limit
            return context.channelwise(before, FloatRelu(context.name(node), ("",), high))
        flipped = _affine(context, node, value, -1.0, high)
        bounded = context.channelwise(flipped, FloatRelu(context.name(node), ("",)))
        return _affine(context, node, bounded, -1.0, high)
    moved = value if low == 0 else _affine(context, node, value, 1.0, -low)
    bounded = context.channelwise(moved, FloatRelu(context.name(node), ("",), high - low))
    return bounded if low == 0 else _affine(context, node, bounded, 1.0, low)


def _hard_sigmoid(context: Context, node: NodeProto) -> Value:
    """min(max(alpha * x + beta, 0), 1)."""
    given = attributes(node)
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    return _bounded(context, node, _affine(context, node, context.value(node, 0), alpha, beta), 0.0, 1.0)


def _relu_before(context: Context, value: Value) -> Value | None:
    """What the ReLU reads that makes all of a value, if one does."""
    channels = value.channels
    step = context.steps.maker(int(channels[0]))
    if step is None or value.pixels is not None or not np.array_equal(step.made, channels):
        return None
    if not isinstance(step.node, FloatRelu) or math.isfinite(step.node.limit):
        return None
    return Value(step.sources[0].reshape(value.ids.shape), value.size, value.spatial)


def _clip(context: Context, node: NodeProto) -> Value:
    value, given = context.value(node, 0), attributes(node)
    bounds = [float(given.get("min", -math.inf)), float(given.get("max", math.inf))]
    for index in (1, 2):
        if context.given(node, index):
            bounds[index - 1] = context.number(node, index)
    # exporters write an open bound as the largest number of its type
    low, high = (bound if abs(bound) < 1e38 else math.copysign(math.inf, bound) for bound in bounds)
    return _bounded(context, node, value, low, high)


def _extremum(context: Context, node: NodeProto) -> Value:
    value, constant, _ = _operands(context, node)
    if constant is None or constant.size != 1:
        raise refused(
            node, f"{node.op_type} of {context.fed(node)}; supported: a tensor and one number, as a ReLU is written"
        )
    bound = float(constant.reshape(-1)[0])
    low, high = (bound, math.inf) if node.op_type == "Max" else (-math.inf, bound)
    return _bounded(context, node, value, low, high)


def _leaky(context: Context, node: NodeProto) -> Value:
    value = context.value(node, 0)
    slope = attributes(node).get("alpha", 0.01)
    return _with_slope(context, node, value, np.full(len(channels_of(value)[0]), slope))


def _prelu(context: Context, node: NodeProto) -> Value:
    value = context.value(node, 0)
    return _with_slope(context, node, value, _per_channel(node, value, context.weights(node, 1)))


def _with_slope(context: Context, node: NodeProto, value: Value, slope: F64) -> Value:
    """relu(x) - slope * relu(-x): the same function, in operators that have integer rules."""
    positive, flip, negative, scale, add = leaky_relu(context.name(node), "", slope.astype(np.float32))
    rectified = context.channelwise(value, positive)
    scaled = context.channelwise(context.channelwise(context.channelwise(value, flip), negative), scale)
    made = context.steps.append(add, (channels_of(rectified)[0], channels_of(scaled)[0]), value.size)
    return Value(made[channels_of(value)[1]].reshape(value.ids.shape), value.size, value.spatial, value.pixels)


def _same(context: Context, node: NodeProto) -> Value:
    return context.value(node, 0, padded=True)


def _cast(context: Context, node: NodeProto) -> Value:
    kind = int(attributes(node).get("to", 0))
    if kind in WHOLE_NUMBERS and node.input[0] in context.whole_numbers:
        context.whole_numbers.add(node.output[0])
    elif kind not in FLOATS:
        names = {number: name for name, number in TensorProto.DataType.items()}
        raise refused(node, f"a cast to {names.get(kind, kind)}; supported: casts to floating point")
    return context.value(node, 0, padded=True)


def _cast_like(context: Context, node: NodeProto) -> Value:
    """To the type of another tensor."""
    other = context.constants.get(node.input[1])
    whole = node.input[1] in context.whole_numbers if other is None else other.dtype.kind in "iub"
    if whole:
        raise refused(node, f"a cast of {context.fed(node)} to whole numbers; supported: casts to floating point")
    return context.value(node, 0, padded=True)


def _dropout(context: Context, node: NodeProto) -> Value:
    if context.given(node, 2) and context.constant(node, 2).any():
        raise refused(node, "Dropout in training mode; export the network in evaluation mode (model.eval() in PyTorch)")
    return context.value(node, 0, padded=True)


POINTWISE: Mapping[str, Handler] = MappingProxyType(
    {
        "Add": _add,
        "Cast": _cast,
        "CastLike": _cast_like,
        "Clip": _clip,
        "Div": _divide,
        "Dropout": _dropout,
        "HardSigmoid": _hard_sigmoid,
        "Identity": _same,
        "LeakyRelu": _leaky,
        "Max": _extremum,
        "Mean": _sum,
        "Min": _extremum,
        "Mul": _multiply,
        "Neg": _negate,
        "PRelu": _prelu,
        "Pow": _power,
        "Relu": _relu,
        "Sub": _subtract,
        "Sum": _sum,
    }
)
"""Operator -> what makes its first output."""
