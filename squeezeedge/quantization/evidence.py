"""What calibration images tell: which of them are different, and what people should know of them.

A copy of an image tells nothing that the image does not, and the frames of a camera that stands still hardly more than
one of them. How far the values of other images may exceed those seen (:mod:`ranges`) is learned from how far images
differ; so copies are left out, and images of one scene count as one there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

__all__ = ["Evidence", "evidence"]

THUMBNAIL = 8
"""Side in pixels of what scenes are told apart by: noise is averaged out."""

SAME_SCENE = 0.15
"""Root mean square difference of two thumbnails of mean 0 and variance 1 up to which they show one scene."""

BLANK = 8
"""Most levels of 255 between the darkest and the brightest value of a color for an image to show nothing."""

FEW = 8
"""Scenes below which the ranges are a guess."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Calibration images without copies.

    Attributes:
        pixels: uint8 [n, height, width, 3].
        scenes: int64 [n], number of the scene that each shows, from 0; blank images are one scene.
        copies: how many images were left out.
        blank: how many of all images show nothing.
    """

    pixels: NDArray[np.uint8]
    scenes: NDArray[np.int64]
    copies: int
    blank: int

    def remarks(self) -> Iterator[str]:
        """What people should know: sentences without an end."""
        total, scenes = len(self.pixels) + self.copies, int(self.scenes.max(initial=-1)) + 1
        if self.blank:
            yield (
                f"{self.blank} of {total} calibration images are blank (every color within {BLANK} of 255 levels): "
                "they tell nothing of the values that the network computes on others"
            )
        if 0 < scenes < FEW:
            copies = f", {self.copies} of them copies of others" if self.copies else ""
            yield (
                f"the calibration images ({total}{copies}) show {scenes} different scene{'s' * (scenes > 1)}: the "
                "ranges of values are a guess, and the accuracy may be low; calibrate on images as different as those "
                "to come (64 are usually enough)"
            )


def evidence(pixels: NDArray[np.uint8]) -> Evidence:
    """Look at calibration images.

    Args:
        pixels: uint8 [N, height, width, 3].
    """
    first = sorted({image.tobytes(): index for index, image in reversed(list(enumerate(pixels)))}.values())
    blank = (np.ptp(pixels, (1, 2)) <= BLANK).all(1)
    different = pixels if len(first) == len(pixels) else pixels[first]
    return Evidence(different, _scenes(different, blank[first]), len(pixels) - len(different), int(blank.sum()))


def _scenes(pixels: NDArray[np.uint8], blank: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of each image's scene: that of the first image before that is alike, else a new one."""
    side = min(THUMBNAIL, *pixels.shape[1:3])
    scenes = np.zeros(len(pixels), np.int64)
    seen: list[NDArray[np.float64]] = []
    for index, image in enumerate(pixels):
        small = F.adaptive_avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).double(), side).numpy()
        thumbnail = np.zeros_like(small) if blank[index] else (small - small.mean()) / max(small.std(), 1e-9)
        known = (number for number, other in enumerate(seen) if _difference(thumbnail, other) <= SAME_SCENE)
        scenes[index] = next(known, len(seen))
        if scenes[index] == len(seen):
            seen.append(thumbnail)
    return scenes


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(first - second).mean()))
