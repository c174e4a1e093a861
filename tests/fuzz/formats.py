"""All formats by name; what one needs is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tests.fuzz import Format

__all__ = ["NAMES", "get_format"]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "sqe": "graph_files.SQE",
        "manifest": "artifact_files.MANIFEST",
        "golden": "artifact_files.GOLDEN",
        "plan": "artifact_files.PLAN",
        "program": "artifact_files.PROGRAM",
        "trace": "artifact_files.TRACE",
        "bitstream": "artifact_files.BITSTREAM",
        "deploy": "artifact_files.DEPLOY",
        "pth": "checkpoints.PYTORCH",
        "safetensors": "checkpoints.SAFETENSORS",
        "mindspore": "checkpoints.MINDSPORE",
        "deep-compression": "checkpoints.DEEP_COMPRESSION",
        "onnx": "onnx_files.ONNX",
        "npz": "data_files.NPZ",
        "tar": "data_files.TAR",
        "cifar": "data_files.CIFAR",
        "classes": "data_files.CLASSES",
        "image": "image_files.IMAGE",
        "recipe": "recipe_files.RECIPE",
        "preprocessing": "statement_files.PREPROCESSING",
        "arrays": "run_inputs.ARRAYS",
    }
)
"""Name -> where its :class:`Format` is."""


@cache
def get_format(name: str) -> Format:
    """The format of that name."""
    module, attribute = NAMES[name].split(".")
    format = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    assert isinstance(format, Format) and format.name == name, name
    return format
