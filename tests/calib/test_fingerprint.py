"""Fingerprints: equal for equal pixels, other for anything else, and the same in every version."""

from __future__ import annotations

import numpy as np
import pytest

from squeezeedge.calib.fingerprint import fingerprints

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)


def test_equal_pixels_have_equal_fingerprints_however_they_lie_in_memory() -> None:
    expected = fingerprints(IMAGES)
    assert len(set(expected)) == 3 and all(len(text) == 64 for text in expected)
    assert fingerprints(np.asfortranarray(IMAGES)) == expected
    assert fingerprints(IMAGES[::-1]) == expected[::-1]
    assert fingerprints(IMAGES[:0]) == ()


def test_one_bit_and_the_shape_count() -> None:
    changed = IMAGES.copy()
    changed[1, 3, 4, 2] ^= 1
    assert [a == b for a, b in zip(fingerprints(IMAGES), fingerprints(changed), strict=True)] == [True, False, True]
    assert not set(fingerprints(IMAGES)) & set(fingerprints(IMAGES.reshape(3, 5, 4, 3)))


def test_files_that_hold_them_stay_valid() -> None:
    zeros = np.zeros((1, 2, 2, 3), np.uint8)
    assert fingerprints(zeros) == ("cf1b6f326fc3b219512c2412d624360643e9a01afccd831ab325b7cc3ab318e3",)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES.astype(np.int16)])
def test_other_arrays_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"they must be uint8 \[N, height, width, 3\]"):
        fingerprints(images)
