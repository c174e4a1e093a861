"""Data sets: .npz, .tar, CIFAR-10's batches, class lists."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from random import Random

import numpy as np

from squeezeedge.calib.datasets import Dataset, open_dataset
from squeezeedge.calib.labels import read_class_list
from squeezeedge.calib.preprocess import Preprocessing
from tests.fuzz import BAIT, Files, Format
from tests.fuzz.containers import change_npy, change_pickle, change_zip
from tests.fuzz.image_files import change_image, image_bytes
from tests.fuzz.values import NUMBERS, TEXTS, change_bytes, change_json, change_text, dump_json, some

__all__ = ["CIFAR", "CLASSES", "NPZ", "TAR"]

PREPROCESSING = Preprocessing(size=(4, 4), resize=None)
DECODED = 4
BLOCK = 512


def _first(dataset: Dataset) -> object:
    """Labels, classes and the first images."""
    return dataset.load(PREPROCESSING, np.arange(min(len(dataset), DECODED))), dataset.labels, dataset.classes


def _eval(data: str) -> list[str]:
    return ["eval", "squeezenet-digits", "--data", data, "--device", "oracle"]


def _npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _npz_seeds() -> list[Files]:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    plain = io.BytesIO()
    np.savez(plain, images=images, labels=np.arange(5))
    return [
        {"data.npz": data} for data in (_npz(images=images), _npz(images=images, labels=np.arange(5)), plain.getvalue())
    ]


def _change_npz(random: Random, files: Files) -> Files:
    return {"data.npz": change_zip(random, files["data.npz"], lambda random, _, data: change_npy(random, data))}


def _tar(names: list[str], kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name in names:
            data = image_bytes("PNG" if name.endswith("png") else "JPEG")
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _tar_seeds() -> list[Files]:
    names = ["data/test/a/1.png", "data/test/b/2.jpg", "data/train/a/3.png", "data/train/b/4.png"]
    long = f"{'folder' * 30}/é.png"
    return [
        {"data.tar": _tar(names, tarfile.USTAR_FORMAT)},
        {"data.tar": _tar([*names[:2], f"data/test/a/{long}"], tarfile.PAX_FORMAT)},
        {"data.tar": _tar([long, "b/1.png"], tarfile.GNU_FORMAT)},
        {"data.tar": _tar(["1.png", "2.png"], tarfile.USTAR_FORMAT), "val.txt": b"1.png 0\n2.png 1\n"},
    ]


TAR_FIELDS = ((0, 100), (100, 8), (108, 8), (124, 12), (124, 12), (136, 12), (156, 1), (156, 1), (157, 100), (257, 8))
"""Offset and width of name, mode, owner, size, time, type, link, magic; those that matter more twice."""


def _change_tar(random: Random, files: Files) -> Files:
    data = bytearray(files["data.tar"])
    starts = [place for place in range(0, len(data), BLOCK) if data[place + 257 : place + 262] == b"ustar"]
    if random.random() < 0.1:
        data = bytearray(change_bytes(random, bytes(data)))
        starts = []
    for _ in range(some(random, 3)):
        if not starts:
            break
        start = random.choice(starts)
        match random.randrange(8):
            case 0:
                other = random.choice(starts)
                data[start : start + BLOCK] = data[other : other + BLOCK]
            case 1:
                extended = _extended(random)
                data[start:start] = extended
                starts = [place + len(extended) if place >= start else place for place in starts]
                continue
            case 2:
                del data[random.randrange(len(data)) :]
                break
            case _:
                offset, width = random.choice(TAR_FIELDS)
                data[start + offset : start + offset + width] = _field(random, width)
        if len(data) >= start + BLOCK:
            _seal(data, start)
    return {**files, "data.tar": bytes(data)}


def _field(random: Random, width: int) -> bytes:
    """A field of a header: a number in octal or base 256, or a text."""
    if width == 1:
        return random.choice((b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"g", b"x", b"L", b"K", b"S", b"\0", b"\xff"))
    number = random.choice(NUMBERS)
    match random.randrange(3):
        case 0:
            return (b"%o" % (abs(number) % 8 ** (width - 1))).rjust(width - 1, b"0") + b"\0"
        case 1:
            return random.choice((b"\x80", b"\xff")) + (number % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")
    return random.choice(TEXTS).encode("utf-8", "surrogatepass")[:width].ljust(width, b"\0")


def _seal(data: bytearray, start: int) -> None:
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + BLOCK])


def _extended(random: Random) -> bytes:
    """A pax or GNU header that changes the next member."""
    kind = random.choice((b"x", b"g", b"L", b"K"))
    key = random.choice(("path", "size", "linkpath", "mtime", "GNU.sparse.map", "GNU.sparse.size", "hdrcharset"))
    value = random.choice((f"../{BAIT}", "0,1,2,3", "-1", str(random.choice(NUMBERS)), "x.png", *TEXTS[:12]))
    text = f" {key}={value}\n".encode("utf-8", "surrogatepass")
    content = str(len(text) + 2).encode() + text if random.random() < 0.9 else change_bytes(random, text)
    header = bytearray(BLOCK)
    header[:4], header[124:136], header[156:157], header[257:265] = (
        b"head",
        b"%011o\0" % len(content),
        kind,
        b"ustar\x0000",
    )
    _seal(header, 0)
    return bytes(header) + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


def _cifar_seeds() -> list[Files]:
    seeds: list[Files] = []
    for protocol in (3, 4):
        files = {"batches.meta": pickle.dumps({b"label_names": [b"c%d" % n for n in range(10)]}, protocol)}
        for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
            batch = {b"labels": [1, 2], b"data": np.zeros((2, 3072), np.uint8), b"filenames": [b"a.png", b"b.png"]}
            files[name] = pickle.dumps(batch, protocol)
        seeds.append(files)
    return seeds


def _change_cifar(random: Random, files: Files) -> Files:
    name = random.choice(("test_batch", "test_batch", "batches.meta"))
    return {**files, name: change_pickle(random, files[name])}


LISTS = ("classes.json", "classes.txt", "val.txt", "synset_classes.txt")


def _class_seeds() -> list[Files]:
    images = {f"{folder}/1.png": image_bytes("PNG") for folder in ("cat", "dog")}
    wordnet = {f"n0000000{n}/1.png": image_bytes("PNG") for n in (1, 2)}
    flat = {f"x_n0000000{n}.png": image_bytes("PNG") for n in (1, 2)}
    pairs = [["n00000001", "tench"], ["n00000002", "trout, river"]]
    return [
        {**images, "classes.json": json.dumps(["dog", "cat"]).encode()},
        {**images, "classes.txt": b"dog\ncat\n"},
        {**wordnet, "classes.json": json.dumps(pairs).encode()},
        {**wordnet, "classes.json": json.dumps({str(n): pair for n, pair in enumerate(pairs)}).encode()},
        {**flat, "synset_classes.txt": b"n00000001 tench\nn00000002 trout, river\n"},
        {**flat, "val.txt": b"x_n00000001.png 0\nx_n00000002.png 1\n"},
        {**flat, "val.txt": b"x_n00000001.png cat\nx_n00000002.png dog\n", "classes.txt": b"dog\ncat\n"},
    ]


def _change_classes(random: Random, files: Files) -> Files:
    name = random.choice([name for name in files if name in LISTS])
    data = files[name]
    if name.endswith(".json") and random.random() < 0.8:
        data = dump_json(change_json(random, json.loads(data)))
    elif random.random() < 0.5:
        lines = data.decode().splitlines()
        lines[random.randrange(len(lines))] = change_text(random, random.choice(lines))
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        data = change_bytes(random, data)
    changed = {**files, name: data}
    if random.random() < 0.1:
        image = random.choice([name for name in files if name.endswith(".png")])
        changed[image] = change_image(random, files[image])
    return changed


def _read_list(folder: Path) -> object:
    return [read_class_list(path) for path in sorted(folder.iterdir()) if path.name in LISTS and path.name != "val.txt"]


NPZ = Format(
    name="npz",
    share=10,
    seeds=_npz_seeds,
    mutate=_change_npz,
    readers=(lambda folder: _first(open_dataset(str(folder / "data.npz"))),),
    command=lambda folder: _eval(str(folder / "data.npz")),
)
TAR = Format(
    name="tar",
    share=10,
    seeds=_tar_seeds,
    mutate=_change_tar,
    readers=(lambda folder: _first(open_dataset(str(folder / "data.tar"))),),
    command=lambda folder: _eval(str(folder / "data.tar")),
)
CIFAR = Format(
    name="cifar",
    share=6,
    seeds=_cifar_seeds,
    mutate=_change_cifar,
    readers=(lambda folder: _first(open_dataset(str(folder))),),
    rare=(lambda folder: _first(open_dataset(str(folder), "train")),),
    command=lambda folder: _eval(str(folder)),
)
CLASSES = Format(
    name="classes",
    share=8,
    seeds=_class_seeds,
    mutate=_change_classes,
    readers=(lambda folder: _first(open_dataset(str(folder))), _read_list),
    command=lambda folder: _eval(str(folder)),
)
