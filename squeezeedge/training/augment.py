"""Random variation of training images."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from squeezeedge.training.recipe import Augmentation

__all__ = ["random_affine"]


def random_affine(
    images: NDArray[np.uint8], augmentation: Augmentation, generator: torch.Generator
) -> NDArray[np.uint8]:
    """Rotate, scale and shift each image by its own random amounts; what comes in from outside is black.

    Args:
        images: uint8 [N, H, W, 3].
        augmentation: the bounds.
        generator: where the randomness comes from.

    Returns:
        uint8 [N, H, W, 3].
    """
    count, height, width, _ = images.shape

    def draw(bound: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * bound

    angle = draw(math.radians(augmentation.rotation))
    zoom = 1 + draw(augmentation.scale)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # affine_grid's coordinates run from -1 to 1 along either side, so the rotation carries the aspect ratio.
    rows = [
        torch.stack([cos, -sin * height / width, 2 * draw(augmentation.translation)], 1),
        torch.stack([sin * width / height, cos, 2 * draw(augmentation.translation)], 1),
    ]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    result: NDArray[np.uint8] = moved.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return result
