"""Preprocessing: torchvision's pixels, and records that survive JSON or are refused."""

import json
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from squeezeedge.calib import preprocess
from squeezeedge.calib.preprocess import DIGITS, IMAGENET, Preprocessing
from squeezeedge.errors import CorruptFileError, UnsupportedError


def _noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


@given(height=st.integers(8, 60), width=st.integers(8, 60), crop=st.integers(1, 12), margin=st.integers(0, 5))
def test_same_pixels_as_torchvision(height: int, width: int, crop: int, margin: int) -> None:
    width = max(width, (height + 1) // 2)  # Pillow 13 begins with the columns of images that are higher
    image, resize = _noise(height, width), crop + margin
    # torchvision.transforms.v2.functional: _compute_resized_output_size and _center_crop_compute_crop_anchor
    short, long = sorted((height, width))
    scaled = int(resize * long / short)
    size = (resize, scaled) if width <= height else (scaled, resize)
    expected = image if short == resize else image.resize(size, Image.Resampling.BILINEAR)
    top, left = round((expected.height - crop) / 2.0), round((expected.width - crop) / 2.0)
    expected = expected.crop((left, top, left + crop, top + crop))
    np.testing.assert_array_equal(Preprocessing(size=(crop, crop), resize=resize)(image), np.asarray(expected))


def test_without_resize_the_whole_image_is_scaled() -> None:
    pixels = Preprocessing(size=(4, 6), resize=None)(_noise(10, 20))
    expected = _noise(10, 20).resize((6, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_rows_are_scaled_before_columns() -> None:
    """By any Pillow: the bytes between are 1, 3, 0, 2, 1, 2, whose mean is rounded to 1; else it is 2."""
    image = Image.fromarray(np.array([[1, 0], [3, 3], [0, 0], [2, 1], [2, 0], [3, 1]], np.uint8))
    assert Preprocessing((1, 1), None)(image).tolist() == [[[1, 1, 1]]]


def test_normalize() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    normalized = IMAGENET.normalize(images)
    assert normalized.dtype == np.float32 and normalized.flags.c_contiguous
    for channel in range(3):
        expected = (images[..., channel] / 255 - IMAGENET.mean[channel]) / IMAGENET.std[channel]
        np.testing.assert_allclose(normalized[:, channel], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1"])
def test_every_8_bit_mode_becomes_rgb(mode: str) -> None:
    pixels = replace(DIGITS, size=(5, 5))(_noise(8, 8).convert(mode))
    assert pixels.shape == (5, 5, 3) and pixels.dtype == np.uint8


def test_palette_with_transparency_warns_nothing() -> None:
    image = _noise(8, 8).convert("P")
    image.info["transparency"] = bytes(range(256))
    assert replace(DIGITS, size=(8, 8))(image).shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused(mode: str) -> None:
    with pytest.raises(UnsupportedError, match="8 bits"):
        DIGITS(Image.new(mode, (8, 8)))


def test_scaling_an_elongated_image_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAX_PIXELS", 100_000)
    with pytest.raises(UnsupportedError, match="600x1 pixels"):
        IMAGENET(Image.new("RGB", (600, 1)))


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    margin=st.none() | st.integers(0, 40),
    mean=st.tuples(*[st.floats(-2, 2)] * 3),
    std=st.tuples(*[st.floats(1e-3, 2)] * 3),
    interpolation=st.sampled_from(get_args(preprocess.Interpolation)),
    gray=st.booleans(),
)
def test_json_round_trip(
    size: tuple[int, int],
    margin: int | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    interpolation: preprocess.Interpolation,
    gray: bool,
) -> None:
    resize = None if margin is None else max(size) + margin
    original = Preprocessing(size, resize, mean, std, interpolation, gray)
    assert Preprocessing.from_json(json.loads(json.dumps(original.to_json()))) == original


@pytest.mark.parametrize(
    "change",
    [
        {"size": [224]},
        {"size": [224.0, 224]},
        {"size": [True, 1]},
        {"size": [10**9, 10**9]},
        {"size": "ab"},
        {"resize": 8},
        {"resize": "256"},
        {"mean": [0, 0]},
        {"mean": "abc"},
        {"mean": [math.nan, 0, 0]},
        {"std": [1, 0, 1]},
        {"std": [1, math.inf, 1]},
        {"std": [1, None, 1]},
        {"std": [1, 10**400, 1]},
        {"interpolation": "mitchell"},
        {"interpolation": []},
        {"channel_order": "bgr"},
        {"gamma": 1},
    ],
)
def test_a_wrong_record_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CorruptFileError, match="preprocessing"):
        Preprocessing.from_json(IMAGENET.to_json() | change)


@pytest.mark.parametrize("wrong", [{"size": (8,)}, {"mean": (0.5,)}, {"std": (1.0, 1.0)}])
def test_other_than_three_colors_and_two_sides_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .* must be . numbers"):
        Preprocessing(**wrong)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"size": [1, 1]}])
def test_an_incomplete_record_is_refused(data: object) -> None:
    with pytest.raises(CorruptFileError, match="its fields must be"):
        Preprocessing.from_json(data)
