"""The .sqe file: header and arrays changed, lengths and checksum right again."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from pathlib import Path
from random import Random

import numpy as np

from squeezeedge.graph.sqe import Record, dictionary, read_sqe, write_sqe
from squeezeedge.loading import load
from tests.fuzz import Files, Format
from tests.fuzz.values import change_bytes, change_json, change_number, dump_json
from tests.graph.old_sqe import write_old
from tests.graphs import GraphBuilder, random_graph

__all__ = ["SQE", "change_sqe", "sqe_bytes"]

NAME = "model.sqe"
PACKED_VERSION = 5
PREFIX, CHECKSUM, ALIGNMENT = 16, 32, 64
DEVICES = ("cpu", "ascend", "vta")


def sqe_bytes(
    seed: int, size: tuple[int, int] = (6, 5), classes: int = 4, recorded: bool = False, old: bool = False
) -> bytes:
    """A small graph's file: a fire module, or a random one for seeds above 0; with a record beside the graph or not.

    It is of version 5, or ``old``: of the oldest version that can hold it.
    """
    if seed:
        graph = random_graph(seed, blocks=2, max_channels=4, max_size=6)
    else:
        builder = GraphBuilder(np.random.default_rng(0), size)
        graph = builder.finish(builder.fire(builder.conv("image", 4, (3, 3), (2, 2)), 3, (2, 3)), classes)
    record = None
    if recorded:
        golden = np.random.default_rng(0).integers(0, 256, (2, *graph.input_shape)).astype(np.uint8)
        origin = {"network": "small", "weights": "a.pth", "sha256": "0" * 64}
        record = Record(origin, frozenset({"1" * 64, "2" * 64}), golden)
    with tempfile.TemporaryDirectory() as folder:
        (write_old if old else write_sqe)(graph, Path(folder, NAME), record)
        return Path(folder, NAME).read_bytes()


def change_sqe(random: Random, data: bytes) -> bytes:
    """Another file: of another header, of other arrays, or damaged without any care."""
    kind = random.randrange(10)
    if kind == 0:
        return change_bytes(random, data)
    length, version = int.from_bytes(data[12:16], "little"), data[8]
    prefix, text, arrays = data[:12], data[PREFIX : PREFIX + length], data[PREFIX + length : -CHECKSUM]
    if version == PACKED_VERSION:
        text = zlib.decompressobj(zdict=dictionary()).decompress(text)
    if kind == 1:
        prefix = change_bytes(random, prefix, 1)[:12].ljust(12, b"\0")
    if kind <= 3:
        arrays = change_bytes(random, arrays)
    if kind >= 3:
        header = change_json(random, json.loads(text))
        text = dump_json(header)
    if version == PACKED_VERSION:
        packer = zlib.compressobj(zdict=dictionary())
        text = packer.compress(text) + packer.flush()
    elif random.random() < 0.95:
        text = text.ljust(-(-(PREFIX + len(text)) // ALIGNMENT) * ALIGNMENT - PREFIX)
    if random.random() < 0.05:
        text = change_bytes(random, text)
    length = len(text) if random.random() < 0.97 else change_number(random, len(text)) % (1 << 32)
    content = prefix + length.to_bytes(4, "little") + text + arrays
    return content + hashlib.sha256(content).digest()


def _mutate(random: Random, files: Files) -> Files:
    return {NAME: change_sqe(random, files[NAME])}


SQE = Format(
    name="sqe",
    share=12,
    seeds=lambda: [
        {NAME: sqe_bytes(seed, recorded=recorded, old=old)}
        for old, seeds in ((False, 4), (True, 2))
        for seed in range(seeds)
        for recorded in (False, True)
    ],
    mutate=_mutate,
    readers=(lambda folder: read_sqe(folder / NAME).digest(), lambda folder: load(folder / NAME)),
    command=lambda folder: ["profile", str(folder / NAME)],
)
