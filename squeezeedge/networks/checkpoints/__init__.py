"""Trained checkpoints -> state dicts under torchvision's names. One module a format; none executes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.networks.checkpoints import deep_compression, mindspore, onnx, pytorch, safetensors
from squeezeedge.networks.checkpoints.contents import choose
from squeezeedge.networks.checkpoints.kinds import describe_folder, kind_of
from squeezeedge.networks.checkpoints.record import MAX_BYTES, Checkpoint, Contents, other
from squeezeedge.networks.endings import FORMATS, ending_of

__all__ = ["Checkpoint", "read_checkpoint", "refuse_ending"]

_READERS: Mapping[str, tuple[str, Callable[[Path, bytes], Contents]]] = {
    "PyTorch": (pytorch.KIND, pytorch.read),
    "safetensors": (safetensors.KIND, safetensors.read),
    "MindSpore": (mindspore.KIND, mindspore.read),
    "ONNX": (onnx.KIND, onnx.read),
    "Deep Compression": (deep_compression.KIND, deep_compression.read),
}


def read_checkpoint(path: Path, *, ema: bool = False) -> Checkpoint:
    """Read a checkpoint; its ending tells the format, and its content where an ending is shared.

    Args:
        path: the file.
        ema: the moving average of the weights, where the file holds it beside them.

    Returns:
        Finite tensors by name, floating-point ones as float32, and what the file says about itself.

    Raises:
        UsageError: no such file, an unknown ending, or there is no moving average.
        CorruptFileError: the file is empty, truncated, damaged, not of its ending's format, too large, or holds
            values that are not finite.
    """
    expected = FORMATS.get(ending_of(path))
    if expected is None:
        raise refuse_ending(path, f"the ending of a checkpoint must be one of {' '.join(FORMATS)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise CorruptFileError(f"{path}: is empty; get the file again")
    if size > MAX_BYTES:
        raise CorruptFileError(f"{path}: {size} bytes is more than any checkpoint here has (at most {MAX_BYTES})")
    data = path.read_bytes()
    kind, contents = _read(path, data, expected)
    choice = choose(path, kind, contents, ema)
    state = {name: _plain(path, name, tensor) for name, tensor in choice.state.items()}
    likely = mindspore.likely(state) if contents.mindspore else ""
    return Checkpoint(state, contents.metadata, likely, choice.notes, choice.averaged)


def _read(path: Path, data: bytes, expected: str) -> tuple[str, Contents]:
    """The kind of the file, with an article, and what lies in it."""
    formats = expected.split(" or ")
    found = kind_of(data)
    if found is not None and found.format not in formats:
        raise other(path, f"is {found.name}, not one of {expected} as its ending says", found.fix)
    kind, read = _READERS[found.format if found is not None else formats[-1]]
    return kind, read(path, data)


def refuse_ending(path: Path, endings: str) -> UsageError:
    """The error for a file whose ending is not known: it says what the file is, and which endings there are."""
    if path.is_dir():
        found, fix = describe_folder(path)
        return UsageError(f"{path}: is {found}; {fix}")
    if not path.is_file():
        return UsageError(f"{path}: {endings}")
    size = path.stat().st_size
    kind = kind_of(path.read_bytes()) if size <= MAX_BYTES else None
    return UsageError(f"{path}: {endings}" if kind is None else f"{path}: is {kind.name}; {kind.fix} ({endings})")


def _plain(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    plain = tensor.detach().float().contiguous()
    if not np.isfinite(plain.numpy()).all():
        raise CorruptFileError(f"{path}: {name[:80]} has values that are not finite; train or convert it again")
    return plain
