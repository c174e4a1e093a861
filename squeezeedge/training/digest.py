"""A digest that distinguishes the images of one run from those of another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import AnyImage, EncodedImage

__all__ = ["digest"]

MAX_BYTES = 256 << 20


def digest(images: Sequence[AnyImage] | NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """SHA-256 in hex of labels, image files' names (without folders) and images: pixels, or files as they are.

    Beyond 256 MiB of images, a random sample with a fixed seed is taken.

    Args:
        images: any images, or pixels uint8 [N, h, w, 3].
        labels: int64 [N].

    Raises:
        SqueezeEdgeError: a file cannot be read.
    """
    found = hashlib.sha256(labels.astype("<i8").tobytes())
    for image in () if isinstance(images, np.ndarray) else images:
        if isinstance(image, EncodedImage):
            found.update((image.member or image.path).rpartition("/")[2].encode(errors="surrogateescape") + b"/")
    taken = 0
    for index in np.random.default_rng(0).permutation(len(labels)).tolist():
        content = _content(images[index])
        found.update(content)
        taken += len(content)
        if taken >= MAX_BYTES:
            break
    return found.hexdigest()


def _content(image: AnyImage) -> bytes:
    if isinstance(image, EncodedImage):
        return image.read()
    pixels = image if isinstance(image, np.ndarray) else np.asarray(image)
    return np.array(pixels.shape, "<u4").tobytes() + pixels.tobytes()
