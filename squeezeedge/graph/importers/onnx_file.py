"""Reading an ONNX file: from bytes to a checked model with inferred shapes, without trusting what it says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.float.builder import SUPPORTED
from squeezeedge.networks.onnx_tensors import ExternalData, check_form

__all__ = ["FLOATS", "image_input", "label", "live_nodes", "load_onnx", "opset", "type_name"]

OLDEST_OPSET = 7
MAX_BYTES = 2**31
LISTED = 5
FLOATS: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
}
"""Floating-point element types, and their size in bytes."""
SHAPE_FOLLOWS = ("Reshape", "Squeeze")
"""Operators of which only the first input holds values of the network."""


def load_onnx(path: Path, operators: Collection[str]) -> ModelProto:
    """Read a model; weights are inside afterwards, the batch size is 1 and all shapes are inferred.

    Args:
        path: the file; external data must lie in its folder or below.
        operators: what the nodes that the output depends on may be.

    Raises:
        CorruptFileError: the file is truncated, damaged or no valid ONNX.
        UnsupportedError: input, outputs, opset or an operator is not supported.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CorruptFileError(f"too large for an ONNX file (protobuf ends at {MAX_BYTES} bytes)")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise CorruptFileError(f"cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise CorruptFileError(f"truncated, damaged or not an ONNX file ({error}); export it again") from error
    if not model.graph.node:
        raise CorruptFileError("truncated, empty or not an ONNX file: it has no nodes; export it again")
    _check_names(model.graph)
    _check_opset(model)
    if model.graph.sparse_initializer:
        raise UnsupportedError("sparse weights are not supported; export dense ones")
    _check_operators(model.graph, operators)
    _fix_input(image_input(model.graph))
    _load_values(model.graph, path.parent)
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CorruptFileError(f"not valid ONNX, truncated or damaged ({reason}); export it again") from error


def opset(model: ModelProto) -> int:
    """Version of the standard operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def label(node: NodeProto) -> str:
    """A node's name, or what it makes if it has none."""
    return node.name or next(iter(node.output), "") or node.op_type


def type_name(number: int) -> str:
    """ONNX's name of an element type."""
    known = dict((value, name) for name, value in TensorProto.DataType.items())
    return known.get(number, f"type {number}")


def live_nodes(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the values of the output depend on, in execution order; not those that only make a shape."""
    needed = {value.name for value in graph.output}
    live: list[NodeProto] = []
    constants = {"", *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            shape_follows = node.op_type in SHAPE_FOLLOWS and node.input[0] not in constants
            needed.update(node.input[:1] if shape_follows else node.input)
            live.append(node)
    return live[::-1]


def image_input(graph: GraphProto) -> ValueInfoProto:
    """The one input that is not a weight.

    Raises:
        UnsupportedError: there are several, or several outputs.
    """
    weights = {tensor.name for tensor in graph.initializer}  # up to IR version 3 they are inputs, too
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedError(
            f"the network has {len(inputs)} inputs and {len(graph.output)} outputs; export it with one image as input "
            "and the logits as output"
        )
    return inputs[0]


def _check_names(graph: GraphProto) -> None:
    """Protobuf hands out names that are not UTF-8 as bytes."""
    names = [tensor.name for tensor in graph.initializer] + [value.name for value in (*graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise CorruptFileError(f"damaged: the name {wrong[0]!r} is not UTF-8; export it again")


def _check_opset(model: ModelProto) -> None:
    version, newest = opset(model), onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest or model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"opset {version} (IR version {model.ir_version}); supported here are opsets {OLDEST_OPSET} to {newest} "
            f"(IR version {onnx.IR_VERSION}): export it with one of these"
        )


def _check_operators(graph: GraphProto, operators: Collection[str]) -> None:
    unknown = [
        f"{label(node)} ({node.domain}{'.' if node.domain else ''}{node.op_type})"
        for node in live_nodes(graph)
        if node.op_type not in operators or node.domain not in ("", "ai.onnx")
    ]
    if unknown:
        more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
        raise UnsupportedError(f"not supported: {', '.join(unknown[:LISTED])}{more}; supported: {SUPPORTED}")


def _fix_input(image: ValueInfoProto) -> None:
    """Check type and shape of the image; an open batch size becomes 1."""
    kind = image.type.tensor_type
    if kind.elem_type not in FLOATS:
        raise UnsupportedError(
            f"input {image.name!r} is {type_name(kind.elem_type)}; it must be the normalized image in floating point"
        )
    dims = kind.shape.dim
    shape = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dims]
    text = f"input {image.name!r} is [{', '.join(map(str, shape))}]"
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        raise UnsupportedError(f"{text}, layout NHWC; export the network with layout NCHW")
    if len(shape) != 4 or shape[1] != 3 or (isinstance(shape[0], int) and shape[0] != 1):
        raise UnsupportedError(f"{text}; it must be [1, 3, height, width]")
    if any(isinstance(side, str) for side in shape[2:]):
        raise UnsupportedError(f"{text}; export the network with a fixed height and width")
    dims[0].dim_value = 1


def _load_values(graph: GraphProto, folder: Path) -> None:
    """Read weights from files beside the model."""
    external = ExternalData(folder, MAX_BYTES)
    for tensor in _tensors(graph):
        try:
            check_form(tensor)
            if tensor.data_location == TensorProto.EXTERNAL:
                external.load(tensor, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"values of {tensor.name[:80]!r}: {error}") from error


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
