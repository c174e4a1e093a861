"""ONNX operators that move numbers about or ask for a shape, and the averages that are written as reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from onnx import NodeProto, helper

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph.float.graph import FloatAveragePool, FloatBatchNorm, FloatMaxPool
from squeezeedge.graph.importers.onnx.constants import attributes, evaluate, label
from squeezeedge.graph.importers.onnx.context import Context, Handler, channels_of, refused
from squeezeedge.graph.importers.onnx.layers import cropped, global_average
from squeezeedge.graph.importers.onnx.values import NO_PADDING, Value, recovered

__all__ = ["SHAPES"]


def _shape(context: Context, node: NodeProto) -> None:
    shape, given = context.value(node, 0, padded=True).shape, attributes(node)
    part = slice(given.get("start", 0), given.get("end"))
    _counted(context, node, *(np.array(sides[part], np.int64) for sides in (shape, _of_all_images(context, shape))))


def _size(context: Context, node: NodeProto) -> None:
    shape = context.value(node, 0, padded=True).shape
    _counted(context, node, *(np.array(math.prod(sides)) for sides in (shape, _of_all_images(context, shape))))


def _of_all_images(context: Context, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As the file has it: :meth:`Context.outermost` is why the first axis counts the images."""
    return (shape[0] * context.batch, *shape[1:]) if shape else shape


def _counted(context: Context, node: NodeProto, one: np.ndarray, several: np.ndarray) -> None:
    name = node.output[0]
    context.constants[name] = one
    if not np.array_equal(one, several):
        context.counting[name] = several


def _transpose(context: Context, node: NodeProto) -> Value:
    value = context.value(node, 0, padded=True)
    order = attributes(node).get("perm", tuple(reversed(range(value.ids.ndim))))
    if sorted(order) != list(range(value.ids.ndim)):
        raise refused(node, f"axes {list(order)[:8]} of {list(value.shape)}")
    context.outermost(node, order[:1] in ([0], (0,), ()))
    spatial = None if value.spatial is None else (order.index(value.spatial[0]), order.index(value.spatial[1]))
    pixels = None if value.pixels is None else value.pixels.transpose(order)
    return replace(value, ids=value.ids.transpose(order), spatial=spatial, pixels=pixels)


def _moved(context: Context, node: NodeProto) -> None:
    """ONNX's reference moves the numbers of the elements; what comes out says where each comes from."""
    sources = [context.value(node, 0)]
    constants = [context.constants.get(name) for name in node.input[1:]]
    for name, array in zip(node.input[1:], constants, strict=True):
        if array is None and name:
            raise refused(node, f"{name!r} is computed from the image; it must be a constant")
    if node.op_type == "Gather" and constants[0] is not None and constants[0].size > sources[0].ids.size:
        raise refused(node, f"repeats numbers of {context.fed(node)}")
    if node.op_type == "Split":
        _check_sizes(context, node, sources[0])
    if sources[0].is_map and _axes(context, node) in ([1], [-3]):
        made = evaluate(node, [sources[0].ids, *constants], context.opset)
        if all(ids.ndim == 4 and ids.size for ids in made):
            context.values.update(zip(node.output, (replace(sources[0], ids=ids) for ids in made), strict=False))
            return
    if node.op_type == "Flatten":
        rank = sources[0].ids.ndim
        if not -rank <= attributes(node).get("axis", 1) <= rank:
            raise refused(node, f"flattens {context.fed(node)} at axis {attributes(node)['axis']}")
    if node.op_type == "Squeeze" and context.batch > 1 and _axes(context, node) is None:
        shape = sources[0].shape[:1] + tuple(side for side in sources[0].shape[1:] if side != 1)
        _rearranged(context, _as_reshape(node), sources, [np.array(shape, np.int64)])
        return
    context.outermost(node, _keeps_images(context, node, sources[0]))
    _rearranged(context, node, sources, constants)


def _check_sizes(context: Context, node: NodeProto, value: Value) -> None:
    """Of a Split: they are given, and are those of the axis, or there are equal ones."""
    given = attributes(node)
    axis = context.axes(node, [given.get("axis", 0)], value.ids.ndim)[0]
    sizes = context.integers(node, 1) if context.given(node, 1) else given.get("split")
    if sizes is not None and (sum(sizes) != value.shape[axis] or min(sizes) < 1 or len(sizes) != len(node.output)):
        raise refused(node, f"sizes {list(sizes)[:16]} of {context.fed(node)} along axis {axis}, which do not fit")


