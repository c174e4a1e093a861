"""The input of a checkpoint's network: find its stated preprocessing, and rewrite weights for another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from squeezeedge.calib.preprocess import PRESETS, Preprocessing
from squeezeedge.calib.statement import ASSUMED, Resolved, Statement, agreed, of_preset, resolve
from squeezeedge.calib.statement_files import beside, in_metadata
from squeezeedge.networks.registry import NETWORKS, is_published

if TYPE_CHECKING:
    from torch.nn import Conv2d, Module

    from squeezeedge.networks.checkpoints import Checkpoint

__all__ = ["read_rgb", "renormalize", "stated_of"]


def stated_of(
    path: Path,
    name: str,
    checkpoint: Checkpoint,
    sha256: str = "",
    given: Statement | None = None,
    size: int | None = None,
) -> Resolved:
    """The preprocessing of a checkpoint.

    Args:
        path: the file.
        name: of the network.
        checkpoint: what the file holds.
        sha256: of the file, in hex; of a published one the preprocessing is known.
        given: what is stated by others, which goes first.
        size: height and width that are asked for, in pixels.

    Raises:
        SqueezeEdgeError: what is stated is contradictory, not possible or damaged.
    """
    given = given or Statement()
    sources = [*in_metadata(checkpoint.metadata, path, "metadata"), *beside(path)]
    stated = given.over(agreed(sources, given, str(path)))
    published = is_published(name, sha256)
    base = of_preset(PRESETS[NETWORKS[name].preprocessing], f"published weights of {name}" if published else ASSUMED)
    return resolve(stated, base, size=size, name=str(path))


def read_rgb(module: Module, size: tuple[int, int]) -> None:
    """Rewrite the weights of a network that reads BGR images for RGB ones, exactly.

    Args:
        module: changed in place.
        size: (height, width) of an image that it takes, in pixels.
    """
    import torch

    with torch.no_grad():
        for layer in _first_layers(module, size):
            layer.weight.copy_(layer.weight.flip(1))


def renormalize(module: Module, size: tuple[int, int], source: Preprocessing, target: Preprocessing) -> None:
    """Rewrite the weights of a network for images that are normalized in another way.

    This is exact except at padding of the first convolutions: it stands for the mean pixel, which changes.

    Args:
        module: changed in place; it reads RGB.
        size: (height, width) of an image that it takes, in pixels.
        source: normalization of the images that it was trained on.
        target: normalization of the images that it will get.
    """
    import torch

    if (source.mean, source.std) == (target.mean, target.std):
        return
    before, after = (np.array([one.mean, one.std]) for one in (source, target))
    factor = torch.from_numpy(after[1] / before[1])[:, None, None]
    shift = torch.from_numpy((after[0] - before[0]) / before[1])[:, None, None]
    with torch.no_grad():
        for layer in _first_layers(module, size):
            weight = layer.weight.double()
            assert layer.bias is not None
            layer.bias.add_((weight * shift).sum((1, 2, 3)).to(layer.bias.dtype))
            layer.weight.copy_(weight * factor)


def _first_layers(module: Module, size: tuple[int, int]) -> list[Conv2d]:
    """The convolutions that read the image; all networks here read it by nothing else."""
    import torch

    found: list[Conv2d] = []
    image = torch.zeros(1, 3, *size)
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: found.append(layer) if inputs[0] is image else None)
        for layer in module.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    try:
        module(image)
    finally:
        for hook in hooks:
            hook.remove()
    assert found and all(layer.groups == 1 for layer in found)
    return found
