r"""The ``.sqe`` file: one integer graph. Nothing in it is executed, nothing is allocated before its size is checked.

Layout, all numbers little-endian::

    0        8 bytes   magic 89 53 51 45 0D 0A 1A 0A ("\x89SQE\r\n\x1a\n", as PNG's: text-mode copies destroy it)
    8        uint32    version of the format, 1 or 2
    12       uint32    length of the header in bytes, spaces at its end included
    16       header    UTF-8 JSON, filled with spaces so that the arrays start at a multiple of 64
    ...      arrays    in the header's order, each filled with zeros to a multiple of 64
    end-32   32 bytes  SHA-256 of everything before

The header is an object with ``name``, ``labels``, ``preprocessing``, ``nodes`` (one object a node: ``op`` and the
node's fields, see :mod:`squeezeedge.graph.integer`) and ``arrays``, which maps ``node.field`` to ``dtype``, ``shape``,
``encoding`` and the ``bytes`` it takes. The only encoding is ``raw``: C order. Unknown fields are errors, so a
version says exactly what a file can hold. Magic, version and checksum stay where they are in every version.

Version 2 adds the field ``groups`` of the nodes ``Conv`` and ``Head``; in version 1 all groups are 1. A graph is
written in the oldest version that can hold it, so one without grouped convolutions is a file of version 1, byte for
byte what it was before there was a version 2.

Safetensors would hold the arrays, but its metadata are strings, it knows no encodings and has no checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.files import write_file
from squeezeedge.graph.integer import INTEGER_OPERATORS, IntegerGraph, Node

__all__ = ["read_sqe", "write_sqe"]

MAGIC = b"\x89SQE\r\n\x1a\n"
VERSIONS = (1, 2)
PREFIX = struct.Struct("<8sII")
ALIGNMENT = 64
CHECKSUM_BYTES = hashlib.sha256().digest_size
MAX_BYTES = 2**30
MAX_HEADER_BYTES = 2**24
MAX_INTEGER = 2**16
FIRST_VERSION = {"groups": 2}
"""Fields of nodes that older versions lack."""
OPERATORS = {operator.__name__: operator for operator in INTEGER_OPERATORS}


def write_sqe(graph: IntegerGraph, path: Path) -> None:
    """Write a graph; ``path`` is replaced at once or not at all.

    Args:
        graph: the integer graph.
        path: the file.

    Raises:
        SqueezeEdgeError: the file cannot be written.
    """
    header, arrays = graph.to_parts()
    blobs = {name: array.astype(array.dtype.newbyteorder("<")).tobytes() for name, array in arrays.items()}
    header["arrays"] = {
        name: {"dtype": array.dtype.name, "shape": list(array.shape), "encoding": "raw", "bytes": len(blobs[name])}
        for name, array in arrays.items()
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text = text.ljust(_aligned(PREFIX.size + len(text)) - PREFIX.size)
    version = max(FIRST_VERSION.get(key, 1) for record in header["nodes"] for key in record)
    parts = [PREFIX.pack(MAGIC, version, len(text)), text]
    parts += [blob.ljust(_aligned(len(blob)), b"\0") for blob in blobs.values()]
    content = b"".join(parts)
    write_file(path, content + hashlib.sha256(content).digest())


def read_sqe(path: Path) -> IntegerGraph:
    """Read a graph.

    Args:
        path: the file.

    Returns:
        The graph; its digest is that of the graph that was written.

    Raises:
        CorruptFileError: the file cannot be read, is damaged, or holds what is no valid graph.
        UnsupportedError: it is intact, but of another version of the format.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CorruptFileError(f"{path}: {size} bytes is too large for an integer graph (at most {MAX_BYTES})")
        content = path.read_bytes()
    except OSError as error:
        raise CorruptFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return _decode(content)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}; copy the file again or quantize the network again") from None
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from None