def _slice(context: Context, node: NodeProto) -> Value | None:
    """Of height and width of a map, a layer takes its part (:func:`cropped`); where none can, its pixels are loose."""
    value, given = context.value(node, 0), attributes(node)
    if "starts" in given:
        starts, ends, axes, steps = (list(given.get(key, ())) for key in ("starts", "ends", "axes", "steps"))
    else:
        starts, ends, axes, steps = (
            context.integers(node, place) if context.given(node, place) else [] for place in (1, 2, 3, 4)
        )
    axes = context.axes(node, axes or range(len(starts)), value.ids.ndim)
    steps = steps or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise refused(node, f"from {starts[:8]} to {ends[:8]} in steps of {steps[:8]}, of {context.fed(node)}")
    sides = _of_all_images(context, value.shape)
    parts = {
        axis: range(sides[axis])[slice(start, end, step)]
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }
    parts = {axis: part for axis, part in parts.items() if part != range(sides[axis])}
    if not all(parts.values()):
        raise refused(node, f"makes an empty tensor of {context.fed(node)}")
    context.outermost(node, 0 not in parts)
    cut: Value | None = value if value.pixels is None else None
    if value.spatial is not None and not parts.keys().isdisjoint(value.spatial):
        cut = cropped(context, node, value, *(parts.pop(axis, range(sides[axis])) for axis in value.spatial))
    if cut is None:
        _rearranged(context, node, [value], [context.constants.get(name) for name in node.input[1:]])
        return None
    ids = cut.ids
    for axis, part in parts.items():
        ids = ids.take(part, axis)
    return replace(cut, ids=ids)


def _as_reshape(node: NodeProto) -> NodeProto:
    """A Squeeze of whatever is 1, where one image is left of several."""
    return helper.make_node("Reshape", [node.input[0], "shape"], node.output, name=label(node))


def _keeps_images(context: Context, node: NodeProto, value: Value) -> bool:
    """Whether the images of a file for several stay in front."""
    axes, rank = _axes(context, node), value.ids.ndim
    if node.op_type == "Unsqueeze" and axes:
        rank += len(axes)
    return axes is not None and all(axis % rank for axis in axes)


def _axes(context: Context, node: NodeProto) -> list[int] | None:
    """The axes along which an operator takes parts, or which it adds or removes; ``None``: any."""
    given = attributes(node)
    match node.op_type:
        case "Split" | "Gather":
            return [given.get("axis", 0)]
        case "Flatten":
            return [given.get("axis", 1)]
        case "Squeeze" | "Unsqueeze" if context.given(node, 1):
            return context.integers(node, 1)
        case "Squeeze" | "Unsqueeze" if "axes" in given:
            return list(given["axes"])
        case _:
            return None


def _concat(context: Context, node: NodeProto) -> None:
    sources = [context.value(node, index) for index in range(len(node.input))]
    axis = attributes(node).get("axis", 1)
    context.outermost(node, axis % sources[0].ids.ndim != 0)
    maps = all(source.is_map and source.size == sources[0].size for source in sources)
    if maps and axis in (1, -3):
        ids = np.concatenate([source.ids for source in sources], 1)
        context.moves.spend(node, ids.size)
        if len(sources) > 1:
            context.steps.join(ids.reshape(-1), context.name(node))
        context.values[node.output[0]] = replace(sources[0], ids=ids)
    else:
        _rearranged(context, node, sources, [])


def _rearranged(context: Context, node: NodeProto, sources: list[Value], constants: list[np.ndarray | None]) -> None:
    size, loose = sources[0].size, any(source.pixels is not None for source in sources)
    try:
        if any(source.size != size for source in sources):
            raise ValueError("the maps differ in size")
        elements = [source.elements() for source in sources]
    except ValueError as error:
        raise refused(node, f"of {context.fed(node)}: {error}") from None
    context.moves.spend(node, sum(map(np.size, elements)))
    try:
        made = evaluate(node, [*elements, *constants], context.opset)
    except UnsupportedError as error:
        raise refused(node, f"does not fit {context.fed(node)}; {error}") from None
    for name, array in zip(node.output, made, strict=False):
        if not array.size:
            raise refused(node, f"makes an empty tensor of {context.fed(node)}")
        value = recovered(array.astype(np.int64, copy=False), size)
        context.values[name] = value
        if value.pixels is not None and not loose:
            context.loosened[name] = node


