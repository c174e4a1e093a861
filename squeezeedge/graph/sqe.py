r"""The ``.sqe`` file: one integer graph, and where it came from.

Nothing in it is executed, nothing is allocated before its size is checked.

Layout, all numbers little-endian::

    0        8 bytes   magic 89 53 51 45 0D 0A 1A 0A ("\x89SQE\r\n\x1a\n", as PNG's: text-mode copies destroy it)
    8        uint32    version of the format, 1 to 4
    12       uint32    length of the header in bytes, spaces at its end included
    16       header    UTF-8 JSON, filled with spaces so that the arrays start at a multiple of 64
    ...      arrays    in the header's order, each filled with zeros to a multiple of 64; those of the record last
    end-32   32 bytes  SHA-256 of everything before

The header is an object with ``name``, ``labels``, ``preprocessing``, ``nodes`` (one object a node: ``op`` and the
node's fields, see :mod:`squeezeedge.graph.integer`) and ``arrays``, which maps ``node.field`` to ``dtype``, ``shape``,
``encoding`` and the ``bytes`` it takes. Their encoding is ``raw``: C order. Unknown fields are errors, so a
version says exactly what a file can hold. Magic, version and checksum stay where they are in every version.

Version 2 adds the field ``groups`` of the nodes ``Conv`` and ``Head``; in version 1 all groups are 1. Version 3 adds
the object ``record`` to the header (:class:`Record`), which is no part of the graph and of its digest::

    origin        network: its name; weights: name of the file that the graph was made of, sha256: of that file, in hex;
                  the last two may be missing together
    calibration   null, or an array as above: uint8 [n, 32], the fingerprints of the images that the network was
                  quantized on (:func:`squeezeedge.calib.fingerprint.fingerprints`), in ascending order, each once
    golden        null, or an array of the encoding ``zlib`` (RFC 1950): uint8 [n, height, width, 3], a few preprocessed
                  images with which a device checks itself; at most 2^28 bytes of pixels

Version 4 adds to ``preprocessing`` the filters lanczos, box and hamming, and ``channel_order``, which is "gray"; to the
record's ``origin``, beside ``weights``, ``average``, which is "ema": of that file's tensors, the moving average was
taken; and ``channel_order``, which is "bgr": that file's own network reads that. Its ``record`` may be null.

A file is written in the oldest version that can hold it, so a graph without grouped convolutions and without a record
is a file of version 1, byte for byte what it was before there was a version 2.

Safetensors would hold the arrays, but its metadata are strings, it knows no encodings and has no checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import typing
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.files import write_file
from squeezeedge.graph.integer import INTEGER_OPERATORS, IntegerGraph, Node

__all__ = ["AVERAGED", "CHANNEL_ORDER", "GOLDEN_IMAGES", "ORIGIN", "Record", "read_recorded", "read_sqe", "write_sqe"]

MAGIC = b"\x89SQE\r\n\x1a\n"
VERSIONS = (1, 2, 3, 4)
RECORD_VERSION = 3
"""The first version with a record."""
NEWEST_VERSION = 4
"""The first version with gray images, all filters, and what :data:`SAID` says."""
FIRST_FILTERS = ("nearest", "bilinear", "bicubic")
PREFIX = struct.Struct("<8sII")
ALIGNMENT = 64
CHECKSUM_BYTES = hashlib.sha256().digest_size
MAX_BYTES = 2**30
MAX_HEADER_BYTES = 2**24
MAX_INTEGER = 2**16
GOLDEN_IMAGES = 4
"""So many of the images that a network was quantized on are kept, for its devices to check themselves with."""
MAX_GOLDEN_BYTES = 2**28
"""Most bytes of the pixels of golden images."""
ORIGIN = ("network", "weights", "sha256")
AVERAGED = "average"
CHANNEL_ORDER = "channel_order"
SAID = {AVERAGED: "ema", CHANNEL_ORDER: "bgr"}
"""What :data:`NEWEST_VERSION` may say of the weight file."""
FINGERPRINT_BYTES = 32
FIRST_VERSION = {"groups": 2}
"""Fields of nodes that older versions lack."""
OPERATORS = {operator.__name__: operator for operator in INTEGER_OPERATORS}


@dataclass(frozen=True, eq=False)
class Record:
    """What a file says beside its graph.

    Attributes:
        origin: ``network``, its name; ``weights`` and ``sha256``, name and SHA-256 (hex) of the file that it was made
            of, both or neither; with them ``average``, "ema", where its moving average was taken, and
            ``channel_order``, "bgr", where its network reads that.
        calibrated_on: fingerprints of the preprocessed images that it was quantized on, in hex.
        golden: some of these images, uint8 [n, H, W, 3], or ``None``.
    """

    origin: Mapping[str, str]
    calibrated_on: frozenset[str] = frozenset()
    golden: NDArray[np.uint8] | None = None


def write_sqe(graph: IntegerGraph, path: Path, record: Record | None = None, *, force: bool = True) -> None:
    """Write a graph; ``path`` is replaced at once or not at all.

    Args:
        graph: the integer graph.
        path: the file.
        record: kept beside the graph; of its golden images, those that fit into :data:`MAX_GOLDEN_BYTES`.
        force: replace what is there.

    Raises:
        UsageError: something is there that is not to be replaced.
        SqueezeEdgeError: the file cannot be written.
    """
    header, arrays = graph.to_parts()
    blobs = {name: array.astype(array.dtype.newbyteorder("<")).tobytes() for name, array in arrays.items()}
    header["arrays"] = {name: _entry(array, "raw", blobs[name]) for name, array in arrays.items()}
    version = max(FIRST_VERSION.get(key, 1) for node in header["nodes"] for key in node)
    data = list(blobs.values())
    if record is not None:
        version = NEWEST_VERSION if record.origin.keys() & SAID.keys() else RECORD_VERSION
        header["nodes"] = [_with_all_fields(node) for node in header["nodes"]]
        header["record"], more = _record_parts(record, graph)
        data += more
    if _is_new(graph.preprocessing):
        version = NEWEST_VERSION
        header["nodes"] = [_with_all_fields(node) for node in header["nodes"]]
        header.setdefault("record", None)
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text = text.ljust(_aligned(PREFIX.size + len(text)) - PREFIX.size)
    parts = [PREFIX.pack(MAGIC, version, len(text)), text]
    parts += [blob.ljust(_aligned(len(blob)), b"\0") for blob in data]
    content = b"".join(parts)
    write_file(path, content + hashlib.sha256(content).digest(), force=force)


def _entry(array: NDArray[Any], encoding: str, blob: bytes) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape), "encoding": encoding, "bytes": len(blob)}


def _is_new(preprocessing: Preprocessing) -> bool:
    """Whether only :data:`NEWEST_VERSION` has what is stated."""
    return preprocessing.gray or preprocessing.interpolation not in FIRST_FILTERS


def _with_all_fields(node: dict[str, Any]) -> dict[str, Any]:
    """A node's record with the fields that graphs leave out where they can."""
    if "groups" in {field.name for field in fields(OPERATORS[node["op"]])}:
        return {**node, "groups": node.get("groups", 1)}
    return node


