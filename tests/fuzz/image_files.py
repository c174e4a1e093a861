"""Image files: PNG chunks with their checksums, JPEG segments, headers of the others."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.decode import EncodedImage, decode
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.targets.device.run import read_images
from tests.fuzz import Files, Format
from tests.fuzz.devices import of_device
from tests.fuzz.values import NUMBERS, change_bytes, change_number, some

__all__ = ["IMAGE", "change_image", "image_bytes"]

PREPROCESSING = Preprocessing(size=(6, 5), resize=8)
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"gAMA",
    b"iCCP",
    b"zTXt",
    b"tEXt",
    b"iTXt",
    b"eXIf",
    b"acTL",
)


def image_bytes(format: str, mode: str = "RGB", size: tuple[int, int] = (9, 8)) -> bytes:
    """A sound image file."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def change_image(random: Random, data: bytes) -> bytes:
    """Another image file of the same format, more or less."""
    if random.random() < 0.25:
        return change_bytes(random, data)
    if data.startswith(SIGNATURE):
        return _change_png(random, data)
    if data.startswith(b"\xff\xd8"):
        return _change_jpeg(random, data)
    head = min(len(data), 128)
    changed = bytearray(data)
    for _ in range(some(random, 4)):
        place, width = random.randrange(head), random.choice((1, 2, 4))
        number = random.choice(NUMBERS) % (1 << 8 * width)
        changed[place : place + width] = number.to_bytes(width, random.choice(("little", "big")))
    return bytes(changed)


def _change_png(random: Random, data: bytes) -> bytes:
    chunks, place = [], len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunks.append((kind, data[place + 8 : place + 8 + length]))
        place += 12 + length
    for _ in range(some(random, 3)):
        if not chunks:
            break
        at = random.randrange(len(chunks))
        kind, content = chunks[at]
        match random.randrange(6):
            case 0:
                del chunks[at]
            case 1:
                chunks.insert(at, random.choice(chunks))
            case 2:
                chunks[at] = (random.choice(PNG_CHUNKS), content)
            case 3:
                text = random.choice((b"x\0\0" + zlib.compress(bytes(10_000)), random.randbytes(20), bytes(4)))
                chunks.insert(at, (random.choice(PNG_CHUNKS), text))
            case 4 if kind == b"IHDR":
                fields = list(struct.unpack(">IIBBBBB", content.ljust(13, b"\0")[:13]))
                which = random.randrange(7)
                fields[which] = change_number(random, fields[which]) % (1 << 32 if which < 2 else 256)
                chunks[at] = (kind, struct.pack(">IIBBBBB", *fields))
            case _:
                chunks[at] = (kind, change_bytes(random, content))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _change_jpeg(random: Random, data: bytes) -> bytes:
    """Segments up to the scan, their lengths right; what follows is left as it is."""
    segments, place = [], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        segments.append((data[place + 1], data[place + 4 : place + 2 + length]))
        place += 2 + length
    rest = data[place:]
    for _ in range(some(random, 3)):
        if not segments:
            break
        at = random.randrange(len(segments))
        kind, content = segments[at]
        match random.randrange(5):
            case 0:
                del segments[at]
            case 1:
                segments.insert(at, random.choice(segments))
            case 2:
                segments[at] = (random.choice((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE)), content)
            case _:
                segments[at] = (kind, change_bytes(random, content)[:60_000])
    body = b"".join(bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content for kind, content in segments)
    return data[:2] + body + rest


def _seeds() -> list[Files]:
    kinds = [(name, "RGB") for name in FORMATS]
    kinds += [("PNG", "P"), ("PNG", "RGBA"), ("PNG", "L"), ("GIF", "L"), ("JPEG", "CMYK"), ("TIFF", "L"), ("PNG", "1")]
    return [{f"image.{name.lower()}": image_bytes(name, mode)} for name, mode in kinds]


def _mutate(random: Random, files: Files) -> Files:
    ((name, data),) = files.items()
    return {name: change_image(random, data)}


def _only(folder: Path) -> Path:
    return next(folder.iterdir())


def _decoded(folder: Path) -> object:
    return decode(EncodedImage(str(_only(folder))), PREPROCESSING)


def _from_folder(folder: Path) -> object:
    dataset = open_dataset(str(folder))
    return dataset.load(PREPROCESSING, np.arange(len(dataset)))


def _on_device(folder: Path) -> object:
    with of_device(folder):
        return read_images(_only(folder), PREPROCESSING.to_json())


IMAGE = Format(
    name="image",
    share=16,
    seeds=_seeds,
    mutate=_mutate,
    readers=(_decoded, _on_device),
    rare=(_from_folder,),
)
