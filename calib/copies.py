"""Which images are copies of one another: files of the same bytes, or equal pixels. Nothing is decoded."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.decode import AnyImage, EncodedImage
from squeezeedge.errors import CorruptFileError

__all__ = ["originals"]

GLIMPSE = 4096
"""Bytes in the middle of a file. Files of one size are compared by them before any is read whole."""


def originals(images: Sequence[AnyImage]) -> NDArray[np.int64]:
    """For each image, the first image that it is a copy of; itself if there is none before it.

    Files are compared by size, then by some bytes in the middle; only files that agree in both are read whole. A file,
    pixels and a PIL image are never copies of each other, nor are two PIL images.

    Args:
        images: any images.

    Returns:
        int64 [N], indices of ``images``.

    Raises:
        SqueezeEdgeError: a file cannot be read.
    """
    first = np.arange(len(images))
    alike: list[list[int]] = [first.tolist()]
    for look in (_size, _glimpse, _content):
        groups, alike = alike, []
        for group in groups:
            same: dict[Hashable, list[int]] = defaultdict(list)
            for index in group:
                same[_looked(look, images[index])].append(index)
            alike += [indices for indices in same.values() if len(indices) > 1]
    for group in alike:
        first[group] = group[0]
    return first


def _looked(look: Callable[[AnyImage], Hashable], image: AnyImage) -> Hashable:
    try:
        return look(image)
    except OSError as error:
        raise CorruptFileError(f"{image}: cannot be read: {error.strerror or error}") from error


def _size(image: AnyImage) -> Hashable:
    if isinstance(image, np.ndarray):
        return image.shape
    return _bytes(image) if isinstance(image, EncodedImage) else ("image", id(image))


def _glimpse(image: AnyImage) -> Hashable:
    if isinstance(image, np.ndarray):
        return image[len(image) // 2 :][:1].tobytes()
    if not isinstance(image, EncodedImage):
        return None
    with open(image.path, "rb", buffering=0) as file:  # noqa: PTH123  (as in EncodedImage)
        file.seek(image.offset + max(0, _bytes(image) - GLIMPSE) // 2)
        return hash(file.read(GLIMPSE))


def _content(image: AnyImage) -> Hashable:
    if isinstance(image, np.ndarray):
        return hashlib.sha256(image.tobytes()).digest()
    return hashlib.sha256(image.read()).digest() if isinstance(image, EncodedImage) else None


def _bytes(image: EncodedImage) -> int:
    return os.stat(image.path).st_size if image.size is None else image.size  # noqa: PTH116  (as in EncodedImage)
