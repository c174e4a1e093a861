"""The files of a run: the network for use, and the state to resume from. Both are .safetensors files; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.files import write_file
from squeezeedge.networks.checkpoints.safetensors import CHECKSUM, parts, sealed
from squeezeedge.training.recipe import Recipe

__all__ = ["State", "as_stored", "check_finite", "read_state", "write_checkpoint", "write_state"]

FORMAT = 2
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


def check_finite(weights: Tensor) -> None:
    """Refuse weights that no reader accepts.

    Raises:
        SqueezeEdgeError: a weight is not finite.
    """
    if not torch.isfinite(weights).all():
        raise SqueezeEdgeError(
            "training diverged: weights are no longer finite; lower optimizer.learning_rate or set clip_norm"
        )


def as_stored(weights: Tensor) -> Tensor:
    """Weights as :func:`write_checkpoint` writes them: float16, or float32 where one is outside of float16's range.

    Raises:
        SqueezeEdgeError: one is not finite.
    """
    check_finite(weights)
    half = weights.half()
    return half if torch.isfinite(half).all() else weights.float()


def write_checkpoint(path: Path, module: Module, recipe: Recipe, labels: Sequence[str]) -> None:
    """Write weights (:func:`as_stored`) and metadata: network, preprocessing, labels (class names) and recipe.

    The file appears whole or not at all; it has a checksum; the same content gives the same bytes.

    Raises:
        SqueezeEdgeError: it cannot be written, or weights are not finite.
    """
    tensors = {name: as_stored(tensor) for name, tensor in module.state_dict().items()}
    metadata = {
        "network": recipe.network,
        "preprocessing": json.dumps(recipe.input.preprocessing.to_json()),
        "labels": json.dumps(list(labels)),
        "recipe": json.dumps(recipe.to_json()),
    }
    write_file(path, sealed(tensors, metadata))


def write_state(path: Path, state: State) -> None:
    """Write a training state.

    The file appears whole or not at all; it has a checksum; the same content gives the same bytes.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    values = json.dumps({"format": FORMAT, **state.values}, sort_keys=True)
    write_file(path, sealed(state.tensors, {"state": values}))


def read_state(path: Path) -> State:
    """Read what :func:`write_state` wrote.

    Raises:
        UsageError: there is no such file.
        CorruptFileError: it is truncated, damaged or something else.
        SqueezeEdgeError: another version wrote it.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file, so there is no run to go on with; begin one, without `resume`")
    fix = "it is truncated, damaged or no training state; begin again in another folder"
    if path.stat().st_size > MAX_BYTES:
        raise CorruptFileError(f"{path}: is larger than {MAX_BYTES} bytes; {fix}")
    try:
        tensors, metadata = parts(path.read_bytes())
        values = json.loads(metadata["state"])
        found = values.pop("format")
        if found == FORMAT and CHECKSUM not in metadata:
            raise ValueError("it has no checksum")
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{path}: {fix} ({error})") from error
    if found != FORMAT:
        raise SqueezeEdgeError(f"{path}: is of format {found}, this version reads {FORMAT}; begin again")
    return State(tensors, values)
