"""PyTorch's ``torch.save`` files (.pth, .pt), read with ``weights_only=True``: no code in them runs.

``weights_only`` alone lets a small file allocate any amount of memory (``bytearray(2**40)``), so the pickle's
opcodes and the archive's sizes are looked through first.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
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
PICKLE = "data.pkl"
LEGACY_PICKLES = 5  # before the storages: magic number, protocol, system, the object, keys of the storages
SYSTEM = 2
MEMO = ("BINPUT", "LONG_BINPUT", "MEMOIZE", "PUT")
GLOBALS = {
    "collections OrderedDict",
    "torch Size",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
}

# What zipfile and pickletools raise for damaged input.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def read(path: Path, data: bytes) -> Checkpoint:
    """Read a state dict, bare or under "state_dict" or "model"; a "module." prefix is removed.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, or it holds more than tensors.
    """
    with warnings.catch_warnings(action="ignore"):  # about odd pickles; what matters here is an error
        try:
            archive = zipfile.is_zipfile(BytesIO(data))
            if archive:
                data = _canonical(path, data)
            elif data.startswith(b"PK"):
                raise corrupt(path, KIND, "the archive's directory at the end is missing")
            _check_pickles(path, data, archive)
        except _DAMAGE as failure:
            raise corrupt(path, KIND, failure) from failure
        for device in ("meta", "cpu"):  # "meta": shapes only, before anything is allocated
            state = _load(path, data, device)
            for name, tensor in state.items():
                if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != device:
                    raise corrupt(path, KIND, f"{name[:80]} is not a plain tensor")
                if tensor.numel() * tensor.element_size() > len(data):
                    raise corrupt(path, KIND, f"{name[:80]} {list(tensor.shape)[:8]} does not fit in {len(data)} bytes")
    return Checkpoint(state)


def _canonical(path: Path, data: bytes) -> bytes:
    """Check an archive and write its pickle and storages anew.

    PyTorch's zip reader trusts what it finds: a damaged entry can crash it or give it uninitialized memory. It gets
    nothing but what zipfile has read and written.
    """
    copy = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as source, zipfile.ZipFile(copy, "w") as target:
        records = source.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise corrupt(path, KIND, "it has compressed records, as TorchScript archives do")
        if sum(record.file_size for record in records) > len(data):
            raise corrupt(path, KIND, "it declares more bytes than it has")
        checked = any(record.CRC for record in records)  # torch.save can be told to leave them out
        written = set()
        for record in records:
            name = record.filename.partition("/")[2]
            if name in written:
                raise corrupt(path, KIND, f"record {name[:80]} appears twice")
            if name in (PICKLE, "version", "byteorder") or name.startswith("data/"):
                if not checked:
                    record.CRC = None  # type: ignore[assignment]
                content = source.read(record)
                if name == "byteorder" and content != b"little":
                    raise _big_endian(path)
                target.writestr(f"archive/{name}", content)
                written.add(name)
        if PICKLE not in written:
            raise corrupt(path, KIND, f"it has no {PICKLE}")
    return copy.getvalue()


def _big_endian(path: Path) -> CorruptFileError:
    """PyTorch would take a file without an archive for little-endian, and crashes where it turns the bytes."""
    return CorruptFileError(f"{path}: its byte order is not little-endian; save it again on a little-endian machine")


def _check_pickles(path: Path, data: bytes, archive: bool) -> None:
    """Refuse pickles that refer to anything but tensors and their containers, and another byte order."""
    if archive:
        with zipfile.ZipFile(BytesIO(data)) as file:
            stream = BytesIO(file.read(f"archive/{PICKLE}"))
    else:
        stream = BytesIO(data)
    for number in range(1 if archive else LEGACY_PICKLES):
        previous: object = None
        for opcode, argument, _position in pickletools.genops(stream):
            if number == SYSTEM and opcode.name not in MEMO:
                if previous == "little_endian" and opcode.name != "NEWTRUE":
                    raise _big_endian(path)
                previous = argument
            if opcode.name == "STACK_GLOBAL":  # the name is not its argument, and PyTorch does not load it as weights
                raise CorruptFileError(
                    f"{path}: not {KIND}: its pickle is of protocol 4 or later, and nothing of it was loaded; "
                    "save only model.state_dict(), with torch.save's own pickle_protocol"
                )
            storage = str(argument).startswith("torch ") and str(argument).endswith("Storage")
            if opcode.name in ("GLOBAL", "INST") and not storage and argument not in GLOBALS:
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
