"""PyTorch's ``torch.save`` files, read without PyTorch's loader: their pickles are data (:mod:`.pickles`).

A pickle of numpy's arrays is read, too.

Since PyTorch 1.6 a file is a zip archive: ``NAME/data.pkl``, ``NAME/data/KEY`` for each storage, ``NAME/byteorder``.
Before, it was five pickles (magic number, protocol, system, the object, keys of the storages) and then, for each key,
the number of elements as int64 and the elements (torch/serialization.py, ``_save`` and ``_legacy_save``).
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints.pickles import HostileError, Makers, Name, Unknown, interpret
from squeezeedge.networks.checkpoints.record import Contents, Place, check_bytes, corrupt, other

__all__ = ["read"]

KIND = "a PyTorch state dict"
PICKLE = "data.pkl"
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DEEPEST = 8
"""Mappings are looked into so far down."""
MAX_DIMS = 8
SAVE_TENSORS = "save only model.state_dict()"
ZERO_PART = re.compile(r"(bf16_|fp16_)?zero_pp_rank_\d+")
ZERO_FIX = (
    "join the parts first: python zero_to_fp32.py FOLDER weights.bin, a program that DeepSpeed put into the folder"
)

STORAGES: Mapping[str, torch.dtype] = {
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Double": torch.float64,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "Untyped": torch.uint8,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "QInt8": torch.int8,  # of quantized tensors; these are never taken, but their bytes are passed over
    "QUInt8": torch.uint8,
    "QInt32": torch.int32,
    "QUInt4x2": torch.uint8,
    "QUInt2x4": torch.uint8,
}
STORAGE = re.compile(r"torch(?:\.cuda|\.storage)? (\w+)Storage")
ARRAY_TYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}
RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")

# What zipfile and the pickles' reader raise for damaged input.
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError)


@dataclass(eq=False)
class _Storage:
    """Elements in a row: of a dtype, so many, and their bytes once they are found."""

    dtype: torch.dtype
    count: int
    data: bytearray | None = None


@dataclass(frozen=True, eq=False)
class _Stored:
    """A view of a storage, as it is described."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        data, item = self.storage.data, self.storage.dtype.itemsize
        shape, size = list(self.shape), math.prod(self.shape)
        if data is None:
            raise ValueError(f"{shape[:MAX_DIMS]} has no data")
        if len(shape) > MAX_DIMS or len(shape) != len(self.stride) or min(*shape, *self.stride, self.offset, 0) < 0:
            raise ValueError(f"{shape[:MAX_DIMS]} is not a possible shape")
        if size * item > len(data):
            raise ValueError(f"{shape} does not fit in {len(data)} bytes")
        last = self.offset + sum((side - 1) * step for side, step in zip(shape, self.stride, strict=True))
        if size and last >= self.storage.count:
            raise ValueError(f"{shape} goes beyond its storage of {self.storage.count} elements")
        if not size:
            return torch.empty(shape, dtype=self.storage.dtype)
        return torch.frombuffer(data, dtype=self.storage.dtype).as_strided(shape, self.stride, self.offset)


def read(path: Path, data: bytes) -> Contents:
    """Read all tensors of a file, and numpy's arrays; what else it holds is not looked at.

    Args:
        path: for messages.
        data: the file's content.

    Raises:
        CorruptFileError: not such a file, it holds no tensors, or it names what can do harm.
    """
    try:
        loaded = _archive(path, data) if zipfile.is_zipfile(BytesIO(data)) else _legacy(path, data)
    except HostileError as failure:
        raise other(
            path, f"not {KIND}: it holds {failure.args[0][:80]!r}, and nothing of it was loaded", SAVE_TENSORS
        ) from None
    except _DAMAGE as failure:
        raise corrupt(path, KIND, failure) from failure
    if isinstance(loaded, Unknown) and not loaded.items:
        raise other(path, f"not {KIND}: {_described(loaded)}, and nothing of it was loaded", SAVE_TENSORS)
    _check_deepspeed(path, loaded)
    tensors: dict[Place, dict[str, _Stored]] = {}
    others: dict[Place, dict[str, str]] = {}
    for place, items in _mappings(loaded):
        for key, value in items.items():
            stored = _array(value) if isinstance(value, Unknown) else value
            if isinstance(stored, _Stored) and isinstance(key, str):
                tensors.setdefault(place, {})[key] = stored
            elif isinstance(value, Unknown) and isinstance(key, str) and "_rebuild" in value.name:
                others.setdefault(place, {})[key] = f"made by {value.name[:80]!r}"
    if not tensors:
        raise _nothing(path, loaded)
    return Contents(tensors, others=others)


