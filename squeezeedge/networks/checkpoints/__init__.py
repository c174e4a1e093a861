"""Trained checkpoints -> state dicts under torchvision's names. One module a format; none executes anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.networks.checkpoints import deep_compression, mindspore, onnx, pytorch, safetensors
from squeezeedge.networks.checkpoints.record import MAX_BYTES, Checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]

_READERS = {
    ".pth": pytorch.read,
    ".pt": pytorch.read,
    ".safetensors": safetensors.read,
    ".onnx": onnx.read,
    ".ckpt": mindspore.read,
    ".net": deep_compression.read,
}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; its ending tells the format.

    Returns:
        Finite tensors by name, floating-point ones as float32, and what the file says about itself.

    Raises:
        UsageError: no such file, or an unknown ending.
        CorruptFileError: the file is empty, truncated, damaged, not of its ending's format, too large, or holds
            values that are not finite.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: the ending of a checkpoint must be one of {' '.join(_READERS)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise CorruptFileError(f"{path}: is empty; get the file again")
    if size > MAX_BYTES:
        raise CorruptFileError(f"{path}: {size} bytes is more than any checkpoint here has (at most {MAX_BYTES})")
    checkpoint = reader(path, path.read_bytes())
    if not checkpoint.state:
        raise CorruptFileError(f"{path}: holds no weights; give a file with a network's state dict")
    state = {name: _plain(path, name, tensor) for name, tensor in checkpoint.state.items()}
    return replace(checkpoint, state=state)


def _plain(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    plain = tensor.detach().to(torch.float32).contiguous()
    if not np.isfinite(plain.numpy()).all():
        raise CorruptFileError(f"{path}: {name[:80]} has values that are not finite; train or convert it again")
    return plain
