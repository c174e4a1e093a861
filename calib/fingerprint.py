"""Fingerprints of images: a hash of the preprocessed pixels, whatever file they came from."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["fingerprints"]


def fingerprints(images: NDArray[np.uint8]) -> tuple[str, ...]:
    """One fingerprint an image: equal where the pixels and the size are equal, and nowhere else.

    Args:
        images: uint8 [N, H, W, 3], preprocessed.

    Returns:
        N times the SHA-256 in hex of the image's shape (three little-endian uint32) and its pixels in C order.

    Raises:
        ValueError: the images are of another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; they must be uint8 [N, height, width, 3]")
    shape = np.array(images.shape[1:], "<u4").tobytes()
    return tuple(hashlib.sha256(shape + image.tobytes()).hexdigest() for image in images)
