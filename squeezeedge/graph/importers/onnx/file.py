"""Reading an ONNX file: from bytes to a checked model without local functions, without trusting what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.networks.onnx_tensors import ExternalData, check_form

__all__ = ["load_onnx", "opset", "type_name"]

OLDEST_OPSET = 7
MAX_BYTES = 2**31
MAX_NODES = 20_000
DOMAINS = ("", "ai.onnx")


def load_onnx(path: Path) -> ModelProto:
    """Read a model; its weights are inside afterwards, and local functions stand where they were called.

    Args:
        path: the file; external data must lie in its folder or below.

    Raises:
        CorruptFileError: the file is truncated, damaged or no valid ONNX.
        UnsupportedError: opset, number of nodes or local functions are not supported.
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
    _check_size(model)
    _check_names(model)
    _check_opset(model)
    keys = Counter(entry.key for entry in model.metadata_props)
    for key in (key for key, count in keys.items() if count > 1):
        raise CorruptFileError(f"its metadata_props give {str(key)[:80]!r} several times; remove all but one of them")
    for function in model.functions:  # which of the two is meant, ONNX leaves to those who read it
        if function.domain in DOMAINS and onnx.defs.has(function.name):
            raise UnsupportedError(
                f"a local function has the name of the operator {function.name}; give it another one"
            )
    if model.graph.sparse_initializer:
        raise UnsupportedError("sparse weights are not supported; export dense ones")
    if len(model.graph.output) != 1:
        raise UnsupportedError(f"the network has {len(model.graph.output)} outputs; export it with the logits alone")
    _load_values(model, path.parent)
    for value in model.graph.output:  # what is not said about the output is not needed
        value.type.tensor_type.elem_type = value.type.tensor_type.elem_type or TensorProto.FLOAT
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
        _write_defaults(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CorruptFileError(f"not valid ONNX, truncated or damaged ({reason}); export it again") from error


def opset(model: ModelProto) -> int:
    """Version of the standard operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)


def type_name(number: int) -> str:
    """ONNX's name of an element type."""
    known = dict((value, name) for name, value in TensorProto.DataType.items())
    return known.get(number, f"type {number}")


_Key = tuple[str, str, str]


def _functions(model: ModelProto) -> dict[_Key, FunctionProto]:
    """By domain, name and overload, as nodes call them."""
    return {(function.domain, function.name, function.overload): function for function in model.functions}


def _write_defaults(model: ModelProto) -> None:
    """Write attributes that a local function has a value for where it is called without them; the inliner does not."""
    functions = _functions(model)
    for graph in _graphs(model):
        for node in graph.node:
            function = functions.get((node.domain, node.op_type, node.overload))
            given = {attribute.name for attribute in node.attribute}
            defaults = () if function is None else function.attribute_proto
            node.attribute.extend(default for default in defaults if default.name not in given)


def _check_size(model: ModelProto) -> None:
    """Count the nodes, with those of local functions as often as these are called."""
    functions = _functions(model)
    counts: dict[_Key, int] = {}

    def count(nodes: Iterable[NodeProto], inside: tuple[_Key, ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in inside:
                raise UnsupportedError(
                    f"the local function {node.op_type!s:.80} calls itself; export the network without"
                )
            if key in functions and key not in counts:
                if len(inside) > 100:
                    raise UnsupportedError(
                        "local functions call each other more than 100 deep; export the network without"
                    )
                counts[key] = count(functions[key].node, (*inside, key))
            total += counts.get(key, 1)
            total += sum(count(graph.node, inside) for graph in _subgraphs(node))
            if total > MAX_NODES:
                raise UnsupportedError(
                    f"the network has more than {MAX_NODES} nodes; supported are small networks, exported without loops"
                )
        return total

    if len(model.graph.node) > MAX_NODES:
        raise UnsupportedError(f"the network has {len(model.graph.node)} nodes; supported are at most {MAX_NODES}")
    count(model.graph.node, ())


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """With those of graphs inside of them."""
    for node in nodes:
        yield node
        for graph in _subgraphs(node):
            yield from _nodes(graph.node)


def _graphs(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    yield model.graph
    yield from model.functions
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in _nodes(nodes):
            yield from _subgraphs(node)


def _check_names(model: ModelProto) -> None:
    """Protobuf hands out names that are not UTF-8 as bytes."""
    for graph in _graphs(model):
        names: list[object] = []
        if isinstance(graph, GraphProto):
            names += [tensor.name for tensor in graph.initializer]
            names += [value.name for value in (*graph.input, *graph.output)]
        else:
            names += [graph.name, graph.domain, *graph.input, *graph.output]
        for node in graph.node:
            names += [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise CorruptFileError(f"damaged: the name {wrong[0]!r} is not UTF-8; export it again")


def _check_opset(model: ModelProto) -> None:
    version, newest = opset(model), onnx.defs.onnx_opset_version()
    versions = {entry.version for entry in model.opset_import if entry.domain in DOMAINS}
    if len(versions) > 1:
        raise UnsupportedError(f"it names several opsets ({', '.join(map(str, sorted(versions)))}); export it with one")
    if not OLDEST_OPSET <= version <= newest or model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"opset {version} (IR version {model.ir_version}); supported here are opsets {OLDEST_OPSET} to {newest} "
            f"(IR version {onnx.IR_VERSION}): export it with one of these"
        )


def _load_values(model: ModelProto, folder: Path) -> None:
    """Read weights from files beside the model."""
    external = ExternalData(folder, MAX_BYTES)
    for tensor in _tensors(model):
        try:
            check_form(tensor)
            if tensor.data_location == TensorProto.EXTERNAL:
                external.load(tensor, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"values of {tensor.name[:80]!r}: {error}") from error


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(model):
        if isinstance(graph, GraphProto):
            yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
