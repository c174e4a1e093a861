"""Safetensors files; the strings in their header carry what a state dict alone does not say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from squeezeedge.calib.statement_files import KEYS
from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.record import Contents, corrupt

__all__ = ["CHECKSUM", "parts", "read", "sealed"]

KIND = "a safetensors file"
KNOWN = ("network", "preprocessing", "labels")
CHECKSUM = "squeezeedge.sha256"
"""In the header's metadata: SHA-256, in hex, of the whole file with zeros in place of these 64 digits."""
_UNKNOWN = "0" * 64


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file's content, with a checksum; the same tensors and metadata give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file = safetensors.torch.save(plain, {**metadata, CHECKSUM: _UNKNOWN})
    end = 8 + int.from_bytes(file[:8], "little")
    # The library writes the header's entries in random order.
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    start = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(start + file[end:]).hexdigest()
    return start.replace(_entry(_UNKNOWN), _entry(digest)) + file[end:]


def parts(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors and metadata; its checksum is compared where it has one.

    Raises:
        ValueError: not such a file, or a damaged one.
    """
    try:
        state = safetensors.torch.load(data)
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end], object_pairs_hook=_unique)
    except (safetensors.SafetensorError, KeyError, RecursionError) as failure:  # KeyError: a type that torch lacks
        raise ValueError(str(failure)) from failure
    metadata = {key: str(value) for key, value in (header.get("__metadata__") or {}).items()}
    if CHECKSUM in metadata:
        plain = data[:end].replace(_entry(metadata[CHECKSUM]), _entry(_UNKNOWN))
        if hashlib.sha256(plain + data[end:]).hexdigest() != metadata[CHECKSUM]:
            raise ValueError("its contents differ from its checksum")
    return state, metadata


def read(path: Path, data: bytes) -> Contents:
    """Read the tensors, and "network", "labels" (a JSON list), and what the header says of preprocessing.

    That is "preprocessing" (a JSON object), and the keys of :mod:`squeezeedge.calib.statement_files` by themselves.

    A file that MindSpore wrote (header "format": "ms") is likely MindCV's, as a .ckpt is.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, a damaged one, or one of those strings is not what it must be.
    """
    try:
        state, metadata = parts(data)
    except ValueError as failure:
        raise corrupt(path, KIND, failure) from failure
    _check_json(path, metadata, "preprocessing", dict)
    _check_json(path, metadata, "labels", list)
    known = {key: text for key, text in metadata.items() if key in KNOWN or key.replace("-", "_") in KEYS}
    return Contents({(): state}, known, mindspore=metadata.get("format") == "ms")


def _entry(checksum: str) -> bytes:
    return f'"{CHECKSUM}":{json.dumps(checksum)}'.encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of equal names, readers would take one or the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in found if names.count(name) > 1)[:80]!r} appears twice in the header")
    return found


def _check_json(path: Path, metadata: dict[str, str], key: str, kind: type) -> None:
    if key not in metadata:
        return
    try:
        value = json.loads(metadata[key])
    except (ValueError, RecursionError) as failure:
        raise CorruptFileError(f"{path}: metadata {key!r} is not JSON ({failure}); write the file again") from failure
    if not isinstance(value, kind):
        raise CorruptFileError(f"{path}: metadata {key!r} must be a JSON {kind.__name__}; write the file again")
