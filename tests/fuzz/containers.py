"""Mutators of what other formats are made of: zip archives, .npy arrays, pickles."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random

from tests.fuzz.values import NUMBERS, TEXTS, change_bytes, change_number, change_text, some

__all__ = ["change_npy", "change_pickle", "change_zip"]

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
CENTRAL = b"PK\x01\x02"
CENTRAL_FIELDS = (
    (4, 2),
    (6, 2),
    (8, 2),
    (10, 2),
    (12, 4),
    (16, 4),
    (20, 4),
    (24, 4),
    (28, 2),
    (30, 2),
    (38, 4),
    (42, 4),
)
"""Offset and width of versions, flags, method, time, checksum, sizes, lengths, attributes, place of the member."""
DTYPES = (
    "|u1",
    "<i4",
    "<i8",
    "<f4",
    "|O",
    "|V3",
    "<U9",
    "|S0",
    "<M8[s]",
    "|b1",
    ">i4",
    "[('a', '<i4')]",
    "(3,)u1",
    "x",
)
OPCODES = (
    *(b"(", b"]", b"}", b")", b"N", b"0", b"2", b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"R", b"b", b"\x81"),
    *(b"\x94", b"\x8f", b"\x90", b"Q", b"\x92", b"o", b"l", b"d", b"1", b"\x93", b"\x97", b"\x98", b".", b"h\x00"),
    *(b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"\x82\x01", b"P1\n", b"r\xff\xff\xff\x7f", b"q\x07", b"K\x03"),
    *(b"\x8b\xff\xff\xff\x7f", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"L" + b"9" * 5000 + b"L\n", b"G" + bytes(8)),
)
DEEP = b"]" * 10_000 + b"a" * 9_999


def change_zip(random: Random, data: bytes, change_member: Callable[[Random, str, bytes], bytes]) -> bytes:
    """An archive whose members are changed by ``change_member`` (random, name, content), or which is odd itself."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    for _ in range(some(random, 3)):
        if not members:
            break
        place = random.randrange(len(members))
        name, content, method = members[place]
        match random.randrange(10):
            case 0:
                del members[place]
            case 1:
                members.append(random.choice(members))
            case 2:
                members[place] = (change_text(random, name), content, method)
            case 3:
                members[place] = (name, content, random.choice(METHODS))
            case 4:
                members[place] = (name, random.choice(members)[1], method)
            case _:
                members[place] = (name, change_member(random, name, content), method)
    copy = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(copy, "w") as archive:  # of names that repeat
        for name, content, method in members:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode()[:60_000] or "_")
            archive.writestr(info, content, method)
    written = bytearray(copy.getvalue())
    if random.random() < 0.4:
        _change_directory(random, written)
    return change_bytes(random, bytes(written)) if random.random() < 0.15 else bytes(written)


def _change_directory(random: Random, data: bytearray) -> None:
    """A few fields of the directory say something else."""
    starts = [match.start() for match in re.finditer(re.escape(CENTRAL), data)]
    for _ in range(some(random, 3)):
        if starts:
            offset, width = random.choice(CENTRAL_FIELDS)
            place = random.choice(starts) + offset
            old = int.from_bytes(data[place : place + width], "little")
            data[place : place + width] = (change_number(random, old) % (1 << 8 * width)).to_bytes(width, "little")


def change_npy(random: Random, data: bytes) -> bytes:
    """An array whose header, version or content is changed; the header's length is right more often than not."""
    if random.random() < 0.1 or data[:6] != b"\x93NUMPY" or len(data) < 10:
        return change_bytes(random, data)
    width = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    text, content = data[8 + width : 8 + width + length].decode("latin-1"), data[8 + width + length :]
    version = data[6:8]
    for _ in range(some(random, 3)):
        match random.randrange(7):
            case 0:
                text = _replaced(text, "'descr': ", ",", repr(random.choice(DTYPES)))
            case 1:
                text = _replaced(text, "'fortran_order': ", ",", random.choice(("True", "1", "None", "[]")))
            case 2 | 3:
                sides = ", ".join(str(random.choice((*NUMBERS, 3, 3, 8, 5))) for _ in range(random.randrange(6)))
                text = _replaced(text, "'shape': ", ")", f"({sides}," if sides else "(")
            case 4:
                text = change_text(random, text)
            case 5:
                version = bytes([random.choice((0, 1, 2, 3, 255)), random.choice((0, 0, 1))])
            case 6:
                content = change_bytes(random, content)
    header = text.encode("latin-1", "replace")[: 1 << 16]
    width = 2 if version[0] == 1 else 4
    length = len(header) if random.random() < 0.9 else change_number(random, len(header))
    return data[:6] + version + (length % (1 << 8 * width)).to_bytes(width, "little") + header + content


def _replaced(text: str, key: str, end: str, value: str) -> str:
    """The text with what stands between a key and the end of its value replaced."""
    start = text.find(key)
    stop = text.find(end, start + len(key))
    return text if start < 0 or stop < 0 else text[: start + len(key)] + value + text[stop:]


def change_pickle(random: Random, data: bytes) -> bytes:
    """A pickle with a few operations taken out, repeated, exchanged, added, or with other arguments."""
    if random.random() < 0.1:
        return change_bytes(random, data)
    try:
        starts = [place for _, _, place in pickletools.genops(data) if place is not None]
    except ValueError:
        return change_bytes(random, data)
    parts = [data[start:stop] for start, stop in zip(starts, [*starts[1:], starts[-1] + 1], strict=True)]
    rest = data[starts[-1] + 1 :]
    for _ in range(some(random, 4)):
        place = random.randrange(len(parts))
        match random.randrange(8):
            case 0 if len(parts) > 1:
                del parts[place]
            case 1:
                parts.insert(place, parts[random.randrange(len(parts))])
            case 2:
                other = random.randrange(len(parts))
                parts[place], parts[other] = parts[other], parts[place]
            case 3:
                parts.insert(place, random.choice(OPCODES))
            case 4 if random.random() < 0.2:
                parts.insert(place, DEEP)
            case _:
                parts[place] = _another_argument(random, parts[place])
    return b"".join(parts) + rest


def _another_argument(random: Random, part: bytes) -> bytes:
    """An operation with another argument of its type, or its bytes changed."""
    code = part[:1]
    if code in (b"K", b"M", b"J", b"\x8a") and random.random() < 0.8:
        number = change_number(random, pickle.decode_long(part[1:] + b"\0"))
        if -(2**31) <= number < 2**31:
            return b"J" + struct.pack("<i", number)
        long = pickle.encode_long(number)
        return b"\x8a" + bytes([len(long)]) + long
    if code in (b"X", b"\x8c") and random.random() < 0.8:
        old = part[2:] if code == b"\x8c" else part[5:]
        text = change_text(random, old.decode("utf-8", "replace")).encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if code == b"c" and random.random() < 0.8:
        module, name = (
            random.choice(("torch", "torch._utils", "collections", "builtins", "numpy")),
            random.choice(
                ("FloatStorage", "_rebuild_tensor_v2", "OrderedDict", "Size", "getattr", "ndarray", *TEXTS[:4])
            ),
        )
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
    return code + change_bytes(random, part[1:]) if len(part) > 1 else random.choice(OPCODES)
