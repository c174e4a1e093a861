"""Random variation of training images with kornia; every random value follows from the given seed."""

from __future__ import annotations

import math
from functools import lru_cache

import kornia.augmentation as K
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.training.recipe import Augmentation

__all__ = ["RandomArea", "augment"]

ASPECT = (3 / 4, 4 / 3)
GREY = 0.45
"""What erased rectangles are filled with: about the mean of photographs."""
ATTEMPTS = 10


def augment(images: Tensor, augmentation: Augmentation, seed: int) -> Tensor:
    """Vary each image of a batch by its own random amounts.

    The state of the global random numbers is restored afterwards.

    Args:
        images: uint8 [N, 3, H, W].
        augmentation: the bounds; ``area`` is not used here, see :class:`RandomArea`.
        seed: decides everything.

    Returns:
        uint8 [N, 3, H, W].
    """
    pipeline = _pipeline(augmentation, images.shape[2], images.shape[3])
    if not pipeline or not len(images):
        return images
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        varied: Tensor = pipeline(images.float() / 255)
    return varied.mul(255).round_().clamp_(0, 255).to(torch.uint8)


class RandomArea:
    """A random crop of random area and aspect ratio (Szegedy et al., 2015), scaled to the network's input.

    Args:
        scale: brings the crop to its size; without a crop of its own.
        area: least share of the image's area.
        random: where the randomness comes from.
    """

    def __init__(self, scale: Preprocessing, area: float, random: np.random.Generator) -> None:
        self.scale = scale
        self.area = area
        self.random = random

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """One image -> uint8 [H, W, 3].

        Raises:
            UnsupportedError: as :class:`Preprocessing`.
        """
        return self.scale(image.crop(self._box(image.width, image.height)))

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(ATTEMPTS):
            area = width * height * self.random.uniform(self.area, 1)
            aspect = math.exp(self.random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(self.random.integers(width - w + 1)), int(self.random.integers(height - h + 1))
                return left, top, left + w, top + h
        side = min(width, height)  # too elongated: the centre
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side


@lru_cache(maxsize=16)
def _pipeline(augmentation: Augmentation, height: int, width: int) -> nn.Sequential:
    """The steps that do something, for float32 [N, 3, H, W] in 0..1."""
    steps: list[nn.Module] = []
    shift, zoom, jitter = augmentation.translation, augmentation.scale, augmentation.color_jitter
    if augmentation.rotation or shift or zoom:
        steps.append(
            K.RandomAffine(augmentation.rotation, (shift, shift) if shift else None, (1 - zoom, 1 + zoom), p=1.0)
        )
    if augmentation.padding:
        steps.append(K.RandomCrop((height, width), augmentation.padding))
    if augmentation.flip:
        steps.append(K.RandomHorizontalFlip())
    if jitter:
        steps.append(K.ColorJitter(jitter, jitter, jitter, p=1.0))
    if augmentation.erasing:
        steps.append(K.RandomErasing(value=GREY, p=augmentation.erasing))
    return nn.Sequential(*steps)