def _record_parts(record: Record, graph: IntegerGraph) -> tuple[dict[str, Any], list[bytes]]:
    """The header's object and the arrays' bytes."""
    values: dict[str, Any] = {"origin": dict(record.origin), "calibration": None, "golden": None}
    blobs = []
    if record.calibrated_on:
        blob = b"".join(map(bytes.fromhex, sorted(record.calibrated_on)))
        rows = np.frombuffer(blob, np.uint8).reshape(-1, FINGERPRINT_BYTES)
        values["calibration"] = _entry(rows, "raw", blob)
        blobs.append(blob)
    golden = record.golden
    if golden is not None:
        golden = golden[: MAX_GOLDEN_BYTES // math.prod(graph.input_shape)]
    if golden is not None and len(golden):
        blob = zlib.compress(golden.tobytes(), 9)
        values["golden"] = _entry(golden, "zlib", blob)
        blobs.append(blob)
    return values, blobs


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
    return read_recorded(path)[0]


def read_recorded(path: Path) -> tuple[IntegerGraph, Record | None]:
    """Read a graph and what the file says beside it, ``None`` if that is nothing.

    Raises:
        SqueezeEdgeError: as :func:`read_sqe`.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CorruptFileError(f"{path}: {size} bytes is too large for an integer graph (at most {MAX_BYTES})")
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CorruptFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return _decode(content)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}; copy the file again or quantize the network again") from None
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from None


def _decode(content: bytes) -> tuple[IntegerGraph, Record | None]:
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
            f"version {version} of the format; this squeezeedge reads versions {VERSIONS[0]} to {VERSIONS[-1]}: use "
            "the one that wrote it, or quantize the network again"
        )
    start = PREFIX.size + length
    if start > len(body) or length > MAX_HEADER_BYTES or start % ALIGNMENT:
        raise CorruptFileError(f"a header of {length} bytes in a file of {len(content)}")
    try:
        header = json.loads(str(body[PREFIX.size : start], "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"its header is not JSON: {error}") from error
    recorded = {"record"} if version >= RECORD_VERSION else set()
    values = _fields("the header", header, {"name", "labels", "preprocessing", "nodes", "arrays"} | recorded)
    data = _Arrays(body[start:])
    if not isinstance(values["arrays"], dict):
        raise CorruptFileError("arrays is not an object")
    arrays = {name: data.take(name, entry) for name, entry in values["arrays"].items()}
    if values.get("record") is None:
        if version == RECORD_VERSION:
            raise CorruptFileError("record is not an object")
        data.check_end()
    nodes = [_node(entry, arrays, version) for entry in _list("nodes", values["nodes"])]
    if arrays:
        raise CorruptFileError(f"no node has the array {min(arrays)!r}")
    try:
        graph = IntegerGraph(
            _value("name", str, values["name"]),
            tuple(nodes),
            Preprocessing.from_json(values["preprocessing"]),
            tuple(_value("label", str, label) for label in _list("labels", values["labels"])),
        )
    except UnsupportedError as error:  # intact by its checksum, but nothing that write_sqe makes
        raise CorruptFileError(f"holds no valid graph: {error}") from error
    if version < NEWEST_VERSION and _is_new(graph.preprocessing):
        raise CorruptFileError(f"holds preprocessing that version {version} has not")
    if values.get("record") is None:
        return graph, None
    record = _record(values["record"], data, graph, version)
    data.check_end()
    return graph, record


class _Arrays:
    """The arrays of a file, taken one after the other; together they must take exactly ``data``."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._offset = 0

    def take(self, name: str, entry: object, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """The next array.

        Args:
            name: for messages.
            entry: the header's object about it.
            shape: of an array of the encoding ``zlib``, which takes no memory before it is known to be of this shape;
                ``None``: the encoding is ``raw``.
        """
        entry = _fields(f"array {name!r}", entry, {"dtype", "shape", "encoding", "bytes"})
        if entry["encoding"] != ("raw" if shape is None else "zlib"):
            raise CorruptFileError(f"array {name!r} has the unknown encoding {entry['encoding']!r}")
        if entry["dtype"] not in ("int8", "uint8", "int32", "float32"):
            raise CorruptFileError(f"array {name!r} has the unknown type {entry['dtype']!r}")
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        limit = len(self._data) if shape is None else math.prod(shape)
        sides = [_integer(f"shape of {name!r}", side, limit) for side in _list("shape", entry["shape"])[:5]]
        size = _integer(f"bytes of {name!r}", entry["bytes"], len(self._data) - self._offset)
        blob = self._data[self._offset : self._offset + size]
        if shape is not None:
            blob = memoryview(_decompressed(name, blob, sides, shape))
        if len(sides) > 4 or len(blob) != math.prod(sides) * dtype.itemsize or len(blob) == 0:
            raise CorruptFileError(f"array {name!r}: {len(blob)} bytes do not make a shape of {sides}")
        self._offset += _aligned(size)
        return np.frombuffer(blob, dtype).reshape(sides).astype(dtype.newbyteorder("="))

    def check_end(self) -> None:
        """Refuse bytes that no array takes."""
        if self._offset != len(self._data):
            raise CorruptFileError(f"its arrays take {self._offset} bytes, but there are {len(self._data)}")


def _decompressed(name: str, blob: memoryview, sides: list[int], shape: tuple[int, ...]) -> bytes:
    """The bytes of an array that must be of this shape; never more than these are made."""
    if tuple(sides) != shape:
        raise CorruptFileError(f"array {name!r} has the shape {sides}, not {list(shape)}")
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(blob, math.prod(shape) + 1)
    except zlib.error as error:
        raise CorruptFileError(f"array {name!r} cannot be decompressed: {error}") from error
    if not stream.eof or stream.unused_data:
        raise CorruptFileError(f"array {name!r}: its {len(blob)} bytes do not make a shape of {sides}")
    return content


def _record(value: object, data: _Arrays, graph: IntegerGraph, version: int) -> Record:
    """What stands beside a graph."""
    record = _fields("record", value, {"origin", "calibration", "golden"})
    short = isinstance(record["origin"], dict) and record["origin"].keys() == {ORIGIN[0]}
    said = SAID.keys() & record["origin"] if version >= NEWEST_VERSION and isinstance(record["origin"], dict) else set()
    names = {ORIGIN[0]} if short else {*ORIGIN, *said}
    origin = _fields("origin", record["origin"], names)
    origin = {key: _value(f"origin: {key}", str, text) for key, text in origin.items()}
    if not short and not re.fullmatch(r"[0-9a-f]{64}", origin["sha256"]):
        raise CorruptFileError("origin: sha256 is not a SHA-256")
    for key, value in SAID.items():
        if origin.get(key, value) != value:
            raise CorruptFileError(f"origin: {key} is not {value}")
    calibrated_on: list[str] = []
    if record["calibration"] is not None:
        rows = data.take("calibration", record["calibration"])
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != FINGERPRINT_BYTES:
            raise CorruptFileError(
                f"calibration is {rows.dtype} {list(rows.shape)}, not uint8 [n, {FINGERPRINT_BYTES}]"
            )
        calibrated_on = [row.tobytes().hex() for row in rows]
        if calibrated_on != sorted(set(calibrated_on)):
            raise CorruptFileError("calibration: its fingerprints are not in ascending order")
    golden = None
    if record["golden"] is not None:
        entry = _fields("golden", record["golden"], {"dtype", "shape", "encoding", "bytes"})
        count = _list("shape", entry["shape"])[:1]
        most = MAX_GOLDEN_BYTES // math.prod(graph.input_shape)
        images = _integer("number of golden images", count[0] if count else None, most)
        if entry["dtype"] != "uint8":
            raise CorruptFileError(f"golden images are {entry['dtype']!r}, not uint8")
        golden = data.take("golden", entry, (images, *graph.input_shape))
    return Record(origin, frozenset(calibrated_on), golden)


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
