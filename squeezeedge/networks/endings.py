"""Endings of the files that networks come in, each in one place and in any case. Importing this loads no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CHECKPOINTS", "FORMATS", "ending_of"]

FORMATS: Mapping[str, str] = {
    ".pth": "PyTorch",
    ".pt": "PyTorch",
    ".safetensors": "safetensors",
    ".ckpt": "PyTorch or MindSpore",
    ".net": "Deep Compression",
    ".bin": "PyTorch",
    ".tar": "PyTorch",
    ".onnx": "ONNX",
}
"""Ending, in lower case -> the format of a checkpoint with it; ``.pth.tar`` ends in ``.tar``."""

CHECKPOINTS = tuple(ending for ending in FORMATS if ending != ".onnx")
"""Endings of files that hold tensors only; an ONNX file says what is computed with them, too."""


def ending_of(path: str | os.PathLike[str]) -> str:
    """The last ending of a file's name, in lower case: ``.onnx`` of ``NET.ONNX``; empty if it has none."""
    return Path(path).suffix.lower()
