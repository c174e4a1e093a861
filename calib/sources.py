"""Images in any form -> a data set. Only this module tells the forms apart."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.datasets import Dataset, open_dataset
from squeezeedge.calib.decode import AnyImage, EncodedImage
from squeezeedge.calib.files import SUFFIXES
from squeezeedge.errors import SqueezeEdgeError, UsageError, counted

__all__ = ["ImageSource", "image_stream", "open_images"]

ImageSource: TypeAlias = str | os.PathLike[str] | Dataset | AnyImage | Iterable[str | os.PathLike[str] | AnyImage]
"""Images in any form.

- a path: an image file, or data as for :func:`squeezeedge.calib.datasets.open_dataset` (a folder, a .tar, an .npz,
  CIFAR-10, or ``digits``);
- pixels: uint8 [N, h, w, 3] or, of one image, [h, w, 3], RGB;
- a PIL image;
- an iterable of paths of image files, PIL images or pixels uint8 [h, w, 3], each of its own size.
"""


def open_images(
    images: ImageSource,
    split: str | None = None,
    classes: Path | None = None,
    at_most: int | None = None,
    labelled: bool = True,
    names: Collection[str] = (),
) -> Dataset:
    """Make a data set of images in any form; nothing is decoded.

    Args:
        images: see :data:`ImageSource`.
        split: of data that comes in parts, see :func:`squeezeedge.calib.datasets.open_dataset`.
        classes: class list, for data that is named by its path.
        at_most: take no more than so many images from an iterator.
        labelled: of data that is named by its path, see :func:`squeezeedge.calib.datasets.open_dataset`.
        names: likewise.

    Raises:
        UsageError: no such file, or something else than images.
        SqueezeEdgeError: there is no image, or the data set is damaged.
    """
    if isinstance(images, Dataset):
        return images
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            return Dataset(str(images), (_encoded(path),))
        return open_dataset(os.fspath(images), split, classes, labelled, names)
    if isinstance(images, np.ndarray):
        pixels = images[None] if images.ndim == 3 else images
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape[1:3]:
            raise UsageError(
                f"images are {images.dtype} {list(images.shape)}; they must be uint8 [N, height, width, 3], RGB"
            )
        return _in_memory(pixels)
    if isinstance(images, Image.Image | EncodedImage):
        return _in_memory((images,))
    if not isinstance(images, Iterable):
        raise UsageError(
            f"images are a {type(images).__name__}; they must be a path, an array, or an iterable of these"
        )
    given = islice(images, at_most) if _is_stream(images) else images
    return _in_memory(tuple(_one(image, position) for position, image in enumerate(given)))


def image_stream(images: ImageSource) -> Iterator[AnyImage]:
    """The images one after the other, still encoded; of an iterator, each is taken when it is asked for.

    Raises:
        UsageError, SqueezeEdgeError: as :func:`open_images`.
    """
    if _is_stream(images):
        return (_one(image, position) for position, image in enumerate(images))
    return iter(open_images(images).images)


def _is_stream(images: ImageSource) -> TypeGuard[Iterable[object]]:
    """Whether the images come one by one, from an iterator, which can be read only once."""
    return isinstance(images, Iterable) and not isinstance(images, Sequence | np.ndarray | str | os.PathLike)


def _in_memory(images: Sequence[AnyImage] | NDArray[np.uint8]) -> Dataset:
    if not len(images):
        raise SqueezeEdgeError("no image was given")
    return Dataset(counted(len(images), "given image"), images)


def _one(image: object, position: int) -> AnyImage:
    if isinstance(image, str | os.PathLike):
        return _encoded(Path(image))
    if isinstance(image, Image.Image | EncodedImage):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape:
            return image
        raise UsageError(
            f"image {position} is {image.dtype} {list(image.shape)}; it must be uint8 [height, width, 3], RGB"
        )
    raise UsageError(f"image {position} is a {type(image).__name__}; it must be a path, a PIL image or a uint8 array")


def _encoded(path: Path) -> EncodedImage:
    if not path.is_file():
        raise UsageError(f"{path}: no such image file")
    return EncodedImage(str(path))
