"""Calibration images that add nothing new are left out, and a remark says so.

A copy of an image adds no information. The frames of a camera that stands still add hardly more than one of them does.
The number of images decides how far other images may exceed the values seen (:mod:`ranges`) and how far weights may
move (:mod:`compensate`), so many similar images would be worse than one.
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
"""Side in pixels of the thumbnails by which scenes are told apart; they average noise out."""

SAME_SCENE = 0.12
"""Root mean square difference of two thumbnails of mean 0 and variance 1 up to which they show one scene."""

BLANK = 8
"""An image shows nothing if no color varies by more than this many levels of 255."""

STRONGER = 1.25
"""An image replaces the one kept of its scene if its contrast is larger by this factor: its values reach further."""

FEW = 8
"""Images below which the ranges are a guess."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Calibration images that tell something new.

    Attributes:
        pixels: uint8 [n, height, width, 3], each of another scene.
        copies: how many images were left out because they are equal to another one.
        alike: how many because they show the scene of another one.
        blank: how many of all images show nothing.
    """

    pixels: NDArray[np.uint8]
    copies: int
    alike: int
    blank: int

    def remarks(self) -> Iterator[str]:
        """What people should know: sentences without an end."""
        scenes, total = len(self.pixels), len(self.pixels) + self.copies + self.alike
        if self.blank:
            yield (
                f"{self.blank} of {total} calibration images are blank (every color within {BLANK} of 255 levels): "
                "they tell nothing of the values that the network computes on others"
            )
        if 0 < scenes < FEW:
            copies = f", {self.copies} of them copies of others" if self.copies else ""
            alike = f", {self.alike} like others" if self.alike else ""
            yield (
                f"the calibration images ({total}{copies}{alike}) show {scenes} different "
                f"scene{'s' * (scenes > 1)}: the ranges of values are a guess, and the accuracy may be low; calibrate "
                "on images as different as those to come (64 are usually enough)"
            )


def evidence(pixels: NDArray[np.uint8]) -> Evidence:
    """Keep one image of each scene: the first, or one of more contrast. Blank images count as one scene.

    Args:
        pixels: uint8 [N, height, width, 3].
    """
    first = sorted({image.tobytes(): index for index, image in reversed(list(enumerate(pixels)))}.values())
    blank = (np.ptp(pixels, (1, 2)) <= BLANK).all(1)
    kept: list[int] = []
    thumbnails: list[NDArray[np.float64]] = []
    for index in first:
        thumbnail = _thumbnail(pixels[index], bool(blank[index]))
        alike = [at for at, other in enumerate(thumbnails) if _difference(thumbnail, other) <= SAME_SCENE]
        if not alike:
            kept.append(index)
            thumbnails.append(thumbnail)
        elif pixels[index].std() > STRONGER * pixels[kept[alike[0]]].std():
            kept[alike[0]] = index
    different = pixels if len(kept) == len(pixels) else pixels[kept]
    return Evidence(different, len(pixels) - len(first), len(first) - len(kept), int(blank.sum()))


def _thumbnail(image: NDArray[np.uint8], blank: bool) -> NDArray[np.float64]:
    side = min(THUMBNAIL, *image.shape[:2])
    small = F.adaptive_avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).double(), side).numpy()
    return np.zeros_like(small) if blank else (small - small.mean()) / max(small.std(), 1e-9)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(first - second).mean()))
