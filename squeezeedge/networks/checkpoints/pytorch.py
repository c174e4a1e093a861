"""PyTorch's ``torch.save`` files (.pth, .pt), read with ``weights_only=True``: no code in them runs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.record import Checkpoint, corrupt

__all__ = ["read"]

KIND = "a PyTorch state dict"
WRAPPERS = ("state_dict", "model")


def read(path: Path, data: bytes) -> Checkpoint:
    """Read a state dict, bare or under "state_dict" or "model"; a "module." prefix is removed.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, or it needs code to be loaded.
    """
    if zipfile.is_zipfile(BytesIO(data)):
        _check_records(path, data)
    for name, tensor in _load(path, data, "meta").items():  # shapes only: nothing is allocated yet
        if tensor.layout is not torch.strided or tensor.numel() * tensor.element_size() > len(data):
            raise corrupt(path, KIND, f"{name[:80]} {list(tensor.shape)[:8]} is not in a file of {len(data)} bytes")
    return Checkpoint(_load(path, data, "cpu"))


def _check_records(path: Path, data: bytes) -> None:
    """Every record must be stored as it is (as ``torch.save`` does) and have the CRC-32 that is written beside it."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise corrupt(path, KIND, "it has compressed records")
            if sum(record.file_size for record in records) > len(data):
                raise corrupt(path, KIND, "it declares more bytes than it has")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as failure:
        raise corrupt(path, KIND, failure) from failure
    if damaged is not None:
        raise corrupt(path, KIND, f"wrong checksum of {damaged[:80]}")


def _load(path: Path, data: bytes, device: str) -> dict[str, Tensor]:
    try:
        loaded = torch.load(BytesIO(data), map_location=device, weights_only=True)
    except Exception as failure:  # torch.load documents no set of exceptions for damaged files
        if "weights_only" in str(failure) or "weights only" in str(failure).lower():
            raise CorruptFileError(
                f"{path}: not {KIND}: damaged, or loading it would run code; save only model.state_dict()"
            ) from failure
        raise corrupt(path, KIND, failure) from failure
    if isinstance(loaded, Mapping):
        loaded = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping):
        raise corrupt(path, KIND, f"it holds a {type(loaded).__name__}")
    state: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise corrupt(path, KIND, f"entry {str(name)[:80]!r} is a {type(value).__name__}, not a tensor")
        state[name] = value
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state
