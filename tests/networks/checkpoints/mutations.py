"""Seeded changes of checkpoints that keep what surrounds them sound: archives and checksums are written anew.

``mutate(kind, content, rng)`` gives another file of the kind; the kinds are the keys of :data:`MUTATORS`.
"""

from __future__ import annotations

import binascii
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import onnx
from onnx import TensorProto

__all__ = ["MUTATORS", "flipped", "hostile_pickle", "mutate"]

NUMBERS = (-1, 0, 1, 2, 127, 128, 255, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)
NAMES = ("", "a", "..", "../x", "/etc/passwd", "a\0b", "x" * 5000, "data.pkl", "data/0", "\u00e9", "a/b/c")
OTHER: tuple[Any, ...] = (None, True, "", "x", 1.5, [], {}, [[]], "F16", "F64", "I8", "C64", "F8_E5M2", *NUMBERS)


def mutate(kind: str, content: bytes, rng: Random) -> bytes:
    """One to three changes of a sound file's content."""
    for _ in range(rng.randint(1, 3)):
        content = MUTATORS[kind](content, rng)
    return content


def flipped(content: bytes, rng: Random) -> bytes:
    """Bytes changed, cut off, doubled or moved."""
    data = bytearray(content)
    place, end = sorted(rng.randrange(len(data) + 1) for _ in range(2)) if data else (0, 0)
    match rng.randrange(5):
        case 0:
            del data[place:]
        case 1:
            data[place:end] = data[place:end] * 2
        case 2:
            data[place : place + 4] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        case _:
            for _ in range(rng.randint(1, 4)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def hostile_pickle(mark: Path, rng: Random) -> bytes:
    """A pickle that creates a file where it is executed, in one of the ways that pickle has for it."""
    call = f"open({str(mark)!r}, 'w').close()".encode()
    function, text = rng.choice([(b"builtins\nexec\n", call), (b"os\nsystem\n", f"touch {mark}".encode())])
    argument = b"X" + struct.pack("<I", len(text)) + text
    module, attribute = (part for part in function.split(b"\n") if part)
    named = b"".join(b"\x8c" + bytes([len(part)]) + part for part in (module, attribute)) + b"\x93"
    made = rng.choice(
        [
            b"c" + function + argument + b"\x85R",  # GLOBAL, REDUCE
            named + argument + b"\x85R",  # STACK_GLOBAL, REDUCE
            b"(" + argument + b"i" + function,  # INST
            b"(c" + function + argument + b"o",  # OBJ
            b"c" + function + argument + b"\x85\x81",  # NEWOBJ
            b"c" + function + argument + b"\x85}b",  # BUILD
        ]
    )
    return b"\x80\x04}X\x01\x00\x00\x00a" + made + b"s."


def _zip(content: bytes, rng: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        records = [(name, source.read(name)) for name in source.namelist()]
    place = rng.randrange(len(records))
    name, data = records[place]
    prefix = name.partition("/")[0]
    match rng.randrange(7):
        case 0:
            records[place] = rng.choice([f"{prefix}/{rng.choice(NAMES)}", rng.choice(NAMES) or "x"]), data
        case 1:
            del records[place]
        case 2:
            records.append((name, flipped(data, rng)))
        case 3:
            other = rng.randrange(len(records))
            records[place], records[other] = (name, records[other][1]), (records[other][0], data)
        case 4:
            records = [(n, _pickle(d, rng) if n.endswith("data.pkl") else d) for n, d in records]
        case _:
            records[place] = name, flipped(data, rng)
    target = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    names = set()
    with zipfile.ZipFile(target, "w", kind) as archive:
        for name, data in records:
            if name not in names or rng.random() < 0.1:
                names.add(name)
                _write(archive, name, data)
    return target.getvalue() if records else content


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    import warnings

    with warnings.catch_warnings(action="ignore"):  # of names that are there already
        archive.writestr(name, data)


def _pickle(data: bytes, rng: Random) -> bytes:
    """Numbers, types and functions in a pickle of tensors replaced."""
    changes = [
        (b"K" + bytes([rng.randrange(8)]), b"K" + bytes([rng.choice([0, 1, 200])])),
        (b"K" + bytes([rng.randrange(8)]), b"\x8a\x08" + struct.pack("<q", rng.choice(NUMBERS))),
        (
            b"FloatStorage",
            rng.choice([b"HalfStorage", b"LongStorage", b"ComplexFloatStorage", b"QInt8Storage", b"Stor"]),
        ),
        (b"_rebuild_tensor_v2", rng.choice([b"_rebuild_tensor", b"_rebuild_parameter", b"_rebuild_qtensor"])),
        (b"X\x03\x00\x00\x00cpu", rng.choice([b"X\x04\x00\x00\x00meta", b"X\x04\x00\x00\x00cuda", b"N"])),
        (b"collections\nOrderedDict", b"torch\nSize"),
        (b"\x85", b"\x86"),
        (b"\x89", rng.choice([b"\x88", b"N", b"]"])),
    ]
    before, after = rng.choice(changes)
    return data.replace(before, after, rng.choice([1, -1]))


def _safetensors(content: bytes, rng: Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    try:
        header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    except ValueError:
        return flipped(content, rng)
    if rng.random() < 0.2 or not isinstance(header, dict) or not header:
        return content[: 8 + size] + flipped(data, rng)
    name = rng.choice(list(header))
    entry = header[name]
    match rng.randrange(5):
        case 0:
            header[rng.choice(NAMES)] = header.pop(name)
        case 1:
            header[name] = rng.choice(OTHER)
        case 2 if isinstance(entry, dict) and isinstance(entry.get("data_offsets"), list):
            entry["data_offsets"] = [rng.choice([0, 4, 12, *NUMBERS]) for _ in range(2)]
        case _ if isinstance(entry, dict) and entry:
            entry[rng.choice(list(entry))] = rng.choice(OTHER)
        case _:
            header[name] = rng.choice(OTHER)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _mindspore(content: bytes, rng: Random) -> bytes:
    from squeezeedge.networks.checkpoints.mindspore import CRC_MARK, _message_class

    checked = content[-17:-10] == CRC_MARK
    message = _message_class()()
    message.ParseFromString(content[:-17] if checked else content)
    value = rng.choice(message.value) if message.value else message.value.add(tag="a")
    tensor = value.tensor
    match rng.randrange(7):
        case 0:
            value.tag = rng.choice([*NAMES, *(other.tag for other in message.value)])
        case 1:
            tensor.dims.append(rng.choice(NUMBERS))
        case 2 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        case 3:
            tensor.tensor_type = rng.choice(["Float16", "Float32", "Float64", "BFloat16", "Int8", "", "x"])
        case 4:
            message.value.append(value)
        case 5:
            tensor.dims[:] = list(tensor.dims)[::-1]
        case _:
            tensor.tensor_content = flipped(tensor.tensor_content, rng)
    data: bytes = message.SerializePartialToString()
    return data + CRC_MARK + binascii.crc32(data).to_bytes(10, "big") if checked else data


def _onnx(content: bytes, rng: Random) -> bytes:
    model = onnx.load_model_from_string(content)
    tensor = rng.choice(model.graph.initializer) if model.graph.initializer else model.graph.initializer.add()
    match rng.randrange(9):
        case 0:
            tensor.data_type = rng.choice([*range(25), 99])
        case 1:
            tensor.dims.append(rng.choice(NUMBERS))
        case 2 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        case 3:
            tensor.raw_data = flipped(tensor.raw_data, rng)
        case 4:
            tensor.float_data.extend([rng.random()] * rng.choice([1, 3, 12]))
        case 5:
            tensor.int32_data.extend([rng.choice([-1, 1, 70000])] * rng.choice([1, 3, 12]))
        case 6:
            tensor.data_location = TensorProto.EXTERNAL
            for key in rng.sample(["location", "location", "offset", "length", "checksum", "basepath"], 3):
                tensor.external_data.add(key=key, value=rng.choice([*NAMES, *map(str, NUMBERS), "48"]))
        case 7:
            tensor.name = rng.choice([*NAMES, *(other.name for other in model.graph.initializer)])
        case _:
            model.graph.initializer.append(tensor)
    data: bytes = model.SerializeToString()
    return data


def _deep_compression(content: bytes, rng: Random) -> bytes:
    data = bytearray(content)
    match rng.randrange(3):
        case 0:
            struct.pack_into("<I", data, 4 * rng.randrange(26), rng.choice(NUMBERS) & 0xFFFFFFFF)
        case 1:
            value = rng.choice([0.0, 1e38, float("nan"), float("inf")])
            struct.pack_into("<f", data, 104 + 4 * rng.randrange(256), value)
        case _:
            return flipped(content, rng)
    return bytes(data)


MUTATORS: dict[str, Callable[[bytes, Random], bytes]] = {
    "zip": _zip,
    "legacy": lambda content, rng: rng.choice([_pickle, flipped])(content, rng),
    "safetensors": _safetensors,
    "mindspore": _mindspore,
    "mindspore-crc": _mindspore,
    "onnx": _onnx,
    "deep-compression": _deep_compression,
}
"""Kinds of files, as in test_read_checkpoint, and what changes one."""
