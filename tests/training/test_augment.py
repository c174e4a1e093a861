"""Random variation of images: within its bounds, decided by the seed."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.training.augment import RandomArea, augment
from squeezeedge.training.recipe import Augmentation

ALL = Augmentation(padding=3, rotation=10, translation=0.1, scale=0.1, flip=True, color_jitter=0.3, erasing=0.5)


def _centroids(images: torch.Tensor) -> NDArray[np.float64]:
    """Rows and columns of the centres of mass, relative to the images' centre."""
    mass = images[:, 0].double().numpy()
    rows, columns = np.indices(mass.shape[1:])
    total = mass.sum((1, 2))
    centres = np.stack([(rows * mass).sum((1, 2)), (columns * mass).sum((1, 2))], 1) / total[:, None]
    offsets: NDArray[np.float64] = centres - (np.array(mass.shape[1:]) - 1) / 2
    return offsets


def _dots(row: int, column: int, height: int = 41, width: int = 81) -> torch.Tensor:
    images = torch.zeros(64, 3, height, width, dtype=torch.uint8)
    images[:, :, row - 1 : row + 2, column - 1 : column + 2] = 255
    return images


def test_without_augmentation_nothing_changes() -> None:
    images = torch.randint(0, 256, (3, 3, 9, 13), dtype=torch.uint8)
    assert torch.equal(augment(images, Augmentation(area=0.5), 0), images)
    assert len(augment(images[:0], ALL, 0)) == 0


def test_rotation_keeps_the_distance_from_the_centre() -> None:
    offsets = _centroids(augment(_dots(20, 52), Augmentation(rotation=45), 0))
    np.testing.assert_allclose(np.hypot(*offsets.T), 12, atol=0.2)
    angles = np.degrees(np.arctan2(offsets[:, 0], offsets[:, 1]))
    assert angles.min() < -20 and angles.max() > 20 and np.abs(angles).max() <= 46


def test_translation_is_a_share_of_each_side() -> None:
    offsets = np.abs(_centroids(augment(_dots(20, 40), Augmentation(translation=0.2), 0)))
    assert 0.1 * 41 < offsets[:, 0].max() <= 0.2 * 41 + 0.1
    assert 0.1 * 81 < offsets[:, 1].max() <= 0.2 * 81 + 0.1


def test_scale_changes_the_size() -> None:
    offsets = _centroids(augment(_dots(20, 50), Augmentation(scale=0.3), 0))[:, 1]
    assert 7 * 0.97 <= offsets.min() < 9 and 11 < offsets.max() <= 13 * 1.03


def test_padding_moves_by_whole_pixels() -> None:
    offsets = _centroids(augment(_dots(20, 40), Augmentation(padding=4), 0))
    np.testing.assert_allclose(offsets, offsets.round(), atol=1e-9)
    assert np.abs(offsets).max() == 4 and len(np.unique(offsets[:, 0])) == 9


def test_flip_mirrors_about_half() -> None:
    offsets = _centroids(augment(_dots(20, 50), Augmentation(flip=True), 0))
    assert set(offsets[:, 1].round(6)) == {-10, 10} and 16 < (offsets[:, 1] > 0).sum() < 48


def test_color_jitter_changes_colours_only() -> None:
    images = torch.full((16, 3, 8, 8), 100, dtype=torch.uint8)
    varied = augment(images, Augmentation(color_jitter=0.4), 0)
    assert len(set(varied[:, 0, 0, 0].tolist())) > 8
    assert torch.equal(varied, varied[:, :, :1, :1].expand_as(varied)), "each image is still of one colour"


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_erasing_hits_its_share_of_the_images(share: float) -> None:
    images = torch.full((256, 3, 16, 16), 255, dtype=torch.uint8)
    erased = (augment(images, Augmentation(erasing=share), 0) != 255).flatten(1)
    assert abs(erased.any(1).float().mean() - share) < 0.1
    assert erased.float().mean(1).max() < 0.4


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation) if field.name != "area"])
def test_the_seed_decides(name: str) -> None:
    images = torch.randint(0, 256, (16, 3, 24, 24), dtype=torch.uint8)
    one = Augmentation(**{name: getattr(ALL, name)})
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augment(images, one, 7)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    torch.manual_seed(2)
    assert torch.equal(augment(images, one, 7), first)
    assert not torch.equal(augment(images, one, 8), first) and first.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(40, 60), (200, 10)])
def test_a_random_area_is_a_part_of_the_image(shape: tuple[int, int]) -> None:
    rows, columns = np.indices(shape)
    image = Image.fromarray(np.stack([rows, columns, 0 * rows], 2).astype(np.uint8))
    crop = RandomArea(Preprocessing((16, 16), None), 0.3, np.random.default_rng(0))
    for _ in range(50):
        pixels = crop(image).astype(int)
        assert pixels.shape == (16, 16, 3) and (np.diff(pixels[:, 0, 0]) >= 0).all()
        heights, widths = np.ptp(pixels[..., 0]) + 1, np.ptp(pixels[..., 1]) + 1
        if shape == (40, 60):
            assert heights * widths >= 0.2 * 40 * 60


def test_a_random_area_of_sixteen_bits_is_refused() -> None:
    crop = RandomArea(Preprocessing((8, 8), None), 0.5, np.random.default_rng(0))
    with pytest.raises(UnsupportedError, match="8 bits"):
        crop(Image.fromarray(np.zeros((9, 9), np.uint16)))
