r"""The ``.sqe`` file: one integer graph, and where it came from.

Nothing in it is executed, nothing is allocated before its size is checked.

Layout, all numbers little-endian::

    0        8 bytes   magic 89 53 51 45 0D 0A 1A 0A ("\x89SQE\r\n\x1a\n", as PNG's: text-mode copies destroy it)
    8        uint32    version of the format, 1 to 5
    12       uint32    length of the header in bytes
    16       header    UTF-8 JSON, in version 5 compressed: zlib (RFC 1950), preset dictionary :func:`dictionary`
    ...      code      the graph's arrays (:mod:`squeezeedge.graph.coding`)
    ...      arrays    those of the record: calibration, golden
    end-32   32 bytes  SHA-256 of everything before

**Version 5**, which is written. The header is an object with ``name``, ``labels``, ``preprocessing``, ``nodes`` (one
object a node: ``op`` and the node's fields, see :mod:`squeezeedge.graph.integer`), ``arrays``, which maps
``node.field`` to ``dtype`` and ``shape`` in the order of the code, ``code``, its length in bytes, and ``record``:
null, or an object that is no part of the graph and of its digest (:class:`Record`)::

    origin        network: its name; weights: name of the file that the graph was made of, sha256: of that file, in hex;
                  the last two may be missing together. Beside them, average, "ema": of that file's tensors, the moving
                  average was taken; channel_order, "bgr": that file's own network reads that
    calibration   null, or {"dtype": "uint8", "shape": [n, 32], "encoding": "raw", "bytes": 32 n}: the fingerprints of
                  the images that the network was quantized on
                  (:func:`squeezeedge.calib.fingerprint.fingerprints`), in ascending order, each once
    golden        null, or {"dtype": "uint8", "shape": [n, rows, columns, 3], "encoding": "raw", "bytes": ...}: a few
                  images with which a device checks itself, made coarse until all take at most 4096 bytes. A pixel
                  stands for f x f of the input, f being the least power of two for which rows = ceil(height / f) and
                  columns = ceil(width / f); the input is cut at its right and lower end

Unknown fields are errors, so a version says exactly what a file can hold. Magic, version and checksum stay where they
are in every version. How a graph is coded does not change its digest.

**Older versions** are read. Their header is not compressed, but filled with spaces so that the arrays start at a
multiple of 64; there is no code: ``arrays`` states ``encoding`` (``raw``: C order) and ``bytes``, too, and each array
is filled with zeros to a multiple of 64. Version 1 has no field ``groups`` of ``Conv`` and ``Head``: all groups are
1. Versions 1 and 2 have no ``record``; in 3 it cannot be null. The golden images' encoding is ``zlib``, and they are
as large as the input. The filters lanczos, box and hamming, gray images (``channel_order`` of ``preprocessing``),
``average`` and ``channel_order`` of ``origin`` exist since version 4.

Safetensors would hold the arrays, but its metadata are strings, it knows no encodings and has no checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.files import write_file
from squeezeedge.graph.coding import Kind, decode, encode, most_elements
from squeezeedge.graph.header import fields_of, integer_of, list_of, no_constant, node_of, value_of
from squeezeedge.graph.integer import IntegerGraph

__all__ = ["AVERAGED", "CHANNEL_ORDER", "GOLDEN_IMAGES", "ORIGIN", "Record", "read_recorded", "read_sqe", "write_sqe"]

MAGIC = b"\x89SQE\r\n\x1a\n"
VERSION = 5
"""What is written."""
OLDEST_VERSION = 1
RECORD_VERSION = 3
"""The first version with a record."""
SAYING_VERSION = 4
"""The first version with gray images, all filters, and what :data:`SAID` says."""
FIRST_FILTERS = ("nearest", "bilinear", "bicubic")
PREFIX = struct.Struct("<8sII")
ALIGNMENT = 64
CHECKSUM_BYTES = hashlib.sha256().digest_size
MAX_BYTES = 2**30
MAX_HEADER_BYTES = 2**24
MAX_ELEMENTS = 2**28
"""Most elements of all arrays."""
TYPES = ("int8", "uint8", "int32", "float32")
GOLDEN_IMAGES = 4
"""Number of calibration images that are kept, so that devices can check themselves with them."""
MAX_GOLDEN_BYTES = 2**28
"""Most bytes of the pixels of golden images."""
COARSE_BYTES = 2**12
"""Most bytes that they take in the file."""
ORIGIN = ("network", "weights", "sha256")
AVERAGED = "average"
CHANNEL_ORDER = "channel_order"
SAID = {AVERAGED: "ema", CHANNEL_ORDER: "bgr"}
"""What :data:`SAYING_VERSION` may say of the weight file."""
FINGERPRINT_BYTES = 32


@dataclass(frozen=True, eq=False)
class Record:
    """What a file says beside its graph.

    Attributes:
        origin: ``network``, its name; ``weights`` and ``sha256``, name and SHA-256 (hex) of the file that it was made
            of, both or neither; with them ``average``, "ema", where its moving average was taken, and
            ``channel_order``, "bgr", where its network reads that.
        calibrated_on: fingerprints of the preprocessed images that it was quantized on, in hex.
        golden: some of these images, uint8 [n, H, W, 3], or ``None``; of a file, coarse if the input is large.
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
    for node, source in zip(header["nodes"], graph.nodes, strict=True):
        if hasattr(source, "groups"):
            node["groups"] = source.groups
    code = encode(arrays)
    header["arrays"] = {name: {"dtype": array.dtype.name, "shape": array.shape} for name, array in arrays.items()}
    header["code"] = len(code)
    header["record"], rest = (None, []) if record is None else _record_parts(record, graph)
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    packer = zlib.compressobj(9, zdict=dictionary())
    packed = packer.compress(text) + packer.flush()
    content = b"".join([PREFIX.pack(MAGIC, VERSION, len(packed)), packed, code, *rest])
    write_file(path, content + hashlib.sha256(content).digest(), force=force)


