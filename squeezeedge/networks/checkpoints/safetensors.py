"""Safetensors files; the strings in their header carry what a state dict alone does not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.mindspore import from_mindcv
from squeezeedge.networks.checkpoints.record import Checkpoint, corrupt

__all__ = ["read"]

KIND = "a safetensors file"


def read(path: Path, data: bytes) -> Checkpoint:
    """Read the tensors, and "network", "preprocessing" (a JSON object) and "labels" (a JSON list) of the header.

    A file that MindSpore wrote (header "format": "ms") is likely MindCV's, as a .ckpt is.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, or one of those strings is not what it must be.
    """
    try:
        state = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as failure:  # KeyError: a type that torch lacks
        raise corrupt(path, KIND, failure) from failure
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_unique)
    except (ValueError, RecursionError) as failure:
        raise corrupt(path, KIND, failure) from failure
    metadata = {key: str(value) for key, value in (header.get("__metadata__") or {}).items()}
    _check_json(path, metadata, "preprocessing", dict)
    _check_json(path, metadata, "labels", list)
    known = {key: metadata[key] for key in ("network", "preprocessing", "labels") if key in metadata}
    if metadata.get("format") == "ms":
        checkpoint = from_mindcv(state)
        return Checkpoint(checkpoint.state, known, checkpoint.likely)
    return Checkpoint(state, known)


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
