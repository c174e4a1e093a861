"""PyTorch's ``torch.save`` files (.pth, .pt), read with ``weights_only=True``: no code in them runs.

``weights_only`` alone lets a small file allocate any amount of memory (``bytearray(2**40)``), so the pickle's
opcodes and the archive's sizes are looked through first.
"""

from __future__ import annotations

import pickletools
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
LEGACY_PICKLES = 5  # before the storages: magic number, protocol, system, the object, keys of the storages
GLOBALS = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
}


def read(path: Path, data: bytes) -> Checkpoint:
    """Read a state dict, bare or under "state_dict" or "model"; a "module." prefix is removed.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, or it holds more than tensors.
    """
    archive = zipfile.is_zipfile(BytesIO(data))
    if not archive and data.startswith(b"PK"):
        raise corrupt(path, KIND, "the archive's directory at the end is missing")
    try:
        pickles = _zip_pickles(path, data) if archive else [data]
        for content in pickles:
            _check_globals(path, BytesIO(content), 1 if archive else LEGACY_PICKLES)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as failure:
        raise corrupt(path, KIND, failure) from failure
    for device in ("meta", "cpu"):  # "meta": shapes only, before anything is allocated
        state = _load(path, data, device)
        for name, tensor in state.items():
            if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != device:
                raise corrupt(path, KIND, f"{name[:80]} is not a plain tensor")
            if tensor.numel() * tensor.element_size() > len(data):
                raise corrupt(path, KIND, f"{name[:80]} {list(tensor.shape)[:8]} does not fit in {len(data)} bytes")
    return Checkpoint(state)


def _zip_pickles(path: Path, data: bytes) -> list[bytes]:
    """The pickles of an archive whose records are stored as they are and have the CRC-32 written beside them."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise corrupt(path, KIND, "it has compressed records, as TorchScript archives do")
        if sum(record.file_size for record in records) > len(data):
            raise corrupt(path, KIND, "it declares more bytes than it has")
        if any(record.CRC for record in records):  # torch.save can be told to leave them out
            damaged = archive.testzip()
            if damaged is not None:
                raise corrupt(path, KIND, f"wrong checksum of {damaged[:80]}")
        else:
            for record in records:  # then zipfile must not compare them either
                record.CRC = None  # type: ignore[assignment]
        return [archive.read(record) for record in records if record.filename.lower().endswith(".pkl")]


def _check_globals(path: Path, stream: BytesIO, pickles: int) -> None:
    """Refuse a pickle that refers to anything but tensors and their containers."""
    for _ in range(pickles):
        for opcode, argument, _position in pickletools.genops(stream):
            storage = str(argument).startswith("torch ") and str(argument).endswith("Storage")
            if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL") and not storage and argument not in GLOBALS:
                raise CorruptFileError(
                    f"{path}: not {KIND}: it holds {str(argument)[:80]!r}, and nothing of it was loaded; "
                    "save only model.state_dict()"
                )


def _load(path: Path, data: bytes, device: str) -> dict[str, Tensor]:
    try:
        loaded = torch.load(BytesIO(data), map_location=device, weights_only=True)
    except Exception as failure:  # torch.load documents no set of exceptions for damaged files
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
