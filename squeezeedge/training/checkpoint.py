"""Write a trained network as .safetensors with all that is needed to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import Module

from squeezeedge.calib.preprocess import PRESETS
from squeezeedge.files import write_file
from squeezeedge.training.recipe import Recipe

__all__ = ["write_checkpoint"]


def write_checkpoint(path: Path, module: Module, recipe: Recipe, labels: Sequence[str]) -> None:
    """Write weights (float16) and metadata: network, preprocessing, labels (class names) and recipe.

    The file appears whole or not at all; the same content gives the same bytes.

    Raises:
        SqueezeEdgeError: it cannot be written.
    """
    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in module.state_dict().items()}
    metadata = {
        "network": recipe.network,
        "preprocessing": json.dumps(PRESETS[recipe.preprocessing].to_json()),
        "labels": json.dumps(list(labels)),
        "recipe": json.dumps(recipe.to_json()),
    }
    write_file(path, _sorted_header(save(tensors, metadata)))


def _sorted_header(file: bytes) -> bytes:
    """A .safetensors file with its header's entries sorted, which the library writes in random order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + file[end:]
