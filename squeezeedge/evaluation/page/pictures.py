"""Small pictures of images, as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["MOST_BYTES", "SIDE", "Picture", "thumbnail"]

SIDE = 128
"""Pixels of the longer side at most."""
SHARP = 32
"""An image of no longer side is shown pixel by pixel."""
MOST_BYTES = 16 << 10
"""Of a picture, before it is written as text."""
QUALITIES = (85, 60, 30, 10)


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        uri: ``data:`` URI.
        width: in pixels.
        height: in pixels.
        sharp: whether its pixels are to be seen.
    """

    uri: str
    width: int
    height: int
    sharp: bool


def thumbnail(pixels: NDArray[np.uint8]) -> Picture:
    """A picture of an image, uint8 [height, width, 3] RGB, of at most :data:`MOST_BYTES`."""
    image = Image.fromarray(pixels)
    sharp = max(image.size) <= SHARP
    if sharp:
        return _picture(image, "png", _encoded(image, "png"), sharp)
    image.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        data = _encoded(image, "jpeg", quality=quality, optimize=True)
        if len(data) <= MOST_BYTES:
            break
    return _picture(image, "jpeg", data, sharp)


def _picture(image: Image.Image, kind: str, data: bytes, sharp: bool) -> Picture:
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *image.size, sharp)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
