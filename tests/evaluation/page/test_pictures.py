"""Thumbnails: what they show, and how large they are."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from squeezeedge.evaluation.page.pictures import MOST_BYTES, SIDE, Picture, thumbnail


def decoded(picture: Picture) -> Image.Image:
    kind, _, data = picture.uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_small_images_keep_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    picture = thumbnail(pixels)
    assert (picture.width, picture.height, picture.sharp) == (6, 8, True)
    assert np.array_equal(np.asarray(decoded(picture)), pixels)


def test_large_images_are_scaled_and_bounded() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 800, 3), np.uint8)  # noise compresses worst
    picture = thumbnail(pixels)
    assert (picture.width, picture.height, picture.sharp) == (SIDE, SIDE // 2, False)
    with decoded(picture) as image:
        assert image.size == (SIDE, SIDE // 2)
    assert len(picture.uri) < 1.4 * MOST_BYTES
