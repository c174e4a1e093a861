"""What a run writes: the network for use, and the state to go on from. Both are .safetensors files; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import Module

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.files import write_file
from squeezeedge.training.recipe import Recipe

__all__ = ["State", "read_state", "write_checkpoint", "write_state"]

FORMAT = 1
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class State:
    """All that a run needs to go on.

    Attributes:
        tensors: weights, moments and averages by name.
        values: JSON values: the recipe, the position, the history.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def write_checkpoint(path: Path, module: Module, recipe: Recipe, labels: Sequence[str]) -> None:
    """Write weights (float16) and metadata: network, preprocessing, labels (class names) and recipe.

    The file appears whole or not at all; the same content gives the same bytes.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    tensors = {name: tensor.half().cpu().contiguous() for name, tensor in module.state_dict().items()}
    metadata = {
        "network": recipe.network,
        "preprocessing": json.dumps(recipe.input.preprocessing.to_json()),
        "labels": json.dumps(list(labels)),
        "recipe": json.dumps(recipe.to_json()),
    }
    write_file(path, _sorted_header(save(tensors, metadata)))


def write_state(path: Path, state: State) -> None:
    """Write a training state; the file appears whole or not at all, the same content gives the same bytes.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    values = json.dumps({"format": FORMAT, **state.values}, sort_keys=True)
    write_file(path, _sorted_header(save(tensors, {"state": values})))


def read_state(path: Path) -> State:
    """Read what :func:`write_state` wrote.

    Raises:
        UsageError: there is no such file.
        CorruptFileError: it is truncated, damaged or something else.
        SqueezeEdgeError: another version wrote it.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file, so there is no run to go on with; leave out --resume")
    fix = "it is truncated, damaged or no training state; begin again in another folder"
    if path.stat().st_size > MAX_BYTES:
        raise CorruptFileError(f"{path}: is larger than {MAX_BYTES} bytes; {fix}")
    data = path.read_bytes()
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        values = json.loads(header["__metadata__"]["state"])
        found = values.pop("format")
    except (safetensors.SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{path}: {fix} ({error})") from error
    if found != FORMAT:
        raise SqueezeEdgeError(f"{path}: is of format {found}, this version reads {FORMAT}; begin again")
    return State(tensors, values)


def _sorted_header(file: bytes) -> bytes:
    """A .safetensors file with its header's entries sorted, which the library writes in random order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + file[end:]
