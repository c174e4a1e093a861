"""Versions 1 to 4 of the .sqe file, as they were written: files of them must be read."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.header import FIRST_VERSION, OPERATORS
from squeezeedge.graph.sqe import (
    ALIGNMENT,
    FINGERPRINT_BYTES,
    FIRST_FILTERS,
    MAGIC,
    MAX_GOLDEN_BYTES,
    PREFIX,
    RECORD_VERSION,
    SAID,
    SAYING_VERSION,
    Record,
)

__all__ = ["write_old"]


def write_old(graph: IntegerGraph, path: Path, record: Record | None = None) -> None:
    """Write a graph in the oldest version that can hold it."""
    header, arrays = graph.to_parts()
    blobs = {name: array.astype(array.dtype.newbyteorder("<")).tobytes() for name, array in arrays.items()}
    header["arrays"] = {name: _entry(array, "raw", blobs[name]) for name, array in arrays.items()}
    version = max(FIRST_VERSION.get(key, 1) for node in header["nodes"] for key in node)
    data = list(blobs.values())
    if record is not None:
        version = SAYING_VERSION if record.origin.keys() & SAID.keys() else RECORD_VERSION
        header["nodes"] = [_with_all_fields(node) for node in header["nodes"]]
        header["record"], more = _record_parts(record, graph)
        data += more
    if _is_new(graph.preprocessing):
        version = SAYING_VERSION
        header["nodes"] = [_with_all_fields(node) for node in header["nodes"]]
        header.setdefault("record", None)
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text = text.ljust(_aligned(PREFIX.size + len(text)) - PREFIX.size)
    parts = [PREFIX.pack(MAGIC, version, len(text)), text]
    parts += [blob.ljust(_aligned(len(blob)), b"\0") for blob in data]
    content = b"".join(parts)
    path.write_bytes(content + hashlib.sha256(content).digest())


def _entry(array: NDArray[Any], encoding: str, blob: bytes) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape), "encoding": encoding, "bytes": len(blob)}


def _is_new(preprocessing: Preprocessing) -> bool:
    """Whether only :data:`SAYING_VERSION` has what is stated."""
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


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