def _reshape(context: Context, node: NodeProto) -> None:
    value, shape = context.value(node, 0), context.integers(node, 1)
    _rearranged(context, node, [value], [np.array(_of_one_image(context, node, shape), np.int64)])


def _of_one_image(context: Context, node: NodeProto, shape: list[int]) -> list[int]:
    """A shape that a file asks for which is made for several images: constant, or computed with their number."""
    if context.batch == 1 or not shape:
        return shape
    several = context.counting.get(node.input[1])
    if several is not None:
        context.outermost(node, several[0] == shape[0] * context.batch and several[1:].tolist() == shape[1:])
        return shape
    context.outermost(node, shape[0] in (0, -1) or shape[0] % context.batch == 0)
    return shape if shape[0] in (0, -1) else [shape[0] // context.batch, *shape[1:]]


def _repeated(context: Context, node: NodeProto) -> Value:
    """Expand and Tile: channels that are read several times, as those of a gray image."""
    value, numbers = context.value(node, 0), context.integers(node, 1)
    shape = value.shape
    try:
        if node.op_type == "Tile":
            if len(numbers) != len(shape):
                raise ValueError
            wanted = tuple(side * times for side, times in zip(shape, numbers, strict=True))
        else:
            if node.input[1] in context.counting or (len(numbers) == len(shape) and numbers[:1] != [1]):
                numbers = _of_one_image(context, node, numbers)
            wanted = np.broadcast_shapes(shape, tuple(numbers))
    except ValueError:
        raise refused(node, f"makes {context.fed(node)} {numbers[:8]}, which does not fit") from None
    context.outermost(node, len(wanted) == len(shape) and wanted[:1] == shape[:1])
    spatial = value.spatial or ((2, 3) if value.is_map else ())
    if any(wanted[axis - len(shape)] != shape[axis] for axis in spatial) or min(wanted, default=0) < 1:
        raise refused(node, f"makes {list(wanted)[:8]} of {context.fed(node)}; supported: each channel several times")
    context.moves.spend(node, math.prod(wanted) // math.prod(shape) * value.ids.size)
    moved = None if value.spatial is None else tuple(axis + len(wanted) - len(shape) for axis in value.spatial)
    target = tuple(1 if moved and axis in moved else side for axis, side in enumerate(wanted))

    def repeated(ids: np.ndarray) -> np.ndarray:
        if node.op_type == "Expand":
            return np.broadcast_to(ids, target)
        return np.tile(ids, [side // before for side, before in zip(target, ids.shape, strict=True)])

    pixels = None if value.pixels is None else repeated(value.pixels)
    return replace(value, ids=repeated(value.ids), spatial=(moved[0], moved[1]) if moved else None, pixels=pixels)


def _mean(context: Context, node: NodeProto) -> Value:
    value, given = context.value(node, 0), attributes(node)
    axes = context.integers(node, 1) if context.given(node, 1) else [int(axis) for axis in given.get("axes", ())]
    shape, kept = value.shape, given.get("keepdims", 1)
    if not axes and given.get("noop_with_empty_axes", 0):
        return value
    axes = axes or list(range(len(shape)))
    axes = context.axes(node, axes, len(shape))
    context.outermost(node, 0 not in axes)
    ids = _reduced(context, node, value, tuple(sorted(axis for axis in axes if shape[axis] > 1)))
    left = tuple(1 if axis in axes else side for axis, side in enumerate(shape) if kept or axis not in axes)
    if ids.spatial is not None:  # over height or width only: the other axis stays
        return _without(context, node, ids, axes, bool(kept))
    return Value(ids.ids.reshape(left), (1, 1))


def _reduced(context: Context, node: NodeProto, value: Value, over: tuple[int, ...]) -> Value:
    """The mean over some axes, with these axes kept."""
    shape = value.shape
    if value.spatial is not None and set(over) <= set(value.spatial):
        whole = tuple(sorted(axis for axis in value.spatial if shape[axis] > 1))
        if over == whole:
            return _pooled(context, node, value)
        return _line(context, node, value, over[0]) if over else value
    elif value.pixels is not None and over:
        moved, pixels = (np.moveaxis(array, over, range(-len(over), 0)) for array in (value.ids, value.pixels))
        area = math.prod(value.size)
        ids, pixels = (array.reshape(*array.shape[: -len(over)], -1) for array in (moved, pixels))
        if ids.shape[-1] == area and (ids == ids[..., :1]).all() and (np.sort(pixels) == np.arange(area)).all():
            return _pooled(context, node, Value(ids[..., 0], value.size, value.spatial))
    elif not over and value.spatial is None and value.pixels is None:
        return value
    raise refused(
        node, f"{node.op_type} over axes {list(over)} of {context.fed(node)}; supported: over height and width"
    )


def _pooled(context: Context, node: NodeProto, value: Value) -> Value:
    name = context.name(node)
    if node.op_type == "ReduceMax":
        pool = FloatMaxPool(name, ("",), value.size, (1, 1), NO_PADDING, False)
        return Value(context.steps.append(pool, (value,), value.size).reshape(value.ids.shape), (1, 1))
    step = context.steps.maker(int(value.channels[0]))
    if step is not None and isinstance(step.node, FloatAveragePool) and np.array_equal(step.made, value.channels):
        if 1 in value.size and step.node.divisor == math.prod(step.node.kernel) and step.node.stride == (1, 1):
            across = tuple(side if other == 1 else 1 for side, other in zip(step.node.kernel, value.size, strict=True))
            below = step.node.kernel[0] * value.size[0], step.node.kernel[1] * value.size[1]
            if across == step.node.kernel:  # the mean of rows, then of columns: the mean over the map
                return Value(
                    global_average(context, name, Value(step.sources[0], below)).ids.reshape(value.ids.shape), (1, 1)
                )
    return Value(global_average(context, name, value).ids.reshape(value.ids.shape), (1, 1))


def _line(context: Context, node: NodeProto, value: Value, axis: int) -> Value:
    """Over height or width alone."""
    assert value.spatial is not None
    kernel = (value.size[0], 1) if axis == value.spatial[0] else (1, value.size[1])
    left = (1, value.size[1]) if axis == value.spatial[0] else (value.size[0], 1)
    name = context.name(node)
    if node.op_type == "ReduceMax":
        made = context.steps.append(FloatMaxPool(name, ("",), kernel, (1, 1), NO_PADDING, False), (value,), value.size)
    else:
        pool = FloatAveragePool(name, ("",), kernel, (1, 1), NO_PADDING, math.prod(kernel))
        made = context.steps.append(pool, (value,), value.size)
    return Value(made.reshape(value.ids.shape), left, value.spatial)


def _without(context: Context, node: NodeProto, value: Value, axes: list[int], kept: bool) -> Value:
    if kept:
        return value
    elements = value.elements()
    return recovered(elements.squeeze(tuple(axes)), value.size)


def _total(context: Context, node: NodeProto) -> Value:
    """The sum: the mean, times the pixels."""
    before = context.value(node, 0)
    mean = _mean(context, node)
    area = before.ids.size if before.pixels is not None else math.prod(before.shape)
    after = mean.ids.size * math.prod(mean.size)
    factor = np.full(len(channels_of(mean)[0]), area / after, np.float32)
    norm = FloatBatchNorm(context.name(node), ("",), factor, np.zeros(len(factor), np.float32))
    return context.channelwise(mean, norm, loose=True)


SHAPES: Mapping[str, Handler] = MappingProxyType(
    {
        "Concat": _concat,
        "Expand": _repeated,
        "ReduceMax": _mean,
        "ReduceMean": _mean,
        "ReduceSum": _total,
        "Reshape": _reshape,
        "Shape": _shape,
        "Size": _size,
        "Slice": _slice,
        "Tile": _repeated,
        "Transpose": _transpose,
    }
    | dict.fromkeys(["Flatten", "Gather", "Split", "Squeeze", "Unsqueeze"], _moved)
)
"""Operator -> what makes its first output."""
