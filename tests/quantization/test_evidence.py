"""What calibration images tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.quantization.evidence import evidence
from tests.quantization.networks import natural_images

IMAGES = natural_images(24, (40, 48))


def frames(count: int, noise: float) -> NDArray[np.uint8]:
    """Of a camera that stands still and sets its exposure."""
    rng = np.random.default_rng(0)
    made = [IMAGES[0] * rng.uniform(0.9, 1.1) + rng.normal(0, noise, IMAGES[0].shape) for _ in range(count)]
    return np.stack(made).clip(0, 255).astype(np.uint8)


def test_different_images_are_taken_as_they_are() -> None:
    seen = evidence(IMAGES)
    assert seen.pixels is IMAGES
    assert list(seen.remarks()) == []


def test_copies_are_left_out() -> None:
    seen = evidence(np.concatenate([IMAGES[:2], IMAGES[:1], IMAGES]))
    np.testing.assert_array_equal(seen.pixels, IMAGES)
    assert (seen.copies, seen.alike) == (3, 0)


@pytest.mark.parametrize("noise", [0.5, 8])
def test_frames_of_a_still_camera_are_one_scene(noise: float) -> None:
    seen = evidence(np.concatenate([frames(16, noise), IMAGES[1:2]]))
    assert (len(seen.pixels), seen.copies, seen.alike) == (2, 0, 15)
    (remark,) = seen.remarks()
    assert "the calibration images (17, 15 like others) show 2 different scenes" in remark


def test_blank_images_are_told() -> None:
    levels = np.full((16, 40, 48, 3), 128, np.uint8)
    levels[:8] = 0
    seen = evidence(levels)
    blank, few = seen.remarks()
    assert "16 of 16 calibration images are blank" in blank
    assert "(16, 14 of them copies of others, 1 like others) show 1 different scene:" in few
    mixed = evidence(np.concatenate([IMAGES, levels[:1]]))
    assert [text.split(":")[0] for text in mixed.remarks()] == [
        "1 of 25 calibration images are blank (every color within 8 of 255 levels)"
    ]


def test_no_images() -> None:
    assert list(evidence(IMAGES[:0]).remarks()) == []


def test_of_a_scene_in_several_exposures_not_the_darkest_is_kept() -> None:
    scene = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    exposures = np.stack([scene * share // 10 for share in (2, 5, 10, 9)]).astype(np.uint8)
    seen = evidence(exposures)
    assert seen.alike == 3 and np.array_equal(seen.pixels, exposures[2:3])
