"""Checkpoints: PyTorch, safetensors, MindSpore, Deep Compression."""

from __future__ import annotations

import argparse
import binascii
import io
import json
import pickle
from collections import defaultdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from squeezeedge.loading import load
from squeezeedge.networks.checkpoints import read_checkpoint
from squeezeedge.networks.registry import DEFAULT, build, default_weights
from tests.fuzz import Files, Format
from tests.fuzz.containers import change_pickle, change_zip
from tests.fuzz.protobuf import change_protobuf
from tests.fuzz.values import change_bytes, change_json, change_number, dump_json
from tests.networks.checkpoints.deep_compression_file import encode, sparse_network
from tests.networks.checkpoints.mindspore_fixture import FLOAT16, FLOAT32

__all__ = ["DEEP_COMPRESSION", "MINDSPORE", "PYTORCH", "SAFETENSORS"]

LEGACY_PICKLES = 5
_STARTS = (b"\x89HDF\r\n\x1a\n", b"\x1c\0\0\0TFL3", b'{"weight_map":', b"<!doctype html>", b"\x80\x04", b"PK\x03\x04")
"""Beginnings of files of other kinds."""


def _read(name: str, folder: Path) -> object:
    return read_checkpoint(folder / name)


def _read_average(name: str, folder: Path) -> object:
    return read_checkpoint(folder / name, ema=True)


def _load(name: str, folder: Path) -> object:
    return load(folder / name)


def _quantize(name: str, folder: Path) -> list[str]:
    return ["quantize", str(folder / name), "--data", str(folder), "-o", str(folder / "quantized.sqe")]


def _state() -> dict[str, Tensor]:
    """Of a small network, so that what is right in its names and shapes gets far."""
    torch.manual_seed(0)
    return dict(build(DEFAULT, 10).state_dict())


def _small() -> dict[str, Tensor]:
    return {"a.weight": torch.ones(2, 3, 1, 1), "a.bias": torch.zeros(2), "steps": torch.tensor(3)}


