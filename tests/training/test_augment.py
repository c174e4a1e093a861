"""Random affine maps of uint8 images."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from squeezeedge.training.augment import random_affine
from squeezeedge.training.recipe import Augmentation


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _centroid(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    mass = image[..., 0].astype(np.float64)
    rows, columns = np.indices(mass.shape)
    return np.array([(rows * mass).sum(), (columns * mass).sum()]) / mass.sum()


def _dots(count: int, height: int, width: int, row: int, column: int) -> NDArray[np.uint8]:
    images = np.zeros((count, height, width, 3), np.uint8)
    images[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return images


def test_without_augmentation_nothing_changes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 13, 3)).astype(np.uint8)
    result = random_affine(images, Augmentation(0, 0, 0), _generator())
    assert result.dtype == np.uint8 and result.flags.c_contiguous
    np.testing.assert_array_equal(result, images)


def test_rotation_keeps_the_distance_from_the_centre_in_pixels() -> None:
    """On an image that is not square, which a rotation in affine_grid's coordinates would distort."""
    images = _dots(64, 41, 81, row=20, column=52)
    moved = random_affine(images, Augmentation(45, 0, 0), _generator())
    offsets = np.array([_centroid(image) for image in moved]) - [20, 40]
    np.testing.assert_allclose(np.hypot(*offsets.T), 12, atol=0.2)
    angles = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 1]))
    assert angles.min() < -20 and angles.max() > 20 and np.abs(angles).max() <= 46


def test_translation_is_a_share_of_each_side() -> None:
    moved = random_affine(_dots(64, 41, 81, row=20, column=40), Augmentation(0, 0.2, 0), _generator())
    offsets = np.abs(np.array([_centroid(image) for image in moved]) - [20, 40])
    assert 0.1 * 41 < offsets[:, 0].max() <= 0.2 * 41 + 0.1
    assert 0.1 * 81 < offsets[:, 1].max() <= 0.2 * 81 + 0.1


def test_scale_changes_the_size() -> None:
    moved = random_affine(_dots(64, 41, 41, row=20, column=30), Augmentation(0, 0, 0.3), _generator())
    offsets = np.array([_centroid(image)[1] for image in moved]) - 20
    assert 7 * 0.97 <= offsets.min() < 9 and 11 < offsets.max() <= 13 * 1.03


@pytest.mark.parametrize("seed", [0, 1])
def test_the_generator_decides(seed: int) -> None:
    images, augmentation = _dots(8, 32, 32, 16, 20), Augmentation(10, 0.1, 0.1)
    first = random_affine(images, augmentation, _generator(seed))
    np.testing.assert_array_equal(first, random_affine(images, augmentation, _generator(seed)))
    assert not np.array_equal(first, random_affine(images, augmentation, _generator(seed + 10)))
    assert not np.array_equal(first[0], first[1])
