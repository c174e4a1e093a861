"""The input of an ONNX graph: which layout, how many channels, which size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from squeezeedge.calib.preprocess import MAX_PIXELS
from squeezeedge.errors import UnsupportedError, UsageError
from squeezeedge.graph.importers.onnx.file import type_name
from squeezeedge.graph.importers.onnx.values import Value

__all__ = ["Front", "read_front"]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
PIXELS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)


@dataclass(frozen=True, eq=False)
class Front:
    """What the file says of its image.

    Attributes:
        name: of the input.
        size: (height, width).
        value: the image as the walk knows it.
        batch: images that the file is made for; 1 if that is open.
        gray: whether it has one channel.
        pixels: whether it is of integers, 0 to 255.
        notes: what was assumed.
    """

    name: str
    size: tuple[int, int]
    value: Value
    batch: int
    gray: bool
    pixels: bool
    notes: tuple[str, ...]


def read_front(model: ModelProto, size: tuple[int, int] | None) -> Front:
    """Read and check the input.

    Args:
        model: a checked model.
        size: (height, width) where the file leaves them open.

    Raises:
        UnsupportedError: it is not one image.
        UsageError: its size is open and none is given, or fixed and another one is.
    """
    image = _image(model.graph)
    kind = image.type.tensor_type
    if kind.elem_type not in (*FLOATS, *PIXELS):
        raise UnsupportedError(
            f"input {image.name!r} is {type_name(kind.elem_type)}; it must be floating point, or pixels"
        )
    shape = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in kind.shape.dim]
    text = f"input {image.name!r} is [{', '.join(map(str, shape))}]"
    layout = _layout(shape)
    if layout is None:
        raise UnsupportedError(
            f"{text}; it must be one image, [N, 3, height, width], [N, height, width, 3] or with 1 channel"
        )
    batch, channels, sides = shape[0], shape[layout], [shape[axis] for axis in (2, 3) if layout == 1] or shape[1:3]
    height, width = (_side(side, given, text) for side, given in zip(sides, size or (None, None), strict=True))
    if height * width > MAX_PIXELS:
        raise UnsupportedError(f"{text}: an input of {height}x{width} pixels, which is more than {MAX_PIXELS}")
    notes = []
    if isinstance(batch, int) and batch > 1:
        notes.append(f"made for {batch} images at a time: read as for one")
    if any(isinstance(side, str) for side in sides):
        notes.append(f"height and width are open: {height}x{width} was taken")
    if isinstance(channels, str):
        notes.append("the number of channels is open: 3 was taken")
    ids = np.arange(1 if channels == 1 else 3)
    spatial = (2, 3) if layout == 1 else (1, 2)
    value = Value(ids.reshape((1, -1, 1, 1) if layout == 1 else (1, 1, 1, -1)), (height, width), spatial)
    if (height, width) == (1, 1):
        value = Value(value.ids, (1, 1))
    made_for = batch if isinstance(batch, int) else 1
    return Front(image.name, (height, width), value, made_for, channels == 1, kind.elem_type in PIXELS, tuple(notes))


def _image(graph: GraphProto) -> ValueInfoProto:
    """The one input that is not a weight."""
    weights = {tensor.name for tensor in graph.initializer}  # up to IR version 3 they are inputs, too
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise UnsupportedError(f"the network has {len(inputs)} inputs; export it with one image as input")
    return inputs[0]


def _layout(shape: list[int | str]) -> int | None:
    """The axis of the channels."""
    if len(shape) != 4 or shape[0] == 0:
        return None
    for axis in (1, 3):
        if shape[axis] in (1, 3):
            return axis
    return 1 if isinstance(shape[1], str) else None


def _side(side: int | str, size: int | None, text: str) -> int:
    if isinstance(side, str):
        if size is None:
            raise UsageError(f"{text}; its height and width are open: name one by `size`")
        return size
    if size not in (None, side):
        raise UsageError(f"{text}; its height and width are fixed, so `size` {size} is not possible: export it again")
    if side < 1:
        raise UnsupportedError(f"{text}; its height and width must be positive")
    return side