def _training() -> dict[str, Any]:
    """What a training script saves: weights and their average under prefixes, and much else."""
    named = {f"module.{name}": value for name, value in _small().items()}
    return {
        "state_dict": named | {"module.features.0.weight": torch.ones(2, 3, 1, 1)},
        "state_dict_ema": {f"net.{name}": value for name, value in named.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": np.float64(0.1)}]},
        "arrays": {"a.weight": np.ones((2, 3), np.float32)},
        "args": argparse.Namespace(out=Path("run"), history=defaultdict(list)),
    }


def _pytorch_seeds() -> list[Files]:
    seeds: list[Files] = []
    parameters = {name: torch.nn.Parameter(value) for name, value in list(_small().items())[:2]}
    for saved, options in (
        (_small(), {}),
        ({"state_dict": _small(), "epoch": 3}, {}),
        (_training(), {}),
        (_training(), {"_use_new_zipfile_serialization": False, "pickle_protocol": 4}),
        (parameters, {"pickle_protocol": 3}),
        (_state(), {}),
        (_small(), {"_use_new_zipfile_serialization": False}),
    ):
        file = io.BytesIO()
        torch.save(saved, file, **options)
        seeds.append({"weights.pth": file.getvalue()})
    return seeds


def _change_pytorch(random: Random, files: Files) -> Files:
    data = files["weights.pth"]
    if random.random() < 0.02:
        return {"weights.pth": random.choice(_STARTS) + change_bytes(random, data)}
    if data[:2] == b"PK":
        return {"weights.pth": change_zip(random, data, _change_record)}
    if random.random() < 0.2:
        return {"weights.pth": change_bytes(random, data)}
    stream, pickles = io.BytesIO(data), []
    for _ in range(LEGACY_PICKLES):
        start = stream.tell()
        _Skipping(stream).load()
        pickles.append(data[start : stream.tell()])
    rest = data[stream.tell() :]
    place = random.choice((0, 1, 2, 3, 3, 3, 4))
    pickles[place] = change_pickle(random, pickles[place])
    return {"weights.pth": b"".join(pickles) + (change_bytes(random, rest) if random.random() < 0.2 else rest)}


class _Anything(dict[Any, Any]):
    """Made of any arguments, and told anything."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, _: object) -> None:
        pass


class _Skipping(pickle.Unpickler):
    """Finds where the pickles of our own seeds end."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        return _Anything

    def persistent_load(self, _: object) -> object:
        return None


def _change_record(random: Random, name: str, content: bytes) -> bytes:
    if name.endswith(".pkl"):
        return change_pickle(random, content)
    if name.endswith("byteorder"):
        return random.choice((b"big", b"little", b"", b"middle"))
    return change_bytes(random, content)


def _change_safetensors(random: Random, files: Files) -> Files:
    data = files["weights.safetensors"]
    if random.random() < 0.1:
        return {"weights.safetensors": change_bytes(random, data)}
    length = int.from_bytes(data[:8], "little")
    header, content = json.loads(data[8 : 8 + length]), data[8 + length :]
    if random.random() < 0.25 and "__metadata__" in header:
        metadata = header["__metadata__"]
        key = random.choice(list(metadata))
        try:
            metadata[key] = dump_json(change_json(random, json.loads(metadata[key]))).decode()
        except ValueError:
            metadata[key] = random.choice(("", "[", "squeezenet1_0", "ms", "pt"))
    else:
        header = change_json(random, header)
    text = dump_json(header)
    text = change_bytes(random, text) if random.random() < 0.1 else text.ljust(-(-len(text) // 8) * 8)
    if random.random() < 0.2:
        content = change_bytes(random, content)
    length = len(text) if random.random() < 0.95 else change_number(random, len(text)) % (1 << 64)
    return {"weights.safetensors": length.to_bytes(8, "little") + text + content}


def _safetensors_seeds() -> list[Files]:
    metadata = {
        "network": DEFAULT,
        "format": "pt",
        "labels": json.dumps(list("0123456789")),
        "preprocessing": json.dumps({"size": [8, 8]}),
    }
    types = {str(dtype): torch.zeros(2, 2, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.int64)}
    return [
        {"weights.safetensors": data}
        for data in (
            safetensors.torch.save(_small(), {"format": "ms"}),
            safetensors.torch.save(types),
            safetensors.torch.save(_small(), metadata),
            default_weights().read_bytes(),
        )
    ]


def _change_mindspore(random: Random, files: Files) -> Files:
    data = files["weights.ckpt"]
    checked = data[-17:-10] == b"crc_num"
    changed = change_protobuf(random, data[:-17] if checked else data)
    if checked and random.random() < 0.95:
        changed += b"crc_num" + binascii.crc32(changed).to_bytes(10, "big")
    return {"weights.ckpt": changed}


def _change_deep_compression(random: Random, files: Files) -> Files:
    data = bytearray(files["weights.net"])
    if random.random() < 0.3:
        return {"weights.net": change_bytes(random, bytes(data))}
    counts = np.frombuffer(bytes(data[: 26 * 4]), "<u4").copy()
    place = random.randrange(26)
    match random.randrange(4):
        case 0:
            counts[place] = change_number(random, int(counts[place])) % (1 << 32)
        case 1:
            other = random.randrange(26)
            counts[[place, other]] = counts[[other, place]]
        case 2:
            start = 26 * 4 + random.randrange(1024)
            data[start : start + 4] = np.float32(random.choice((0, 1, np.nan, np.inf, 1e38))).tobytes()
        case 3:
            start = random.randrange(26 * 4, len(data))
            data[start : start + 64] = bytes([random.choice((0, 15, 255))]) * len(data[start : start + 64])
    data[: 26 * 4] = counts.tobytes()
    return {"weights.net": bytes(data)}


PYTORCH = Format(
    name="pth",
    share=12,
    seeds=_pytorch_seeds,
    mutate=_change_pytorch,
    readers=(partial(_read, "weights.pth"), partial(_read_average, "weights.pth")),
    rare=(partial(_load, "weights.pth"),),
    command=partial(_quantize, "weights.pth"),
)
SAFETENSORS = Format(
    name="safetensors",
    share=8,
    seeds=_safetensors_seeds,
    mutate=_change_safetensors,
    readers=(partial(_read, "weights.safetensors"),),
    rare=(partial(_load, "weights.safetensors"),),
    command=partial(_quantize, "weights.safetensors"),
)
MINDSPORE = Format(
    name="mindspore",
    share=8,
    seeds=lambda: [{"weights.ckpt": path.read_bytes()} for path in (FLOAT16, FLOAT32)],
    mutate=_change_mindspore,
    readers=(partial(_read, "weights.ckpt"),),
    rare=(partial(_load, "weights.ckpt"),),
    command=partial(_quantize, "weights.ckpt"),
)
DEEP_COMPRESSION = Format(
    name="deep-compression",
    share=2,
    seeds=lambda: [{"weights.net": encode(sparse_network(seed, 0.003))} for seed in (0, 1)],
    mutate=_change_deep_compression,
    readers=(partial(_read, "weights.net"),),
)