def _archive(path: Path, data: bytes) -> object:
    """The object of a zip archive; all that is read of it is compared with its checksums."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise corrupt(path, KIND, "it has compressed records, as TorchScript archives do")
        if sum(info.file_size for info in infos) > len(data):
            raise corrupt(path, KIND, "it declares more bytes than it has")
        checked = any(info.CRC for info in infos)  # torch.save can be told to leave them out
        records: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename.partition("/")[2]
            if name in records:
                raise corrupt(path, KIND, f"record {name[:80]} appears twice")
            if not checked:
                info.CRC = None  # type: ignore[assignment]
            records[name] = info
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise _big_endian(path)
        if PICKLE not in records:
            raise corrupt(path, KIND, f"it has no {PICKLE}")
        storages: dict[str, _Storage] = {}

        def storage(described: object) -> _Storage:
            key, dtype, count = _description(described)
            if key not in storages:
                info = records.get(f"data/{key}")
                if info is None:
                    raise ValueError(f"it has no record data/{key[:80]}")
                found, needed = info.file_size, count * dtype.itemsize
                if found != needed:
                    raise ValueError(f"record size ({found} bytes) does not match expected size ({needed} bytes)")
                storages[key] = _Storage(dtype, count, bytearray(archive.read(info)))
            return _same(storages[key], dtype, count)

        return interpret(BytesIO(archive.read(records[PICKLE])), MAKERS, storage)


def _legacy(path: Path, data: bytes) -> object:
    """The object of a file without an archive."""
    if data.startswith(b"PK"):
        raise corrupt(path, KIND, "the archive's directory at the end is missing")
    stream = BytesIO(data)
    first = interpret(stream, MAKERS)
    if first != MAGIC:
        return first  # a pickle of something else, of numpy's arrays perhaps
    if interpret(stream, {}) != PROTOCOL:
        raise corrupt(path, KIND, "it is of another protocol")
    system = interpret(stream, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _big_endian(path)
    storages: dict[str, _Storage] = {}

    def storage(described: object) -> object:
        if isinstance(described, tuple) and described[:1] == ("module",):
            return described[1]  # the class of a module, with its source
        key, dtype, count = _description(described)
        return _same(storages.setdefault(key, _Storage(dtype, count)), dtype, count)

    loaded = interpret(stream, MAKERS, storage)
    keys = interpret(stream, {})
    for key in keys if isinstance(keys, list) else ():
        (count,) = struct.unpack("<q", stream.read(8).ljust(8, b"\xff"))
        found = storages.get(key) if isinstance(key, str) else None
        if found is None or found.count != count:
            raise corrupt(path, KIND, f"storage {str(key)[:80]} is not what its tensors say")
        found.data = bytearray(stream.read(count * found.dtype.itemsize))
        if len(found.data) != count * found.dtype.itemsize:
            raise corrupt(path, KIND, f"storage {key[:80]} is cut off")
    return loaded


def _big_endian(path: Path) -> CorruptFileError:
    return CorruptFileError(f"{path}: its byte order is not little-endian; save it again on a little-endian machine")


def _description(described: object) -> tuple[str, torch.dtype, int]:
    """Key, dtype and number of elements of ("storage", type, key, place, number, ...)."""
    match described:
        case ("storage", Name(name), str(key), _, int(count), *views) if count >= 0 and not any(views):
            storage = STORAGE.fullmatch(name)
            if storage is not None and storage[1] in STORAGES:
                return key, STORAGES[storage[1]], count
            raise ValueError(f"a storage of type {name[:80]}")
    raise ValueError("a storage that is not described as one")


def _same(storage: _Storage, dtype: torch.dtype, count: int) -> _Storage:
    if (storage.dtype, storage.count) != (dtype, count):
        raise ValueError("a storage is described in two ways")
    return storage


def _rebuilt(arguments: tuple[Any, ...]) -> _Stored:
    """``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)``."""
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or not all(type(number) is int for number in numbers):
        raise TypeError
    return _Stored(storage, offset, tuple(shape), tuple(stride))


def _of_a_type(arguments: tuple[Any, ...]) -> object:
    """``_rebuild_from_type_v2(function, type, arguments, state)``: a tensor with attributes."""
    function, kind, inner = arguments[:3]
    made = MAKERS.get(function.name)
    plain = isinstance(kind, Name) and kind.name in ("torch Tensor", "torch.nn.parameter Parameter")
    return made(inner) if made is not None and plain else Unknown(function.name, inner)


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """``OrderedDict()``, ``OrderedDict([[key, value], ...])``, ``defaultdict(factory, mapping)``."""
    given = arguments[-1] if arguments else {}
    if isinstance(given, dict):
        return dict(given)
    pairs = given if isinstance(given, list) else []
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)}


def _bytes(arguments: tuple[Any, ...]) -> bytes:
    """``_codecs.encode(text, "latin1")``: bytes, as pickles of protocol 2 write them."""
    text, encoding = arguments
    if encoding != "latin1" or not isinstance(text, str):
        raise TypeError
    return text.encode("latin1")


MAKERS: Makers = {
    "_codecs encode": _bytes,
    "collections OrderedDict": _mapping,
    "collections defaultdict": _mapping,
    "builtins dict": _mapping,
    "torch Size": lambda arguments: tuple(arguments[0]),
    "torch._utils _rebuild_tensor": _rebuilt,
    "torch._utils _rebuild_tensor_v2": _rebuilt,
    "torch._utils _rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils _rebuild_parameter_with_state": lambda arguments: arguments[0],
    "torch._tensor _rebuild_from_type_v2": _of_a_type,
}


def _array(value: Unknown) -> _Stored | None:
    """The tensor of a pickled ``numpy.ndarray`` of floating-point numbers, if it is one."""
    if value.name not in RECONSTRUCT:
        return None
    match value.state:
        case (_, (*shape,), Unknown(name="numpy dtype", arguments=(str(kind), *_)) as dtype, fortran, bytes(raw)):
            order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else None
            sides = [side for side in shape if isinstance(side, int)]
            if kind not in ARRAY_TYPES or order != "<" or len(sides) != len(shape):
                return None
            item = ARRAY_TYPES[kind].itemsize
            if check_bytes(sides, item, len(raw)) is not None:
                return None
            stride = [math.prod(sides[:axis] if fortran else sides[axis + 1 :]) for axis in range(len(sides))]
            storage = _Storage(ARRAY_TYPES[kind], len(raw) // item, bytearray(raw))
            return _Stored(storage, 0, tuple(sides), tuple(stride))
    return None


def _mappings(loaded: object) -> Iterator[tuple[Place, Mapping[Any, Any]]]:
    """Each mapping, with the keys under which it lies, once."""
    seen: set[int] = set()
    waiting: list[tuple[Place, object]] = [((), loaded)]
    while waiting:
        place, value = waiting.pop(0)
        items = value.items if isinstance(value, Unknown) else value
        if not isinstance(items, dict) or id(items) in seen:
            continue
        seen.add(id(items))
        yield place, items
        if len(place) < DEEPEST:
            waiting += [((*place, str(key)[:80]), inner) for key, inner in items.items()]


def _check_deepspeed(path: Path, loaded: object) -> None:
    """Refuse one part of what DeepSpeed's ZeRO has divided.

    Raises:
        CorruptFileError: it is one.
    """
    items = loaded if isinstance(loaded, dict) else {}
    module, optimizer = items.get("module"), items.get("optimizer_state_dict")
    empty = isinstance(module, dict) and any(isinstance(t, _Stored) and 0 in t.shape for t in module.values())
    divided = isinstance(optimizer, dict) and "zero_stage" in optimizer
    if divided or (empty and "param_shapes" in items) or (ZERO_PART.match(path.name) and not isinstance(module, dict)):
        raise other(path, "holds one part of a network that DeepSpeed's ZeRO has divided", ZERO_FIX)


def _described(value: object) -> str:
    return f"it holds {value.name[:80]!r}" if isinstance(value, Unknown | Name) else f"it holds a {_type(value)}"


def _type(value: object) -> str:
    return "Tensor" if isinstance(value, _Stored) else type(value).__name__


def _nothing(path: Path, loaded: object) -> CorruptFileError:
    """The error for a file without tensors by name."""
    if not isinstance(loaded, dict | Unknown):
        return other(path, f"holds no weights by name: {_described(loaded)}", SAVE_TENSORS)
    items = loaded.items if isinstance(loaded, Unknown) else loaded
    for key, value in items.items():
        if isinstance(value, _Stored):
            return other(path, f"holds tensors, but not by name: its first key is {key!r:.80}", SAVE_TENSORS)
        what = "made by " + repr(value.name[:80]) if isinstance(value, Unknown) else f"a {_type(value)}"
        text = f"holds no weights: its entry {str(key)[:80]!r} is {what}, not a tensor, and nothing of it was loaded"
        return other(path, text, SAVE_TENSORS)
    return other(path, "holds no weights", "give a file with a network's state dict")