def _decode(content: bytes) -> IntegerGraph:
    if not content.startswith(MAGIC):
        raise CorruptFileError("not an .sqe file: it does not start with its magic")
    if len(content) < PREFIX.size + CHECKSUM_BYTES:
        raise CorruptFileError(f"truncated: {len(content)} bytes")
    body = memoryview(content)[:-CHECKSUM_BYTES]
    if hashlib.sha256(body).digest() != content[-CHECKSUM_BYTES:]:
        raise CorruptFileError("truncated or damaged: its checksum does not match")
    _, version, length = PREFIX.unpack_from(body)
    if version not in VERSIONS:
        raise UnsupportedError(
            f"version {version} of the format; this squeezeedge reads versions {' and '.join(map(str, VERSIONS))}: use "
            "the one that wrote it, or quantize the network again"
        )
    start = PREFIX.size + length
    if start > len(body) or length > MAX_HEADER_BYTES or start % ALIGNMENT:
        raise CorruptFileError(f"a header of {length} bytes in a file of {len(content)}")
    try:
        header = json.loads(str(body[PREFIX.size : start], "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"its header is not JSON: {error}") from error
    record = _fields("the header", header, {"name", "labels", "preprocessing", "nodes", "arrays"})
    arrays = _arrays(record["arrays"], body[start:])
    nodes = [_node(entry, arrays, version) for entry in _list("nodes", record["nodes"])]
    if arrays:
        raise CorruptFileError(f"no node has the array {min(arrays)!r}")
    try:
        return IntegerGraph(
            _value("name", str, record["name"]),
            tuple(nodes),
            Preprocessing.from_json(record["preprocessing"]),
            tuple(_value("label", str, label) for label in _list("labels", record["labels"])),
        )
    except UnsupportedError as error:  # intact by its checksum, but nothing that write_sqe makes
        raise CorruptFileError(f"holds no valid graph: {error}") from error


def _arrays(record: object, data: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays by name; together they must take exactly ``data``."""
    if not isinstance(record, dict):
        raise CorruptFileError("arrays is not an object")
    arrays: dict[str, NDArray[Any]] = {}
    offset = 0
    for name, entry in record.items():
        entry = _fields(f"array {name!r}", entry, {"dtype", "shape", "encoding", "bytes"})
        if entry["encoding"] != "raw":
            raise CorruptFileError(f"array {name!r} has the unknown encoding {entry['encoding']!r}")
        if entry["dtype"] not in ("int8", "uint8", "int32", "float32"):
            raise CorruptFileError(f"array {name!r} has the unknown type {entry['dtype']!r}")
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        shape = [_integer(f"shape of {name!r}", side, len(data)) for side in _list("shape", entry["shape"])[:5]]
        size = _integer(f"bytes of {name!r}", entry["bytes"], len(data) - offset)
        if len(shape) > 4 or size != math.prod(shape) * dtype.itemsize or size == 0:
            raise CorruptFileError(f"array {name!r}: {size} bytes do not make a shape of {shape}")
        flat = np.frombuffer(data[offset : offset + size], dtype)
        arrays[name] = flat.reshape(shape).astype(dtype.newbyteorder("="))
        offset += _aligned(size)
    if offset != len(data):
        raise CorruptFileError(f"its arrays take {offset} bytes, but there are {len(data)}")
    return arrays


def _node(entry: object, arrays: dict[str, NDArray[Any]], version: int) -> Node:
    """Build one node from its record, taking its arrays out of ``arrays``."""
    operator = OPERATORS.get(str(entry.get("op"))) if isinstance(entry, dict) else None
    if operator is None:
        raise CorruptFileError(f"a node is not an object with an op of {', '.join(OPERATORS)}")
    hints = typing.get_type_hints(operator)
    names = [field.name for field in fields(operator) if FIRST_VERSION.get(field.name, 1) <= version]
    scalars = {name for name in names if hints[name] in (int, str, bool) or typing.get_origin(hints[name]) is tuple}
    record = _fields(f"a node {operator.__name__}", entry, scalars | {"op"})
    node = _value("name of a node", str, record["name"])
    values: dict[str, Any] = {}
    for name in names:
        if name in scalars:
            values[name] = _value(f"{node}.{name}", hints[name], record[name])
        elif (key := f"{node}.{name}") in arrays:
            values[name] = arrays.pop(key)
        else:
            raise CorruptFileError(f"the array {key!r} is missing")
    return operator(**values)


def _value(where: str, hint: object, value: object) -> Any:  # noqa: ANN401
    """A JSON value as the type that a node's field is annotated with."""
    if hint is int:
        return _integer(where, value, MAX_INTEGER)
    if typing.get_origin(hint) is tuple:
        items, hints = _list(where, value), typing.get_args(hint)
        if hints[-1] is Ellipsis:
            hints = hints[:1] * len(items)
        if len(items) != len(hints):
            raise CorruptFileError(f"{where} has {len(items)} values instead of {len(hints)}")
        return tuple(_value(where, kind, item) for kind, item in zip(hints, items, strict=True))
    assert hint in (str, bool), hint
    if type(value) is not hint:
        raise CorruptFileError(f"{where} is not a {hint}")
    return value


def _integer(where: str, value: object, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise CorruptFileError(f"{where} is {str(value)[:40]}, must be an integer in 0..{limit}")
    return value


def _list(where: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise CorruptFileError(f"{where} is not a list")
    return value


def _fields(where: str, value: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptFileError(f"{where} is not an object")
    if value.keys() != names:
        wrong = ", ".join(sorted(value.keys() ^ names))
        raise CorruptFileError(f"{where} lacks or should not have: {wrong[:200]}")
    return value


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
