"""Statements of preprocessing: TOML, timm's and Hugging Face's JSON, and the metadata of weight files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.calib.statement import ASSUMED, NetworkInput, Statement, agreed, of_preset, resolve
from squeezeedge.calib.statement_files import beside, in_metadata
from tests.fuzz import Files, Format
from tests.fuzz.recipe_files import to_toml
from tests.fuzz.values import change_bytes, change_json, dump_json

__all__ = ["PREPROCESSING"]

WEIGHTS, METADATA = "net.onnx", "metadata.json"
TOML, TIMM, HUGGING_FACE = "net.preprocessing.toml", "config.json", "preprocessor_config.json"
CAFFE = {"mean": [104, 117, 123], "std": 1, "scale": "1", "channel_order": "bgr", "crop": 224, "resize": 256}
PROCESSOR = {
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "crop_size": {"height": 224, "width": 224},
    "size": {"shortest_edge": 256},
    "resample": 2,
}
CONFIGURATION = {
    "architecture": "net",
    "pretrained_cfg": {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bilinear",
    },
}
STANDARD = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}


def _seeds() -> list[Files]:
    tables: list[dict[str, object]] = [
        {"preprocessing": json.dumps(DIGITS.to_json())},
        {"mean": "0.5,0.5,0.5", "std": "0.5", "channel_order": "rgb"},
        dict(STANDARD),
    ]
    return [
        {TOML: to_toml(CAFFE).encode()},
        {TIMM: json.dumps(CONFIGURATION).encode()},
        {HUGGING_FACE: json.dumps(PROCESSOR).encode()},
        {TIMM: json.dumps(CONFIGURATION).encode(), HUGGING_FACE: json.dumps(PROCESSOR).encode()},
        *({METADATA: json.dumps(table).encode()} for table in tables),
    ]


def _mutate(random: Random, files: Files) -> Files:
    name = random.choice(sorted(files))
    data = files[name]
    if random.random() < 0.25:
        return {**files, name: change_bytes(random, data)} if name != METADATA else files
    if name == TOML:
        return {**files, name: to_toml(change_json(random, tomllib.loads(data.decode()))).encode(errors="replace")}
    return {**files, name: dump_json(change_json(random, json.loads(data)))}


def _read(folder: Path) -> object:
    path, metadata = folder / WEIGHTS, dict[str, str]()
    if (folder / METADATA).is_file():
        try:
            table: Any = json.loads((folder / METADATA).read_bytes())
        except (ValueError, RecursionError):
            table = {}
        metadata = {str(key): str(value) for key, value in table.items()} if isinstance(table, dict) else {}
    stated = agreed([*in_metadata(metadata, path, "metadata_props"), *beside(path)], Statement(), str(path))
    base = of_preset(IMAGENET, ASSUMED)
    return [
        resolve(stated, base, network, name=str(path)).to_json()
        for network in (NetworkInput(), NetworkInput(pixels=True))
    ]


PREPROCESSING = Format(name="preprocessing", share=6, seeds=_seeds, mutate=_mutate, readers=(_read,))