@cache
def dictionary() -> bytes:
    """What headers are compressed with: ImageNet's class names as a JSON list, which most networks have as labels."""
    return json.dumps(imagenet_classes().names, separators=(",", ":")).encode()


def _record_parts(record: Record, graph: IntegerGraph) -> tuple[dict[str, Any], list[bytes]]:
    """The header's object and the arrays' bytes."""
    values: dict[str, Any] = {"origin": dict(record.origin), "calibration": None, "golden": None}
    blobs = []

    def add(key: str, array: NDArray[np.uint8]) -> None:
        values[key] = {"dtype": "uint8", "shape": array.shape, "encoding": "raw", "bytes": array.nbytes}
        blobs.append(array.tobytes())

    if record.calibrated_on:
        rows = b"".join(map(bytes.fromhex, sorted(record.calibrated_on)))
        add("calibration", np.frombuffer(rows, np.uint8).reshape(-1, FINGERPRINT_BYTES))
    if record.golden is not None:
        golden = record.golden[: MAX_GOLDEN_BYTES // math.prod(graph.input_shape)]
        if len(golden):
            add("golden", _coarse(golden))
    return values, blobs


def _coarse(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images, averaged over squares so that they take at most :data:`COARSE_BYTES`, if possible."""
    side = 1
    while len(images) * math.prod(_coarse_size(images.shape[1:3], side)) * 3 > COARSE_BYTES:
        side *= 2
        if side > max(images.shape[1:3]):
            break
    rows, columns = _coarse_size(images.shape[1:3], side)
    spare = (0, rows * side - images.shape[1]), (0, columns * side - images.shape[2])
    padded = np.pad(images, ((0, 0), *spare, (0, 0)), "edge").reshape(len(images), rows, side, columns, side, 3)
    means = (padded.sum((2, 4), dtype=np.int64) + side * side // 2) // (side * side)
    return np.asarray(means, np.uint8)


def _coarse_size(size: tuple[int, ...], side: int) -> tuple[int, ...]:
    return tuple(-(-length // side) for length in size)


def _is_new(preprocessing: Preprocessing) -> bool:
    """Whether only :data:`SAYING_VERSION` has what is stated."""
    return preprocessing.gray or preprocessing.interpolation not in FIRST_FILTERS


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
        raise CorruptFileError("is not an .sqe file: it does not start as one")
    if len(content) < PREFIX.size + CHECKSUM_BYTES:
        raise CorruptFileError(f"truncated: {len(content)} bytes")
    body = memoryview(content)[:-CHECKSUM_BYTES]
    if hashlib.sha256(body).digest() != content[-CHECKSUM_BYTES:]:
        raise CorruptFileError("is truncated or damaged: its checksum does not match")
    _, version, length = PREFIX.unpack_from(body)
    if not OLDEST_VERSION <= version <= VERSION:
        raise UnsupportedError(
            f"has version {version} of the format; this squeezeedge reads versions {OLDEST_VERSION} to {VERSION}: use "
            "the one that wrote it, or quantize the network again"
        )
    start = PREFIX.size + length
    if start > len(body) or length > MAX_HEADER_BYTES or (version < VERSION and start % ALIGNMENT):
        raise CorruptFileError(f"a header of {length} bytes in a file of {len(content)}")
    text = bytes(body[PREFIX.size : start])
    try:
        text = text if version < VERSION else _unpacked(text)
        header = json.loads(str(text, "utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"its header is not JSON: {error}") from error
    names = {"name", "labels", "preprocessing", "nodes", "arrays"}
    names |= ({"record"} if version >= RECORD_VERSION else set()) | ({"code"} if version == VERSION else set())
    values = fields_of("the header", header, names)
    data = _Arrays(body[start:], ALIGNMENT if version < VERSION else 1)
    if not isinstance(values["arrays"], dict):
        raise CorruptFileError("arrays is not an object")
    if version == VERSION:
        arrays = data.coded(values["arrays"], values["code"])
    else:
        arrays = {name: data.take(name, entry) for name, entry in values["arrays"].items()}
    if values.get("record") is None:
        if version == RECORD_VERSION:
            raise CorruptFileError("record is not an object")
        data.check_end()
    nodes = [node_of(entry, arrays, version) for entry in list_of("nodes", values["nodes"])]
    if arrays:
        raise CorruptFileError(f"no node has the array {min(arrays)!r}")
    try:
        graph = IntegerGraph(
            value_of("name", str, values["name"]),
            tuple(nodes),
            Preprocessing.from_json(values["preprocessing"]),
            tuple(value_of("label", str, label) for label in list_of("labels", values["labels"])),
        )
    except UnsupportedError as error:  # intact by its checksum, but nothing that write_sqe makes
        raise CorruptFileError(f"holds no valid graph: {error}") from error
    if version < SAYING_VERSION and _is_new(graph.preprocessing):
        raise CorruptFileError(f"holds preprocessing that version {version} has not")
    if values.get("record") is None:
        return graph, None
    record = _record(values["record"], data, graph, version)
    data.check_end()
    return graph, record


def _unpacked(packed: bytes) -> bytes:
    """The header's text; never more than may be."""
    stream = zlib.decompressobj(zdict=dictionary())
    try:
        text = stream.decompress(packed, MAX_HEADER_BYTES)
    except zlib.error as error:
        raise CorruptFileError(f"its header cannot be decompressed: {error}") from error
    if not stream.eof or stream.unused_data:
        raise CorruptFileError("its header does not end where it should")
    return text


class _Arrays:
    """The arrays of a file, taken one after the other; together they must take exactly ``data``."""

    def __init__(self, data: memoryview, alignment: int) -> None:
        self._data, self._alignment = data, alignment
        self._offset = 0

    def coded(self, entries: Mapping[str, object], size: object) -> dict[str, NDArray[Any]]:
        """The arrays of a code of that many bytes; their shapes are checked before anything is made."""
        kinds: dict[str, Kind] = {}
        code = self._bytes("code", size)
        left = min(MAX_ELEMENTS, most_elements(len(code)))
        for name, entry in entries.items():
            values = fields_of(f"array {name!r}", entry, {"dtype", "shape"})
            dtype, sides = _shape(name, values, left)
            if not all(sides) or not sides or (count := math.prod(sides)) > left:
                raise CorruptFileError(f"array {name!r}: a code of {len(code)} bytes cannot hold a shape of {sides}")
            left -= count
            kinds[name] = dtype, tuple(sides)
        try:
            return decode(bytes(code), kinds)
        except CorruptFileError as error:
            raise CorruptFileError(f"its arrays cannot be decoded: {error}") from None

    def take(self, name: str, entry: object, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """The next array.

        Args:
            name: for messages.
            entry: the header's object about it.
            shape: of an array of the encoding ``zlib``, which takes no memory before it is known to be of this shape;
                ``None``: the encoding is ``raw``.
        """
        entry = fields_of(f"array {name!r}", entry, {"dtype", "shape", "encoding", "bytes"})
        if entry["encoding"] != ("raw" if shape is None else "zlib"):
            raise CorruptFileError(f"array {name!r} has the unknown encoding {entry['encoding']!r}")
        dtype, sides = _shape(name, entry, len(self._data) if shape is None else math.prod(shape))
        blob = self._bytes(f"bytes of {name!r}", entry["bytes"])
        if shape is not None:
            blob = memoryview(_decompressed(name, blob, sides, shape))
        if len(blob) != math.prod(sides) * dtype.itemsize or len(blob) == 0:
            raise CorruptFileError(f"array {name!r}: {len(blob)} bytes do not make a shape of {sides}")
        return np.frombuffer(blob, dtype.newbyteorder("<")).reshape(sides).astype(dtype)

    def _bytes(self, where: str, size: object) -> memoryview:
        count = integer_of(where, size, len(self._data) - self._offset)
        blob = self._data[self._offset : self._offset + count]
        self._offset += -(-count // self._alignment) * self._alignment
        return blob

    def check_end(self) -> None:
        """Refuse bytes that no array takes."""
        if self._offset != len(self._data):
            raise CorruptFileError(f"its arrays take {self._offset} bytes, but there are {len(self._data)}")


def _shape(name: str, entry: Mapping[str, Any], limit: int) -> tuple[np.dtype[Any], list[int]]:
    """Type and sides, of which each is at most ``limit``."""
    if entry["dtype"] not in TYPES:
        raise CorruptFileError(f"array {name!r} has the unknown type {entry['dtype']!r}")
    sides = [integer_of(f"shape of {name!r}", side, limit) for side in list_of("shape", entry["shape"])[:5]]
    if len(sides) > 4:
        raise CorruptFileError(f"array {name!r}: bytes do not make a shape of {sides}")
    return np.dtype(entry["dtype"]), sides


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
    record = fields_of("record", value, {"origin", "calibration", "golden"})
    short = isinstance(record["origin"], dict) and record["origin"].keys() == {ORIGIN[0]}
    said = SAID.keys() & record["origin"] if version >= SAYING_VERSION and isinstance(record["origin"], dict) else set()
    names = {ORIGIN[0]} if short else {*ORIGIN, *said}
    origin = fields_of("origin", record["origin"], names)
    origin = {key: value_of(f"origin: {key}", str, text) for key, text in origin.items()}
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
        golden = _golden(record["golden"], data, graph, version)
    return Record(origin, frozenset(calibrated_on), golden)


def _golden(value: object, data: _Arrays, graph: IntegerGraph, version: int) -> NDArray[np.uint8]:
    """The golden images, as large as the input."""
    entry = fields_of("golden", value, {"dtype", "shape", "encoding", "bytes"})
    shape = list_of("shape", entry["shape"])
    most = MAX_GOLDEN_BYTES // math.prod(graph.input_shape)
    images = integer_of("number of golden images", shape[0] if shape else None, most)
    if entry["dtype"] != "uint8":
        raise CorruptFileError(f"golden images are {entry['dtype']!r}, not uint8")
    if version < VERSION:
        return data.take("golden", entry, (images, *graph.input_shape))
    golden = data.take("golden", entry)
    height, width, _ = graph.input_shape
    side = 1
    while side < max(height, width) and golden.shape[1:3] != _coarse_size((height, width), side):
        side *= 2
    if golden.shape[1:] != (*_coarse_size((height, width), side), 3):
        raise CorruptFileError(f"golden images have the shape {list(golden.shape)}, which is none of {height}x{width}")
    return np.ascontiguousarray(golden.repeat(side, 1).repeat(side, 2)[:, :height, :width])
